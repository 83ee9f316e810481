"""Stream transports: bytes between one connected socket and one protocol. R44 to R59, R61, R90."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import socket
import struct
import sys
from asyncio import transports

import pytest
from recording import (
    BufferedRecorder,
    Recorder,
    connection,
    receive,
    receive_all,
    reset,
    send,
    small_buffers,
    socket_pair,
    turns,
)

MIB = 1 << 20


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


@pytest.fixture(params=[Recorder, BufferedRecorder], ids=["protocol", "buffered"])
def protocol_class(request):
    return request.param


# -- types ---------------------------------------------------------------------------------------


def test_fresh_transport_is_open_and_reads(loop, run):
    """R44: what a transport says of itself at the beginning."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            assert not transport.is_closing()
            assert transport.is_reading()
            assert transport.get_write_buffer_size() == 0
            assert repr(transport)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "has transport types of its own")
def test_transport_is_what_the_sendfile_fallback_takes(loop, run):
    """R44: isinstance of asyncio.Transport and of transports._FlowControlMixin."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, transports._FlowControlMixin)

    run(loop, main())


# -- life ----------------------------------------------------------------------------------------


def test_connection_made_comes_before_the_waiter_and_before_data(loop, run, kind, protocol_class):
    """R45: connection_made, then reading, then create_connection returns."""

    async def main():
        near, far = socket_pair(kind)
        with far:
            far.sendall(b"early")
            protocol = protocol_class(loop)
            transport, returned = await loop.create_connection(lambda: protocol, sock=near)
            assert returned is protocol
            assert protocol.calls[0] == "connection_made"
            assert protocol.transport is transport
            assert await protocol.received(5) == b"early"
            transport.close()
            assert await protocol.closed() is None

    run(loop, main())


def test_data_goes_both_ways(loop, run, kind, protocol_class):
    """R45: a first exchange."""

    async def main():
        protocol = protocol_class(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            await send(far, b"question")
            assert await protocol.received(8) == b"question"
            transport.write(b"answer")
            assert await receive(far, 6) == b"answer"
            transport.close()
            assert await receive_all(far) == b""
            assert await protocol.closed() is None

    run(loop, main())


@pytest.mark.parametrize("method", ["close", "abort"])
def test_connection_lost_is_queued_and_comes_once(loop, run, kind, method):
    """R45: never inside close() or abort(), and nothing after it."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            far.sendall(b"never delivered")
            getattr(transport, method)()
            assert "connection_lost" not in protocol.calls
            assert transport.is_closing()
            getattr(transport, method)()
            assert await protocol.closed() is None
            await turns()
            assert protocol.calls.count("connection_lost") == 1
            assert protocol.calls[-1] == "connection_lost"

    run(loop, main())


def test_no_data_after_close(loop, run, kind):
    """R45: close() stops reading at once."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            transport.close()
            try:
                far.sendall(b"late")
            except OSError:
                pass
            await protocol.closed()
            assert protocol.data == b""

    run(loop, main())


def test_end_of_file_closes_with_none(loop, run, kind, protocol_class):
    """R46, R54: eof_received that returns None, then connection_lost(None)."""

    async def main():
        protocol = protocol_class(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            far.sendall(b"last")
            far.shutdown(socket.SHUT_WR)
            assert await protocol.closed() is None
            assert protocol.data == b"last"
            assert protocol.calls.count("eof_received") == 1
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
            assert await receive_all(far) == b""

    run(loop, main())


def test_peer_that_closes_gives_all_its_data_first(loop, run, kind, protocol_class):
    """R46: a megabyte, then a close: nothing of it is lost."""
    data = os.urandom(MIB)

    async def main():
        protocol = protocol_class(loop)
        async with connection(loop, protocol, kind) as (_, far):
            await send(far, data)
            far.close()
            assert await protocol.closed() is None
            assert protocol.data == data

    run(loop, main())


@pytest.mark.parametrize("reading", [True, False])
def test_reset_is_connection_reset_error(loop, run, reading):
    """R46: RST gives ConnectionResetError, and no report. Unread data does not hide it."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            if not reading:
                transport.pause_reading()
            reset(far)
            if not reading:
                await turns()
                transport.resume_reading()
            assert isinstance(await protocol.closed(), ConnectionResetError)
            assert "eof_received" not in protocol.calls

    run(loop, main())


