"""Stream transports: reading, pausing, the end of file, buffered protocols. R53 to R56."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.connections import connection, receive, receive_all, send, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

MIB = 1 << 20


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.known_difference("asyncio", "reads all the same", until=(3, 10))
@pytest.mark.known_difference("uvloop", "reads all the same")
async def test_reading_paused_in_connection_made_stays_paused(loop, kind, protocol_class):
    """R53: no data until resume_reading(), which delivers data that arrived meanwhile."""
    protocol = protocol_class(loop, connection_made=lambda p, t: t.pause_reading())
    async with connection(loop, protocol, kind) as (transport, far):
        await send(far, b"data")
        await turns()
        assert not transport.is_reading()
        assert protocol.data == b""
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(4) == b"data"


async def test_reading_paused_in_a_read_callback_stays_paused(loop, kind, protocol_class):
    """R53: no further call, and resume_reading() delivers data that an edge announced."""

    def pause(protocol, _):
        protocol.transport.pause_reading()

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


async def test_pause_and_resume_may_be_repeated(loop):
    """R53: idempotent, as of 3.7."""
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


async def test_paused_and_resumed_within_one_callback_goes_on(loop, kind):
    """R53: nothing is lost between the two."""

    def flicker(protocol, _):
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    protocol = Recorder(loop, data_received=flicker)
    async with connection(loop, protocol, kind) as (_, far):
        for i in range(1, 20):
            await send(far, b"x" * 1000)
            await protocol.received(1000 * i)


async def test_end_of_file_while_paused_comes_after_resume(loop, kind):
    """R53: data, then eof_received, when reading goes on."""
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


async def test_close_while_paused(loop):
    """R53: connection_lost() still comes."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.pause_reading()
        far.sendall(b"unread")
        await turns()
        transport.close()
        assert await protocol.closed() is None
        assert protocol.data == b""


async def test_write_eof_half_closes_after_the_buffer(loop, kind):
    """R54: SHUT_WR once everything is sent; reading goes on."""
    data = os.urandom(2 * MIB)
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


async def test_eof_received_that_returns_true_keeps_the_write_side(loop, kind, protocol_class):
    """R54: half-open until close(); eof_received comes once."""
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


async def test_half_open_connection_does_not_spin(loop, kind):
    """R54: a read end of file that stays is no reason for a turn."""
    import time
    protocol = Recorder(loop, eof_received=lambda p: True)
    async with connection(loop, protocol, kind) as (_, far):
        far.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(protocol.eof, 5)
        await turns()
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.1


@pytest.mark.parametrize("waiting", ["paused", "sending"])
async def test_waiting_connection_does_not_spin(loop, waiting):
    """R25, R53: unread data while paused, or a full peer, is no reason for a turn."""
    import time
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


@pytest.mark.known_difference(
    "uvloop", "its own message, or another report", only=("data_received", "get_buffer")
)
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
async def test_read_callback_that_raises_closes_the_connection(loop, reports, protocol_type, name):
    """R55: one report, connection_lost(exc)."""
    error = ValueError("the protocol's own")

    def fail(*_):
        raise error

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


async def test_buffer_is_asked_for_before_each_read(loop, kind):
    """R56: get_buffer(-1); a small buffer means several reads."""
    protocol = BufferedRecorder(loop, size=7)
    async with connection(loop, protocol, kind) as (_, far):
        await send(far, b"abcdefghijklmnopqrstuvwxyz")
        assert await protocol.received(26) == b"abcdefghijklmnopqrstuvwxyz"
        assert len(protocol.size_hints) >= protocol.calls.count("buffer_updated") >= 4


@pytest.mark.known_difference("uvloop", "gives a size hint of its own")
async def test_buffer_is_asked_for_without_a_size(loop):
    """R56: the hint is -1."""
    protocol = BufferedRecorder(loop)
    async with connection(loop, protocol) as (_, far):
        await send(far, b"x")
        await protocol.received(1)
        assert set(protocol.size_hints) == {-1}


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
def test_buffer_that_is_not_writable_is_an_error(loop, run, reports, bad):
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
async def test_protocol_may_change_its_kind(loop, first, where):
    """R56: set_protocol() switches between data_received and get_buffer, also inside a callback."""
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


@pytest.mark.known_difference("uvloop", "holds the buffer during buffer_updated()")
async def test_buffer_that_a_callback_resizes_is_free_again(loop):
    """R56: no export is held while buffer_updated runs."""

    def grow(protocol, nbytes):
        protocol.buffer.extend(b"\0" * 100)

    protocol = BufferedRecorder(loop, size=100, buffer_updated=grow)
    async with connection(loop, protocol) as (_, far):
        for i in range(1, 6):
            await send(far, b"x")
            await protocol.received(i)
        assert len(protocol.buffer) >= 200


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
