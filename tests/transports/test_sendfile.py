"""sendfile(): R74."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import os
import socket
import tempfile

import pytest

from tests.support.connections import connection, receive, receive_all, small_buffers, socket_pair
from tests.support.protocols import Recorder
from tests.support.releases import SENDFILE_IGNORES_AN_OFFSET_OF_0
from tests.support.tls import tls_pair
from tests.support.waiting import turns

DATA = os.urandom(1_500_000)

pytestmark = pytest.mark.known_difference("uvloop", "not implemented", run=False)


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        file.seek(0)
        yield file


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (1000, 500_000), (0, 1)])
async def test_file_is_sent(loop, file, offset, count, fallback):
    """R74: offset and count; the position is offset + sent."""
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        receiving = asyncio.ensure_future(receive_all(far))
        transport.write(b"before ")
        sent = await loop.sendfile(transport, file, offset, count, fallback=fallback)
        assert sent == len(expected)
        assert file.tell() == offset + sent
        transport.write(b" after")
        transport.close()
        assert await receiving == b"before " + expected + b" after"


@pytest.mark.known_difference("asyncio", "leaves it where it was", until=(3, 13))
async def test_position_where_nothing_is_left_to_send(loop, file):
    """R74: the offset, as of a file of which something was sent."""
    async with connection(loop, Recorder(loop)) as (transport, far):
        file.seek(10)
        assert await loop.sendfile(transport, file, len(DATA)) == 0
        assert file.tell() == len(DATA)


async def test_buffered_bytes_leave_before_the_file(loop, file):
    """R74: order is kept though a megabyte is still waiting."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        receiving = asyncio.ensure_future(receive_all(far))
        transport.write(b"x" * 1_000_000)
        await loop.sendfile(transport, file)
        transport.close()
        assert await receiving == b"x" * 1_000_000 + DATA


async def test_write_during_sendfile_is_refused(loop, file):
    """Section 4: 'unable to write; sendfile is in progress'."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        assert not sending.done()
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.write(b"x")
        assert await receive(far, len(DATA)) == DATA
        await sending
        transport.write(b"fine again")
        assert await receive(far, 10) == b"fine again"


async def test_reading_is_paused_meanwhile_and_goes_on(loop, file):
    """R74: data that arrives during sendfile is delivered after it."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        far.sendall(b"meanwhile")
        await turns()
        assert protocol.data == b""
        assert await receive(far, len(DATA)) == DATA
        await sending
        assert await protocol.received(9) == b"meanwhile"
        assert transport.is_reading()


async def test_file_like_object_falls_back(loop):
    """R74: io.BytesIO works, unless fallback=False."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        receiving = asyncio.ensure_future(receive(far, len(DATA)))
        source = io.BytesIO(DATA)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(transport, source, fallback=False)
        assert await loop.sendfile(transport, source) == len(DATA)
        assert await receiving == DATA


@contextlib.asynccontextmanager
async def tls_connection(loop, tls):
    async with tls_pair(loop, tls) as (client, server):

        async def receive_from_server(count):
            return bytes((await server.received(count))[:count])

        yield functools.partial(loop.sendfile, client.transport), receive_from_server


@contextlib.asynccontextmanager
async def plain_connection(loop, tls):
    async with connection(loop, Recorder(loop)) as (transport, far):
        yield functools.partial(loop.sendfile, transport), functools.partial(receive, far)


@contextlib.asynccontextmanager
async def socket_connection(loop, tls):
    near, far = socket_pair("tcp")
    with near, far:
        yield functools.partial(loop.sock_sendfile, near), functools.partial(receive, far)


@pytest.mark.known_difference(
    "asyncio", "begins elsewhere", only=("file-like-0-", "tls_connection-file-0-"),
    when=SENDFILE_IGNORES_AN_OFFSET_OF_0)
@pytest.mark.parametrize("count", [None, 1000])
@pytest.mark.parametrize("offset", [0, 500])
@pytest.mark.parametrize("of", [io.BytesIO, "file"], ids=["file-like", "file"])
@pytest.mark.parametrize("over", [tls_connection, plain_connection, socket_connection])
async def test_fallback_begins_at_the_offset(loop, tls, file, over, of, offset, count):
    """R74: also at 0, from any position of the file; the position ends behind the sent bytes."""
    source = file if of == "file" else of(DATA)
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    async with over(loop, tls) as (send_file, receive_all_of_it):
        source.seek(7)
        receiving = asyncio.ensure_future(receive_all_of_it(len(expected)))
        assert await send_file(source, offset, count) == len(expected)
        assert source.tell() == offset + len(expected)
        assert await receiving == expected


@pytest.mark.known_difference("asyncio", "only resumes it, by chance", until=(3, 13), strict=False)
async def test_fallback_leaves_the_protocol_as_it_found_it(loop):
    """R74, R52: no resume_writing() for a protocol that was not paused."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        receiving = asyncio.ensure_future(receive(far, len(DATA)))
        transport.set_write_buffer_limits(0)
        assert await loop.sendfile(transport, io.BytesIO(DATA)) == len(DATA)
        assert transport.get_write_buffer_size() == 0
        assert await receiving == DATA
        await turns()
        assert protocol.calls == ["connection_made"]


