"""Stream transports: bytes between one connected socket and one protocol. R44 to R59, R61, R90."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import socket
import struct
import sys
from asyncio import transports

import pytest

from tests.support.connections import (
    connection,
    receive,
    receive_all,
    reset,
    send,
    small_buffers,
    socket_pair,
)
from tests.support.protocols import Recorder
from tests.support.releases import WRITELINES_RAISES_AFTER_A_LOSS
from tests.support.waiting import turns

MIB = 1 << 20


# -- types ---------------------------------------------------------------------------------------


async def test_fresh_transport_is_open_and_reads(loop):
    """R44: the properties of a new transport."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        assert not transport.is_closing()
        assert transport.is_reading()
        assert transport.get_write_buffer_size() == 0
        assert repr(transport)


@pytest.mark.known_difference("uvloop", "has transport types of its own")
async def test_transport_fits_the_sendfile_fallback(loop):
    """R44: isinstance of asyncio.Transport and of transports._FlowControlMixin."""
    async with connection(loop, Recorder(loop)) as (transport, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, transports._FlowControlMixin)


# -- life ----------------------------------------------------------------------------------------


async def test_connection_made_comes_before_the_waiter_and_before_data(loop, kind, protocol_class):
    """R45: connection_made, then reading, then create_connection returns."""
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


async def test_data_goes_both_ways(loop, kind, protocol_class):
    """R45: a first exchange."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        await send(far, b"question")
        assert await protocol.received(8) == b"question"
        transport.write(b"answer")
        assert await receive(far, 6) == b"answer"
        transport.close()
        assert await receive_all(far) == b""
        assert await protocol.closed() is None


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_connection_lost_is_queued_and_comes_once(loop, kind, method):
    """R45: never inside close() or abort(), and nothing after it."""
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


async def test_no_data_after_close(loop, kind):
    """R45: close() stops reading at once."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        transport.close()
        try:
            far.sendall(b"late")
        except OSError:
            pass
        await protocol.closed()
        assert protocol.data == b""


async def test_end_of_file_closes_with_none(loop, kind, protocol_class):
    """R46, R54: eof_received that returns None, then connection_lost(None)."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        far.sendall(b"last")
        far.shutdown(socket.SHUT_WR)
        assert await protocol.closed() is None
        assert protocol.data == b"last"
        assert protocol.calls.count("eof_received") == 1
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert await receive_all(far) == b""


async def test_peer_that_closes_gives_all_its_data_first(loop, kind, protocol_class):
    """R46: a megabyte, then a close: nothing of it is lost."""
    data = os.urandom(MIB)
    protocol = protocol_class(loop)
    async with connection(loop, protocol, kind) as (_, far):
        await send(far, data)
        far.close()
        assert await protocol.closed() is None
        assert protocol.data == data


@pytest.mark.parametrize("reading", [True, False])
async def test_reset_is_connection_reset_error(loop, reading):
    """R46: RST gives ConnectionResetError, and no report. Unread data does not hide it."""
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


async def test_write_to_a_peer_that_has_gone_is_not_reported(loop, kind):
    """R46: BrokenPipeError or ConnectionResetError in connection_lost; nothing in the handler."""
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


@pytest.mark.known_difference("uvloop", "some of them raise", only=("lost",))
@pytest.mark.known_difference(
    "asyncio", "writelines() raises", when=WRITELINES_RAISES_AFTER_A_LOSS)
@pytest.mark.known_difference(
    "asyncio", "abort() raises then", until=(3, 13, 0), only=("lost after a flush",))
@pytest.mark.known_difference(
    "asyncio", "abort() raises then in some releases", since=(3, 13, 1),
    only=("lost after a flush",), strict=False)
@pytest.mark.parametrize(
    "state", ["closing", "closing with data", "lost", "lost after a flush", "lost by reset"]
)
@pytest.mark.time_limit(30)
async def test_no_method_raises_after_the_end(loop, state):
    """R47: on a transport that is closed or lost."""
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


async def test_close_with_bytes_buffered_still_takes_and_sends_writes(loop, kind):
    """R48: write() after close() appends while there is something to send."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind, small=True) as (transport, far):
        transport.write(b"a" * MIB)
        assert transport.get_write_buffer_size() > 0
        transport.close()
        transport.write(b"after close")
        data = await receive_all(far)
        assert data == b"a" * MIB + b"after close"
        assert await protocol.closed() is None