def test_write_to_a_peer_that_has_gone_is_not_reported(loop, run, kind):
    """R46: BrokenPipeError or ConnectionResetError in connection_lost; nothing in the handler."""

    async def main():
        protocol = Recorder(loop, eof_received=lambda p: True)
        async with connection(loop, protocol, kind) as (transport, far):
            far.close()
            await asyncio.wait_for(protocol.eof, 5)
            give_up = loop.time() + 5
            while not protocol.lost.done():
                assert loop.time() < give_up
                transport.write(b"x" * 1000)
                await asyncio.sleep(0.001)
            assert isinstance(await protocol.closed(), (BrokenPipeError, ConnectionResetError))

    run(loop, main())


# -- after the end -------------------------------------------------------------------------------

METHODS = [
    ("write", (b"x",)),
    ("write", (b"",)),
    ("writelines", ([b"x", b"y"],)),
    ("writelines", ([],)),
    ("close", ()),
    ("abort", ()),
    ("is_closing", ()),
    ("is_reading", ()),
    ("pause_reading", ()),
    ("resume_reading", ()),
    ("get_protocol", ()),
    ("set_write_buffer_limits", ()),
    ("get_write_buffer_limits", ()),
    ("get_write_buffer_size", ()),
    ("can_write_eof", ()),
    ("write_eof", ()),
    ("get_extra_info", ("socket",)),
    ("get_extra_info", ("peername",)),
    ("get_extra_info", ("no such thing",)),
    ("__repr__", ()),
]


@pytest.mark.known_difference("uvloop", "some of them raise", strict=False)
@pytest.mark.known_difference(
    "asyncio", "writelines raises", since=(3, 12), until=(3, 13, 0), strict=False
)
@pytest.mark.known_difference("asyncio", "abort() raises after a flush", strict=False)
@pytest.mark.parametrize(
    "state", ["closing", "closing with data", "lost", "lost after a flush", "lost by reset"]
)
def test_no_method_raises_after_the_end(loop, run, state):
    """R47: on a transport that is closed or lost."""

    async def main():
        raised = []
        for name, args in METHODS:
            protocol = Recorder(loop)
            async with connection(loop, protocol) as (transport, far):
                if state == "lost by reset":
                    reset(far)
                else:
                    if state in ("closing with data", "lost after a flush"):
                        transport.write(b"x" * 8 * MIB)
                    transport.close()
                if state == "lost after a flush":
                    await receive_all(far)
                if state.startswith("lost"):
                    await protocol.closed()
                try:
                    getattr(transport, name)(*args)
                    getattr(transport, name)(*args)
                    transport.set_protocol(protocol)
                except Exception as error:
                    raised.append((name, args, error))
                if state != "lost by reset":
                    assert transport.is_closing()
        assert raised == []

    run(loop, main(), 30)


@pytest.mark.known_difference("uvloop", "a text of its own")
def test_repeated_writes_to_a_lost_connection_are_warned_about(loop, run, caplog):
    """R47, section 4: 'socket.send() raised exception.' from the fifth on."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            reset(far)
            await protocol.closed()
            for _ in range(10):
                transport.write(b"x")

    run(loop, main())
    warnings = [r for r in caplog.records if r.getMessage() == "socket.send() raised exception."]
    assert 1 <= len(warnings) <= 6
    assert all(r.levelname == "WARNING" and r.name == "asyncio" for r in warnings)


def test_close_with_bytes_buffered_still_takes_and_sends_writes(loop, run, kind):
    """R48: write() after close() appends while there is something to send."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind, small=True) as (transport, far):
            transport.write(b"a" * MIB)
            assert transport.get_write_buffer_size() > 0
            transport.close()
            transport.write(b"after close")
            data = await receive_all(far)
            assert data == b"a" * MIB + b"after close"
            assert await protocol.closed() is None

    run(loop, main())


def test_close_sends_what_is_buffered(loop, run, kind):
    """R48: close() is graceful."""
    data = os.urandom(4 * MIB)

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            transport.write(data)
            transport.close()
            assert await receive_all(far) == data
            assert await protocol.closed() is None

    run(loop, main())


def test_abort_drops_what_is_buffered(loop, run):
    """R45: abort() does not wait for the peer."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            transport.write(b"x" * 8 * MIB)
            transport.abort()
            assert await protocol.closed() is None
            assert transport.get_write_buffer_size() == 0
            assert len(await receive_all(far)) < 8 * MIB

    run(loop, main())


def test_write_then_abort_still_delivers(loop, run, kind):
    """R59: write(b'x'); abort() sends the x."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            transport.write(b"x")
            transport.abort()
            assert await receive_all(far) == b"x"

    run(loop, main())