@pytest.mark.known_difference("asyncio", "miscounts, by chance", strict=False)
async def test_fallback_over_a_lost_connection_raises(loop, tls):
    """R74, R46: over TLS the loss is noticed, too."""
    async with tls_pair(loop, tls) as (client, server):
        source = io.BytesIO(DATA * 10)
        server.transport.pause_reading()
        sending = asyncio.ensure_future(loop.sendfile(client.transport, source))
        await turns()
        server.transport.abort()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, 5)
        assert source.tell() < len(DATA) * 10


async def test_peer_that_goes_ends_sendfile_with_an_error(loop, file):
    """R74: the caller gets it; the position says how far it came."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        far.close()
        with pytest.raises(OSError):
            await asyncio.wait_for(sending, 5)
        assert 0 < file.tell() < len(DATA)


async def test_cancelled_sendfile_leaves_the_transport_usable_for_abort(loop, file):
    """R74: no call waits for a file that will never be sent."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        transport.abort()
        await protocol.closed()
        del far


async def test_closing_transport_is_refused(loop, file):
    """R74: RuntimeError 'Transport is closing'."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, _):
        transport.close()
        with pytest.raises(RuntimeError, match="closing"):
            await loop.sendfile(transport, file)


async def test_empty_file_and_end_of_file(loop, file):
    """R74: 0 bytes are sent at and past the end."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        assert await loop.sendfile(transport, file, len(DATA)) == 0
        with tempfile.TemporaryFile() as empty:
            assert await loop.sendfile(transport, empty) == 0
        transport.write(b"x")
        assert await receive(far, 1) == b"x"


async def test_sock_sendfile_over_a_full_socket(loop, file):
    """R74: sock_sendfile waits for room and counts."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.settimeout(5)
        receiving = asyncio.ensure_future(receive(right, len(DATA)))
        assert await loop.sock_sendfile(left, file) == len(DATA)
        assert await receiving == DATA
        assert file.tell() == len(DATA)


# -- where the file's position is left (R74) -----------------------------------------------------


@pytest.fixture
def full_pair():
    """A near socket with small buffers, whose far end does not read."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with near, far:
        yield near, far


@pytest.mark.known_difference("asyncio", "leaves the position where it was")
@pytest.mark.parametrize("offset", [0, 1000])
async def test_position_after_cancellation_is_offset_plus_sent(loop, file, full_pair, offset):
    """R74: the far end has exactly the bytes before the position."""
    near, far = full_pair
    sending = asyncio.ensure_future(loop.sock_sendfile(near, file, offset))
    await turns()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert 0 < file.tell() - offset < len(DATA)
    near.close()
    assert await receive_all(far) == DATA[offset : file.tell()]


@pytest.mark.known_difference("asyncio", "leaves the position where it was")
async def test_position_after_a_cancelled_transport_sendfile(loop, file):
    """R74: as of a socket; and the transport goes on after the part that was sent."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert 0 < file.tell() < len(DATA)
        assert transport.is_reading()
        transport.write(b"the end")
        transport.close()
        assert await receive_all(far) == DATA[: file.tell()] + b"the end"


async def test_position_after_an_error_is_offset_plus_sent(loop, file, full_pair):
    """R74: the peer goes in the middle."""
    near, far = full_pair
    sending = asyncio.ensure_future(loop.sock_sendfile(near, file, 1000))
    await turns()
    far.close()
    with pytest.raises(OSError):
        await sending
    assert 1000 < file.tell() < len(DATA)


@pytest.mark.known_difference("asyncio", "forgets what the file has read ahead")
async def test_position_of_a_file_that_was_read_before(loop, file):
    """R74: bytes that a buffered file has read ahead do not count."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        assert file.read(10) == DATA[:10]
        assert await loop.sendfile(transport, file, 0, 5000) == 5000
        assert file.tell() == 5000
        assert file.read(10) == DATA[5000:5010]
        assert await receive(far, 5000) == DATA[:5000]


# -- other events during the transfer ------------------------------------------------------------


@pytest.mark.known_difference("asyncio", "refuses to write ever after")
async def test_cancelled_while_the_buffer_drains_the_transport_is_as_before(loop, file):
    """R74: nothing of the file was sent; reading and writing go on."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.write(b"x" * 1_000_000)
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.is_reading()
        transport.write(b"y")
        assert await receive(far, 1_000_001) == b"x" * 1_000_000 + b"y"
        assert file.tell() == 0


async def test_second_sendfile_is_refused_and_the_first_goes_on(loop, file):
    """R74: one file at a time."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        with pytest.raises((RuntimeError, KeyError)):
            await loop.sendfile(transport, file)
        assert await receive(far, len(DATA)) == DATA
        assert await sending == len(DATA)
        assert transport.is_reading()