async def test_close_sends_buffered_data(loop, kind):
    """R48: close() is graceful."""
    data = os.urandom(4 * MIB)
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        transport.write(data)
        transport.close()
        assert await receive_all(far) == data
        assert await protocol.closed() is None


async def test_abort_drops_buffered_data(loop):
    """R45: abort() does not wait for the peer."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.write(b"x" * 8 * MIB)
        transport.abort()
        assert await protocol.closed() is None
        assert transport.get_write_buffer_size() == 0
        assert len(await receive_all(far)) < 8 * MIB


async def test_write_then_abort_still_delivers(loop, kind):
    """R59: write(b'x'); abort() sends the x."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        transport.write(b"x")
        transport.abort()
        assert await receive_all(far) == b"x"


def test_data_written_before_an_exception_is_delivered(loop, run, kind, reports):
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


async def test_limits_set_after_a_write_do_not_pause_it(loop, kind):
    """R52, R59: the system had room for all of it."""
    protocol = Recorder(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        transport.write(b"x" * 100)
        transport.set_write_buffer_limits(high=10)
        assert transport.get_write_buffer_size() == 0
        assert protocol.calls == ["connection_made"]


# -- extra info, contexts ------------------------------------------------------------------------


async def test_extra_info_answers_before_and_after_close(loop):
    """R57: socket, sockname, peername."""
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


@pytest.mark.known_difference("uvloop", "has a socket type of its own")
async def test_socket_of_a_transport_is_the_stdlib_s(loop):
    """R57: asyncio.trsock.TransportSocket; R33: fileno() is -1 after connection_lost."""
    from asyncio import trsock
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


@pytest.mark.known_difference("asyncio", "takes that of resume_reading()", until=(3, 14))
async def test_read_callbacks_share_one_context(loop, protocol_class):
    """R58: data_received() sees the variables that the previous call set, also after a pause."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def note(protocol, _):
        seen.append(variable.get())
        variable.set(f"set by call {len(seen)}")

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
        assert seen[2] == "set by call 2"


# -- private names -------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "has no private names of asyncio's")
async def test_private_names_that_the_stdlib_reads_are_there(loop):
    """Section 1.3: read by sendfile, start_tls and by libraries."""
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


@pytest.mark.known_difference("uvloop", "keeps transports elsewhere")
async def test_unclosed_transport_warns_and_closes(loop):
    """R61: ResourceWarning 'unclosed transport', descriptor closed."""
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


# -- fairness and volume -------------------------------------------------------------------------


@pytest.mark.time_limit(30)
async def test_large_transfer_both_ways_at_once(loop, kind, protocol_class):
    """R90: 16 MiB each way over one connection, with flow control."""
    data = os.urandom(MIB) * 16
    protocol = protocol_class(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        sending = asyncio.ensure_future(send(far, data))
        receiving = asyncio.ensure_future(receive(far, len(data)))
        transport.write(data)
        assert await receiving == data
        await sending
        assert await protocol.received(len(data)) == data


@pytest.mark.time_limit(30)
async def test_fast_sender_does_not_starve_other_connections(loop):
    """R90: no connection owns a turn."""
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


async def test_short_reads_then_more_data_are_never_lost(loop, kind, protocol_class):
    """Edge: bytes that arrive right after a short read cause another event."""
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


@pytest.mark.time_limit(30)
async def test_hundreds_of_connections_echo(loop):
    """R90: 300 at once, several rounds."""

    def echo(protocol, data):
        protocol.transport.write(data)

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


@pytest.mark.skipif(sys.platform == "win32", reason="Unix")
async def test_small_buffers_and_tiny_reads_survive(loop):
    """R52, R53: a slow reader that pauses at random, and a writer that waits for it."""
    data = os.urandom(400_000)
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


async def test_bytes_behind_passed_descriptors_arrive(loop):
    """R53: recv(2) stops at a message with SCM_RIGHTS, though more is waiting (unix(7))."""
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