def test_what_was_written_before_an_exception_is_delivered(loop, run, kind, reports):
    """R55, R59: data_received() writes, and raises."""

    def write_and_raise(protocol, data):
        protocol.transport.write(b"x")
        raise ZeroDivisionError

    async def main():
        protocol = Recorder(loop, data_received=write_and_raise)
        async with connection(loop, protocol, kind) as (_, far):
            far.sendall(b"?")
            assert await receive_all(far) == b"x"
            assert isinstance(await protocol.closed(), ZeroDivisionError)

    run(loop, main())
    assert len(reports) == 1


def test_limits_set_after_a_write_do_not_pause_it(loop, run, kind):
    """R52, R59: the system had room for all of it."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            transport.write(b"x" * 100)
            transport.set_write_buffer_limits(high=10)
            assert transport.get_write_buffer_size() == 0
            assert protocol.calls == ["connection_made"]

    run(loop, main())


# -- write ---------------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "takes None", strict=False)
@pytest.mark.parametrize("bad", [None, "text", 3, object(), ["x"]], ids=lambda v: type(v).__name__)
def test_write_takes_bytes_like_objects_only(loop, run, bad):
    """R49: TypeError comes first, before any state is looked at."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, _):
            with pytest.raises(TypeError):
                transport.write(bad)
            transport.write(b"fine")

    run(loop, main())


@pytest.mark.known_difference("uvloop", "takes None")
def test_write_of_none_names_the_type(loop, run):
    """Section 4: the message of asyncio, as far as its versions agree."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            with pytest.raises(TypeError, match="data argument must be a bytes"):
                transport.write(None)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "looks at the type last", strict=False)
def test_write_after_write_eof_raises(loop, run, kind):
    """R49, section 4: 'Cannot call write() after write_eof()'; the type is looked at first."""

    async def main():
        async with connection(loop, Recorder(loop), kind) as (transport, _):
            transport.write_eof()
            with pytest.raises(TypeError):
                transport.write(None)
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                transport.write(b"x")

    run(loop, main())


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
def test_every_bytes_like_type_is_sent(loop, run, make):
    """R49, R50: in pieces that fit and in one that does not."""
    small, large = b"small", os.urandom(2 * MIB)

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            transport.write(make(small))
            transport.write(make(large))
            transport.write(make(b""))
            transport.write(make(small))
            transport.close()
            assert await receive_all(far) == small + large + small

    run(loop, main())


def test_memoryview_of_wider_items_is_sent_whole(loop, run):
    """R49: nbytes counts, not len."""
    import array

    values = array.array("I", range(100_000))

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            transport.write(memoryview(values))
            transport.close()
            assert await receive_all(far) == values.tobytes()

    run(loop, main())


def test_memoryview_with_gaps_is_sent_or_refused(loop, run, reports):
    """R49: a view that is not contiguous is never sent wrongly."""
    view = memoryview(bytes(range(100)))[::2]

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            with contextlib.suppress(TypeError, ValueError, BufferError):
                transport.write(view)
            transport.close()
            assert await receive_all(far) in (b"", view.tobytes())

    run(loop, main())


@pytest.mark.known_difference("asyncio", "locks it", since=(3, 12))
@pytest.mark.known_difference("uvloop", "keeps a view of it", strict=False)
def test_written_bytearray_can_be_changed(loop, run, kind):
    """R50: resizable right after write(), and the change is not sent."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind, small=True) as (transport, far):
            data = bytearray(b"a" * MIB)
            transport.write(data)
            data[:] = b""
            data.extend(b"b" * 100)
            transport.close()
            assert await receive_all(far) == b"a" * MIB

    run(loop, main())


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
def test_writelines_sends_all(loop, run, kind, items):
    """R51: any number, empty ones skipped."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            receiving = asyncio.ensure_future(receive_all(far))
            transport.writelines(items)
            transport.writelines(iter(items))
            transport.writelines(item for item in items)
            transport.write(b"end")
            transport.close()
            assert await receiving == b"".join(items) * 3 + b"end"

    run(loop, main())


@pytest.mark.known_difference("asyncio", "never pauses", since=(3, 12), until=(3, 13, 0))
def test_writelines_keeps_to_the_marks(loop, run, kind):
    """R51: it pauses the protocol as write() does."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind, small=True) as (transport, far):
            transport.writelines([b"x" * 1000] * 8000)
            assert protocol.calls.count("pause_writing") == 1
            receiving = asyncio.ensure_future(receive_all(far))
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            transport.close()
            assert len(await receiving) == 8_000_000

    run(loop, main())


