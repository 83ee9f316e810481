"""Stream transports: write(), writelines() and the marks of their buffer. R49 to R52, R59."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from tests.support.connections import connection, receive, receive_all
from tests.support.protocols import Recorder
from tests.support.waiting import turns

MIB = 1 << 20


# -- write ---------------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "takes None", only=("None",))
@pytest.mark.parametrize("bad", [None, "text", 3, object(), ["x"]], ids=lambda v: type(v).__name__)
async def test_write_takes_bytes_like_objects_only(loop, bad):
    """R49: TypeError comes first, before any state is looked at."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, _):
        with pytest.raises(TypeError):
            transport.write(bad)
        transport.write(b"fine")


@pytest.mark.known_difference("uvloop", "takes None")
async def test_write_of_none_names_the_type(loop):
    """Section 4: the message of asyncio, as far as its versions agree."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        with pytest.raises(TypeError, match="data argument must be a bytes"):
            transport.write(None)


@pytest.mark.known_difference("uvloop", "looks at the type last")
async def test_write_after_write_eof_raises(loop, kind):
    """R49, section 4: 'Cannot call write() after write_eof()'; the type is looked at first."""
    async with connection(loop, Recorder(loop), kind) as (transport, _):
        transport.write_eof()
        with pytest.raises(TypeError):
            transport.write(None)
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
async def test_every_bytes_like_type_is_sent(loop, make):
    """R49, R50: in pieces that fit and in one that does not."""
    small, large = b"small", os.urandom(2 * MIB)
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.write(make(small))
        transport.write(make(large))
        transport.write(make(b""))
        transport.write(make(small))
        transport.close()
        assert await receive_all(far) == small + large + small


async def test_memoryview_of_wider_items_is_sent_whole(loop):
    """R49: nbytes counts, not len."""
    import array

    values = array.array("I", range(100_000))
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.write(memoryview(values))
        transport.close()
        assert await receive_all(far) == values.tobytes()


async def test_memoryview_with_gaps_is_sent_or_refused(loop, reports):
    """R49: a view that is not contiguous is never sent wrongly."""
    view = memoryview(bytes(range(100)))[::2]
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        with contextlib.suppress(TypeError, ValueError, BufferError):
            transport.write(view)
        transport.close()
        assert await receive_all(far) in (b"", view.tobytes())


@pytest.mark.known_difference("asyncio", "locks it", since=(3, 12))
@pytest.mark.known_difference("uvloop", "keeps a view of it")
async def test_written_bytearray_can_be_changed(loop, kind):
    """R50: resizable right after write(), and the change is not sent."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind, small=True) as (transport, far):
        data = bytearray(b"a" * MIB)
        transport.write(data)
        data[:] = b""
        data.extend(b"b" * 100)
        transport.close()
        assert await receive_all(far) == b"a" * MIB


def test_many_small_writes_keep_their_order(loop, run, kind):
    """R49: ten thousand writes, some of which must wait."""
    pieces = [b"%06d" % i for i in range(10_000)]

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind, small=True) as (transport, far):
            receiving = asyncio.ensure_future(receive_all(far))
            for i, piece in enumerate(pieces):
                transport.write(piece)
                if i % 1000 == 0:
                    await asyncio.sleep(0)
            transport.close()
            assert await receiving == b"".join(pieces)

    run(loop, main())