@pytest.mark.known_difference("asyncio", "waits for ever", run=False)
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_transport_that_is_closed_ends_sendfile(loop, file, end):
    """R74: the waiting caller gets an exception; the position says how many bytes were sent."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        getattr(transport, end)()
        with pytest.raises(ConnectionError):
            await sending
        assert await protocol.closed() is None
        assert await receive_all(far) == DATA[: file.tell()]


async def test_file_that_shrinks_ends_where_it_ends(loop, file):
    """R74: returns the number of sent bytes, though more was asked for."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        sending = asyncio.ensure_future(loop.sendfile(transport, file, 0, len(DATA)))
        await turns()
        file.truncate(1_000_000)
        assert await receive(far, 1_000_000) == DATA[:1_000_000]
        assert await sending == 1_000_000 == file.tell()


async def test_sendfile_without_a_reference_is_not_collected(loop, file):
    """R74: the loop keeps a task alive that waits for it; reading is paused meanwhile."""
    protocol = Recorder(loop)
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        await loop.create_connection(lambda: protocol, sock=near)
        del near
        done = loop.create_future()

        async def send():
            done.set_result(await loop.sendfile(protocol.transport, file))

        sending = loop.create_task(send())
        await turns()
        protocol.transport = None
        del sending
        gc.collect()
        assert await receive(far, len(DATA)) == DATA
        assert await done == len(DATA)
    await protocol.closed()


@pytest.mark.known_difference("asyncio", "mixes them")
async def test_sock_sendall_waits_for_its_turn_behind_the_file(loop, file, full_pair):
    """R74: data written after the file is sent after the file."""
    near, far = full_pair
    sending = asyncio.ensure_future(loop.sock_sendfile(near, file))
    await turns()
    following = asyncio.ensure_future(loop.sock_sendall(near, b"after"))
    assert await receive(far, len(DATA) + 5) == DATA + b"after"
    assert await asyncio.gather(sending, following) == [len(DATA), None]


@pytest.mark.parametrize("of", ["socket", "transport"])
@pytest.mark.time_limit(30)
async def test_no_file_owns_a_turn(mioloop_loop, of):
    """R74, R90: a receiver that takes all at once does not keep other callbacks from running."""
    loop = mioloop_loop
    with tempfile.TemporaryFile() as file:
        file.truncate(64 << 20)
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            receiving = loop.run_in_executor(None, drain, far, 64 << 20)
            if of == "socket":
                transport.pause_reading()
                near = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
                near.setblocking(False)
                with near:
                    ticks = await count_turns(loop, loop.sock_sendfile(near, file))
            else:
                ticks = await count_turns(loop, loop.sendfile(transport, file))
            await receiving
            # A part in a turn, or two: one that goes on, and one for an event that came.
            assert ticks >= (64 << 20) // 262144 // 2


def drain(sock, count):
    """Receive without a copy."""
    while count:
        count -= len(sock.recv(min(count, 1 << 20)))


async def count_turns(loop, coroutine):
    """How many turns of the loop it takes."""
    ticks = 0

    def tick():
        nonlocal ticks, handle
        ticks += 1
        handle = loop.call_soon(tick)

    handle = loop.call_soon(tick)
    await coroutine
    handle.cancel()
    return ticks


unseekable = pytest.mark.known_difference("asyncio", "raises ESPIPE", since=(3, 14))


@pytest.mark.parametrize(
    "kind",
    [pytest.param("pipe", marks=unseekable), "directory", pytest.param("socket", marks=unseekable)],
)
async def test_irregular_file_is_refused_without_fallback(loop, full_pair, kind):
    """R74: SendfileNotAvailableError, with the system's reason as its cause."""

    class File:
        mode = "rb"

        def __init__(self, fd):
            self.fileno = lambda: fd

    near, _ = full_pair
    others = os.pipe() if kind == "pipe" else (os.open("/", os.O_RDONLY),)
    fd = near.fileno() if kind == "socket" else others[0]
    try:
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(near, File(fd), 0, 10, fallback=False)
    finally:
        for other in others:
            os.close(other)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((-1,), ValueError), ((0, 0), ValueError), ((0, -1), ValueError), ((0, 1.5), TypeError)],
)
async def test_arguments_are_checked_before_anything_is_changed(loop, file, arguments, error):
    """R74: the transport reads and writes on."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        with pytest.raises(error):
            await loop.sendfile(transport, file, *arguments)
        assert transport.is_reading()
        transport.write(b"fine")
        assert await receive(far, 4) == b"fine"