def test_writelines_of_what_is_no_bytes_is_refused(loop, run):
    """R51: TypeError, and the transport works on."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            with pytest.raises(TypeError):
                transport.writelines(3)
            with pytest.raises(TypeError):
                transport.writelines(["text"])
            transport.write(b"fine")
            assert (await receive(far, 4)) == b"fine"

    run(loop, main())


# -- flow control --------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "(32768, 65536)", strict=False)
def test_default_marks(loop, run):
    """R52: (low, high) is (16384, 65536)."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            assert transport.get_write_buffer_limits() == (16384, 65536)

    run(loop, main())


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
def test_marks_are_derived(loop, run, limits, expected):
    """R52: low=100 gives 100, 400; high=0 gives 0, 0."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            transport.set_write_buffer_limits(**limits)
            assert transport.get_write_buffer_limits() == expected

    run(loop, main())


@pytest.mark.known_difference("uvloop", "takes some", strict=False)
@pytest.mark.parametrize("limits", [{"high": 10, "low": 20}, {"high": -1}, {"high": 1, "low": -1}])
def test_impossible_marks_are_refused(loop, run, limits):
    """Section 4: 'high (10) must be >= low (20) must be >= 0', and the old ones stay."""

    async def main():
        async with connection(loop, Recorder(loop)) as (transport, _):
            with pytest.raises(ValueError, match="must be >= 0"):
                transport.set_write_buffer_limits(**limits)
            assert transport.get_write_buffer_limits() == (16384, 65536)

    run(loop, main())


def test_pause_writing_comes_inside_write_and_resume_later(loop, run, kind):
    """R52: pause above high, once; resume at low, once."""

    async def main():
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

    run(loop, main())


def test_size_of_the_buffer_is_counted(loop, run):
    """R52: what was not yet taken by the kernel."""

    async def main():
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

    run(loop, main())


def test_high_mark_of_zero_pauses_until_all_is_sent(loop, run):
    """R52: high=0."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            transport.set_write_buffer_limits(high=0)
            transport.write(b"x" * MIB)
            await turns()
            assert protocol.calls.count("pause_writing") == 1
            await receive(far, MIB)
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_small_write_does_not_pause_though_high_is_zero(loop, run):
    """R59: pause_writing is judged after an attempt to send."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            transport.set_write_buffer_limits(high=0)
            transport.write(b"fits")
            await receive(far, 4)
            await turns()
            assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing")

    run(loop, main())


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.known_difference("asyncio", "reads all the same", until=(3, 10))
@pytest.mark.known_difference("uvloop", "reads all the same", strict=False)
def test_reading_paused_in_connection_made_stays_paused(loop, run, kind, protocol_class):
    """R53: no data until resume_reading(), which finds what arrived meanwhile."""

    async def main():
        protocol = protocol_class(loop, connection_made=lambda p, t: t.pause_reading())
        async with connection(loop, protocol, kind) as (transport, far):
            await send(far, b"data")
            await turns()
            assert not transport.is_reading()
            assert protocol.data == b""
            transport.resume_reading()
            assert transport.is_reading()
            assert await protocol.received(4) == b"data"

    run(loop, main())


def test_reading_paused_in_a_read_callback_stays_paused(loop, run, kind, protocol_class):
    """R53: no further call, and resume finds what an edge announced."""

    def pause(protocol, _):
        protocol.transport.pause_reading()

    async def main():
        protocol = protocol_class(loop, data_received=pause, buffer_updated=pause)
        async with connection(loop, protocol, kind) as (transport, far):
            sending = asyncio.ensure_future(send(far, b"x" * MIB))
            await protocol.received(1)
            await turns()
            calls, size = len(protocol.calls), len(protocol.data)
            await turns()
            assert len(protocol.calls) == calls and len(protocol.data) == size < MIB
            while len(protocol.data) < MIB:
                seen = len(protocol.data)
                transport.resume_reading()
                await protocol.received(seen + 1)
            await sending
            assert protocol.data == b"x" * MIB

    run(loop, main())


def test_pause_and_resume_may_be_repeated(loop, run):
    """R53: idempotent, as of 3.7."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            for _ in range(3):
                transport.pause_reading()
                transport.pause_reading()
                assert not transport.is_reading()
                await send(far, b"x")
                await turns(2)
                count = len(protocol.data)
                transport.resume_reading()
                transport.resume_reading()
                assert transport.is_reading()
                await protocol.received(count + 1)

    run(loop, main())