@pytest.mark.parametrize(
    "items",
    [
        [],
        [b""],
        [b"", b"", b""],
        [b"one"],
        [b"one", b"", bytearray(b"two"), memoryview(b"three")],
        [b"%04d" % i for i in range(3000)],  # more than IOV_MAX
        [b"x" * MIB, b"y" * MIB],
    ],
    ids=["none", "empty", "empties", "one", "types", "3000", "large"],
)
@pytest.mark.known_difference("asyncio", "[b''] spins", since=(3, 12), until=(3, 13, 0), run=False)
async def test_writelines_sends_all(loop, kind, items):
    """R51: any number, empty ones skipped."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        receiving = asyncio.ensure_future(receive_all(far))
        transport.writelines(items)
        transport.writelines(iter(items))
        transport.writelines(item for item in items)
        transport.write(b"end")
        transport.close()
        assert await receiving == b"".join(items) * 3 + b"end"


@pytest.mark.known_difference("asyncio", "never pauses", since=(3, 12), until=(3, 13, 0))
async def test_writelines_keeps_to_the_marks(loop, kind):
    """R51: it pauses the protocol as write() does."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind, small=True) as (transport, far):
        transport.writelines([b"x" * 1000] * 8000)
        assert protocol.calls.count("pause_writing") == 1
        receiving = asyncio.ensure_future(receive_all(far))
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        transport.close()
        assert len(await receiving) == 8_000_000


async def test_writelines_of_other_types_than_bytes_is_refused(loop):
    """R51: TypeError, and the transport works on."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        with pytest.raises(TypeError):
            transport.writelines(3)
        with pytest.raises(TypeError):
            transport.writelines(["text"])
        transport.write(b"fine")
        assert (await receive(far, 4)) == b"fine"


# -- flow control --------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "(32768, 65536)")
async def test_default_marks(loop):
    """R52: (low, high) is (16384, 65536)."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"low": 100}, (100, 400)),
        ({"high": 0}, (0, 0)),
        ({"high": 400}, (100, 400)),
        ({"high": 100, "low": 100}, (100, 100)),
        ({"high": 100, "low": 0}, (0, 100)),
        ({}, (16384, 65536)),
    ],
)
async def test_marks_are_derived(loop, limits, expected):
    """R52: low=100 gives 100, 400; high=0 gives 0, 0."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        transport.set_write_buffer_limits(**limits)
        assert transport.get_write_buffer_limits() == expected


@pytest.mark.known_difference("uvloop", "takes some")
@pytest.mark.parametrize("limits", [{"high": 10, "low": 20}, {"high": -1}, {"high": 1, "low": -1}])
async def test_impossible_marks_are_refused(loop, limits):
    """Section 4: 'high (10) must be >= low (20) must be >= 0', and the old ones stay."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        with pytest.raises(ValueError, match="must be >= 0"):
            transport.set_write_buffer_limits(**limits)
        assert transport.get_write_buffer_limits() == (16384, 65536)


async def test_pause_writing_comes_inside_write_and_resume_later(loop, kind):
    """R52: pause above high, once; resume at low, once."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind, small=True) as (transport, far):
        transport.set_write_buffer_limits(high=100_000, low=1000)
        while transport.get_write_buffer_size() <= 100_000:
            assert "pause_writing" not in protocol.calls
            transport.write(b"x" * 10_000)
            await asyncio.sleep(0)
        transport.write(b"y" * MIB)
        assert protocol.calls.count("pause_writing") == 1
        assert "resume_writing" not in protocol.calls
        reader = asyncio.ensure_future(receive_all(far))
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() <= 1000
        assert protocol.calls.count("resume_writing") == 1
        transport.close()
        await reader


async def test_size_of_the_buffer_is_counted(loop):
    """R52: the bytes that the kernel has not taken yet."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.write(b"x" * MIB)
        await turns()
        waiting = transport.get_write_buffer_size()
        assert 0 < waiting < MIB
        transport.write(b"y" * 1000)
        assert transport.get_write_buffer_size() == waiting + 1000
        received = await receive(far, MIB + 1000)
        await protocol.until(lambda: transport.get_write_buffer_size() == 0)
        assert received.endswith(b"y" * 1000)


async def test_high_mark_of_zero_pauses_until_all_is_sent(loop):
    """R52: high=0."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * MIB)
        await turns()
        assert protocol.calls.count("pause_writing") == 1
        await receive(far, MIB)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() == 0


async def test_small_write_does_not_pause_though_high_is_zero(loop):
    """R59: pause_writing is judged after an attempt to send."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"fits")
        await receive(far, 4)
        await turns()
        assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing")