def test_paused_and_resumed_within_one_callback_goes_on(loop, run, kind):
    """R53: nothing is lost between the two."""

    def flicker(protocol, _):
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    async def main():
        protocol = Recorder(loop, data_received=flicker)
        async with connection(loop, protocol, kind) as (_, far):
            for i in range(1, 20):
                await send(far, b"x" * 1000)
                await protocol.received(1000 * i)

    run(loop, main())


def test_end_of_file_while_paused_comes_after_resume(loop, run, kind):
    """R53: data, then eof_received, when reading goes on."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            transport.pause_reading()
            far.sendall(b"last")
            far.close()
            await turns()
            assert protocol.calls == ["connection_made"]
            transport.resume_reading()
            assert await protocol.closed() is None
            assert protocol.data == b"last"
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


def test_close_while_paused(loop, run):
    """R53: connection_lost comes all the same."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            transport.pause_reading()
            far.sendall(b"unread")
            await turns()
            transport.close()
            assert await protocol.closed() is None
            assert protocol.data == b""

    run(loop, main())


def test_write_eof_half_closes_after_the_buffer(loop, run, kind):
    """R54: SHUT_WR once everything is sent; reading goes on."""
    data = os.urandom(2 * MIB)

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, kind, small=True) as (transport, far):
            assert transport.can_write_eof()
            transport.write(data)
            transport.write_eof()
            transport.write_eof()
            assert await receive_all(far) == data
            await send(far, b"still read")
            assert await protocol.received(10) == b"still read"
            assert not transport.is_closing()
            far.close()
            assert await protocol.closed() is None

    run(loop, main())


def test_eof_received_that_returns_true_keeps_the_write_side(loop, run, kind, protocol_class):
    """R54: half-open until close(); eof_received comes once."""

    async def main():
        protocol = protocol_class(loop, eof_received=lambda p: True)
        async with connection(loop, protocol, kind) as (transport, far):
            far.sendall(b"question")
            far.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(protocol.eof, 5)
            await turns()
            assert not transport.is_closing()
            assert protocol.calls.count("eof_received") == 1
            transport.write(b"answer" * 100_000)
            assert await receive(far, 600_000) == b"answer" * 100_000
            transport.close()
            assert await protocol.closed() is None

    run(loop, main())


def test_half_open_connection_does_not_spin(loop, run, kind):
    """R54: a read end of file that stays is no reason for a turn."""
    import time

    async def main():
        protocol = Recorder(loop, eof_received=lambda p: True)
        async with connection(loop, protocol, kind) as (_, far):
            far.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(protocol.eof, 5)
            await turns()
            before = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - before < 0.1

    run(loop, main())


@pytest.mark.parametrize("waiting", ["paused", "sending"])
def test_waiting_connection_does_not_spin(loop, run, waiting):
    """R25, R53: unread data while paused, or a full peer, is no reason for a turn."""
    import time

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            if waiting == "paused":
                transport.pause_reading()
                far.sendall(b"unread")
            else:
                transport.write(b"x" * MIB)
            await turns()
            before = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - before < 0.1

    run(loop, main())


@pytest.mark.known_difference("uvloop", "its own message, or another report", strict=False)
@pytest.mark.parametrize(
    ("protocol_type", "name"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (BufferedRecorder, "buffer_updated"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "eof_received"),
    ],
)
def test_read_callback_that_raises_closes_the_connection(loop, run, reports, protocol_type, name):
    """R55: one report, connection_lost(exc)."""
    error = ValueError("the protocol's own")

    def fail(*_):
        raise error

    async def main():
        protocol = protocol_type(loop, **{name: fail})
        async with connection(loop, protocol) as (transport, far):
            far.sendall(b"data")
            if name == "eof_received":
                far.shutdown(socket.SHUT_WR)
            assert await protocol.closed() is error
            assert transport.is_closing()
            (report,) = reports
            assert report["exception"] is error
            assert report["transport"] is transport
            assert report["protocol"] is protocol
            if name == "data_received":
                expected = "Fatal error: protocol.data_received() call failed."
                assert report["message"] == expected

    run(loop, main())


@pytest.mark.parametrize("name", ["connection_made", "connection_lost"])
def test_other_callback_that_raises_is_reported(loop, run, reports, name):
    """R55, R13: connection_made and connection_lost; the loop goes on."""

    def fail(*_):
        raise ValueError("the protocol's own")

    async def main():
        protocol = Recorder(loop, **{name: fail})
        near, far = socket_pair("tcp")
        with far:
            creating = asyncio.ensure_future(loop.create_connection(lambda: protocol, sock=near))
            await asyncio.wait([creating], timeout=5)
            protocol.transport.abort()
            await protocol.closed()
            creating.cancel()
            await turns()

    run(loop, main())
    assert any(isinstance(report.get("exception"), ValueError) for report in reports)


def test_pause_writing_that_raises_is_reported_and_the_write_goes_on(loop, run, reports):
    """R55: 'protocol.pause_writing() failed'."""

    def fail(*_):
        raise ValueError("the protocol's own")

    async def main():
        protocol = Recorder(loop, pause_writing=fail, resume_writing=fail)
        async with connection(loop, protocol, small=True) as (transport, far):
            transport.write(b"x" * MIB)
            transport.close()
            assert await receive_all(far) == b"x" * MIB

    run(loop, main())
    assert [report["message"] for report in reports] == [
        "protocol.pause_writing() failed",
        "protocol.resume_writing() failed",
    ]


# -- buffered protocols --------------------------------------------------------------------------


def test_buffer_is_asked_for_before_each_read(loop, run, kind):
    """R56: get_buffer(-1); a small buffer means several reads."""

    async def main():
        protocol = BufferedRecorder(loop, size=7)
        async with connection(loop, protocol, kind) as (_, far):
            await send(far, b"abcdefghijklmnopqrstuvwxyz")
            assert await protocol.received(26) == b"abcdefghijklmnopqrstuvwxyz"
            assert len(protocol.size_hints) >= protocol.calls.count("buffer_updated") >= 4

    run(loop, main())


@pytest.mark.known_difference("uvloop", "gives a size hint of its own")
def test_buffer_is_asked_for_without_a_size(loop, run):
    """R56: the hint is -1."""

    async def main():
        protocol = BufferedRecorder(loop)
        async with connection(loop, protocol) as (_, far):
            await send(far, b"x")
            await protocol.received(1)
            assert set(protocol.size_hints) == {-1}

    run(loop, main())


@pytest.mark.parametrize("bad", [b"", bytearray(), memoryview(bytearray())], ids=["b", "ba", "mv"])
def test_empty_buffer_is_an_error(loop, run, reports, bad):
    """R56, section 4: 'get_buffer() returned an empty buffer'."""

    async def main():
        protocol = BufferedRecorder(loop, get_buffer=lambda p, hint: bad)
        async with connection(loop, protocol) as (_, far):
            await send(far, b"x")
            assert isinstance(await protocol.closed(), RuntimeError)

    run(loop, main())
    (report,) = reports
    assert "empty buffer" in str(report["exception"])


@pytest.mark.known_difference("uvloop", "RuntimeError")
@pytest.mark.parametrize("bad", [None, 3, "text", b"read-only"], ids=lambda v: type(v).__name__)
def test_what_is_no_writable_buffer_is_an_error(loop, run, reports, bad):
    """R56: TypeError or BufferError in connection_lost, one report."""

    async def main():
        protocol = BufferedRecorder(loop, get_buffer=lambda p, hint: bad)
        async with connection(loop, protocol) as (_, far):
            await send(far, b"x")
            assert isinstance(await protocol.closed(), (TypeError, BufferError))

    run(loop, main())
    assert len(reports) == 1


@pytest.mark.parametrize("first", ["protocol", "buffered"])
@pytest.mark.parametrize("where", ["outside", "inside"])
def test_protocol_may_change_its_kind(loop, run, first, where):
    """R56: set_protocol() switches between data_received and get_buffer, also inside a callback."""

    async def main():
        other_type = BufferedRecorder if first == "protocol" else Recorder
        second = other_type(loop)

        def switch(protocol, _):
            if where == "inside":
                protocol.transport.set_protocol(second)

        own_type = Recorder if first == "protocol" else BufferedRecorder
        protocol = own_type(loop, data_received=switch, buffer_updated=switch)
        near, far = socket_pair("tcp")
        with far:
            transport, _ = await loop.create_connection(lambda: protocol, sock=near)
            await send(far, b"one")
            await protocol.received(3)
            if where == "outside":
                transport.set_protocol(second)
            assert transport.get_protocol() is second
            await send(far, b"two")
            assert await second.received(3) == b"two"
            assert protocol.data == b"one"
            far.close()
            assert await second.closed() is None
            assert "connection_lost" not in protocol.calls

    run(loop, main())


@pytest.mark.known_difference("uvloop", "holds the buffer during buffer_updated()")
def test_buffer_that_a_callback_resizes_is_free_again(loop, run):
    """R56: no export is held while buffer_updated runs."""

    def grow(protocol, nbytes):
        protocol.buffer.extend(b"\0" * 100)

    async def main():
        protocol = BufferedRecorder(loop, size=100, buffer_updated=grow)
        async with connection(loop, protocol) as (_, far):
            for i in range(1, 6):
                await send(far, b"x")
                await protocol.received(i)
            assert len(protocol.buffer) >= 200

    run(loop, main())


def test_received_bytes_do_not_change_later(loop, run):
    """Each data_received gets bytes of its own, not a view of a buffer that is used again."""
    kept = []

    async def main():
        protocol = Recorder(loop, data_received=lambda p, data: kept.append(data))
        async with connection(loop, protocol) as (_, far):
            for i in range(50):
                await send(far, bytes([i]) * 100)
                await protocol.received(100 * (i + 1))

    run(loop, main())
    assert all(type(data) is bytes for data in kept)
    assert b"".join(kept) == b"".join(bytes([i]) * 100 for i in range(50))


# -- extra info, contexts ------------------------------------------------------------------------


def test_extra_info_answers_before_and_after_close(loop, run):
    """R57: socket, sockname, peername."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            near_name, far_name = far.getpeername(), far.getsockname()
            for _ in range(2):
                assert transport.get_extra_info("sockname") == near_name
                assert transport.get_extra_info("peername") == far_name
                assert transport.get_extra_info("no such thing") is None
                assert transport.get_extra_info("no such thing", 7) == 7
                assert transport.get_extra_info("socket") is not None
                transport.close()
                await protocol.closed()

    run(loop, main())


@pytest.mark.known_difference("uvloop", "has a socket type of its own")
def test_socket_of_a_transport_is_the_stdlib_s(loop, run):
    """R57: asyncio.trsock.TransportSocket; R33: fileno() is -1 after connection_lost."""
    from asyncio import trsock

    async def main():
        near, far = socket_pair("tcp")
        protocol = Recorder(loop)
        with far:
            transport, _ = await loop.create_connection(lambda: protocol, sock=near)
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, trsock.TransportSocket)
            assert sock._sock is near
            assert sock.fileno() == near.fileno() != -1
            assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            transport.close()
            await protocol.closed()
            await turns()
            assert sock.fileno() == near.fileno() == -1

    run(loop, main())


@pytest.mark.known_difference("uvloop", "a context for each call", strict=False)
def test_read_callbacks_share_one_context(loop, run, protocol_class):
    """R58: what one data_received sets, the next one sees; resume captures anew."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def note(protocol, _):
        seen.append(variable.get())
        variable.set(f"set by call {len(seen)}")

    async def main():
        variable.set("connecting")
        protocol = protocol_class(loop, data_received=note, buffer_updated=note)
        async with connection(loop, protocol) as (transport, far):
            for i in (1, 2):
                await send(far, b"x")
                await protocol.received(i)
            assert seen == ["connecting", "set by call 1"]
            variable.set("resuming")
            transport.pause_reading()
            await turns()
            transport.resume_reading()
            await send(far, b"x")
            await protocol.received(3)
            assert seen[2] == "resuming"

    run(loop, main())


# -- private names -------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "has no private names of asyncio's")
def test_private_names_that_the_stdlib_reads_are_there(loop, run):
    """Section 1.3: read by sendfile, start_tls and by libraries."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, _):
            assert transport._loop is loop
            assert transport._sock_fd == transport._sock.fileno()
            assert transport._protocol is protocol
            assert transport._protocol_paused is False
            assert transport._start_tls_compatible is True
            assert transport._extra["peername"]
            assert transport._force_close
            assert transport._make_empty_waiter and transport._reset_empty_waiter

    run(loop, main())


@pytest.mark.known_difference("uvloop", "keeps transports elsewhere", strict=False)
def test_unclosed_transport_warns_and_closes(loop, run):
    """R61: ResourceWarning 'unclosed transport', descriptor closed."""

    async def main():
        near, far = socket_pair("tcp")
        with far:

            async def forget():
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
                transport.pause_reading()

            with pytest.warns(ResourceWarning, match="unclosed transport"):
                await forget()
                await turns()
                gc.collect()
            assert await receive_all(far) == b""

    run(loop, main())


# -- fairness and volume -------------------------------------------------------------------------


def test_large_transfer_both_ways_at_once(loop, run, kind, protocol_class):
    """R90: 16 MiB each way over one connection, with flow control."""
    data = os.urandom(MIB) * 16

    async def main():
        protocol = protocol_class(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            sending = asyncio.ensure_future(send(far, data))
            receiving = asyncio.ensure_future(receive(far, len(data)))
            transport.write(data)
            assert await receiving == data
            await sending
            assert await protocol.received(len(data)) == data

    run(loop, main(), 30)


def test_fast_sender_does_not_starve_the_others(loop, run):
    """R90: no connection owns a turn."""

    async def main():
        flooded, quiet = Recorder(loop), Recorder(loop)
        quiet.hooks["data_received"] = lambda p, data: p.transport.write(data)
        async with connection(loop, flooded) as (_, flood), connection(loop, quiet) as (_, far):
            stop = False

            def pour():
                while not stop:
                    try:
                        flood.sendall(b"x" * 65536)
                    except OSError:
                        return

            pouring = loop.run_in_executor(None, pour)
            await flooded.received(MIB)
            worst = 0.0
            for _ in range(50):
                flooded.data.clear()
                started = loop.time()
                await send(far, b"ping")
                assert await receive(far, 4) == b"ping"
                worst = max(worst, loop.time() - started)
            stop = True
            flooded.transport.abort()
            await pouring
            assert worst < 1.0

    run(loop, main(), 30)


def test_short_reads_then_more_data_are_never_lost(loop, run, kind, protocol_class):
    """Edge: bytes that arrive right after a short read cause another event."""

    async def main():
        protocol = protocol_class(loop)
        async with connection(loop, protocol, kind) as (transport, far):
            expected = bytearray()

            def write_in_bursts():
                for i in range(3000):
                    far.sendall(b"%d," % i)

            for i in range(3000):
                expected += b"%d," % i
            await loop.run_in_executor(None, write_in_bursts)
            assert await protocol.received(len(expected)) == expected

    run(loop, main())


def test_hundreds_of_connections_echo(loop, run):
    """R90: 300 at once, several rounds."""

    def echo(protocol, data):
        protocol.transport.write(data)

    async def main():
        peers, protocols = [], []
        for _ in range(300):
            near, far = socket_pair("unix")
            protocol = Recorder(loop, data_received=echo)
            await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
            peers.append(far)
            protocols.append(protocol)

        def converse():
            for n in range(5):
                for i, far in enumerate(peers):
                    far.sendall(b"%04d%04d" % (n, i))
                for i, far in enumerate(peers):
                    assert far.recv(100) == b"%04d%04d" % (n, i)

        await loop.run_in_executor(None, converse)
        for far in peers:
            far.close()
        for protocol in protocols:
            assert await protocol.closed() is None

    run(loop, main(), 30)


@pytest.mark.skipif(sys.platform == "win32", reason="Unix")
def test_small_buffers_and_tiny_reads_survive(loop, run):
    """R52, R53: a slow reader that pauses at random, and a writer that waits for it."""
    data = os.urandom(400_000)

    async def main():
        near, far = socket_pair("tcp")
        small_buffers(near, far)
        far.setblocking(False)
        writer, reader = Recorder(loop), Recorder(loop)
        await loop.create_connection(lambda: writer, sock=near)
        reading, _ = await loop.create_connection(lambda: reader, sock=far)
        writer.transport.write(data)
        writer.transport.close()
        while not reader.lost.done():
            reading.pause_reading()
            await asyncio.sleep(0)
            reading.resume_reading()
            await asyncio.sleep(0.0005)
        assert await writer.closed() is None
        assert reader.data == data

    run(loop, main())


def test_bytes_behind_passed_descriptors_arrive(loop, run):
    """R53: recv(2) stops at a message with SCM_RIGHTS, though more is waiting (unix(7))."""

    async def main():
        near, far = socket_pair("unix")
        received = bytearray()
        everything = loop.create_future()

        class Receiver(asyncio.Protocol):
            def data_received(self, data):
                received.extend(data)
                if len(received) == 3:
                    everything.set_result(bytes(received))

        with far:
            transport, _ = await loop.create_connection(Receiver, sock=near)
            for data in (b"a", b"b"):
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", far.fileno()))
                far.sendmsg([data], [rights])
            far.send(b"c")
            assert await asyncio.wait_for(everything, 5) == b"abc"
            transport.abort()
            await turns()

    run(loop, main())
