"""Peers that stop reading, or send and take a byte at a time: R47, R52, R90.

Bytes that a peer does not take stay with their producer: a protocol that heeds pause_writing()
never has more than the high mark and one write in memory.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import ssl
import threading
import tracemalloc

import pytest

from tests.support.connections import connection, receive, receive_all, small_buffers, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

MIB = 1 << 20
WRITE_BYTES = 50_000
MOST_BYTES = 20_000_000  # a loop that never pauses accepts as much at once


class Producer(Recorder):
    """Writes without end while it may, and notes the most that was ever unsent."""

    def __init__(self, loop, make_write=lambda transport: transport.write(b"x" * WRITE_BYTES)):
        super().__init__(loop)
        self.make_write = make_write
        self.paused = False
        self.written = 0
        self.most_unsent = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        self.produce()

    def produce(self):
        limit = self.written + MOST_BYTES
        while not self.paused and self.written < limit and not self.transport.is_closing():
            self.make_write(self.transport)
            self.written += WRITE_BYTES
            self.most_unsent = max(self.most_unsent, self.transport.get_write_buffer_size())

    def pause_writing(self):
        super().pause_writing()
        self.paused = True

    def resume_writing(self):
        super().resume_writing()
        self.paused = False
        self.loop.call_soon(self.produce)


def writelines(transport):
    transport.writelines([b"x" * (WRITE_BYTES // 10)] * 10)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "make_write",
    [
        pytest.param(lambda t: t.write(b"x" * WRITE_BYTES), id="write"),
        pytest.param(
            writelines,
            id="writelines",
            marks=pytest.mark.known_difference(
                "asyncio", "never pauses", since=(3, 12), run=False
            ),
        ),
    ],
)
@pytest.mark.parametrize("high", [None, 0, 1000, MIB])
async def test_peer_that_stops_reading_holds_up_a_protocol(loop, kind, make_write, high):
    """R52: at most the high mark and one write are unsent; all of it arrives in the end."""
    protocol = Producer(loop, make_write)
    protocol.paused = True  # until the marks are set
    async with connection(loop, protocol, kind, small=True) as (transport, far):
        if high is not None:
            transport.set_write_buffer_limits(high=high)
        _, high_mark = transport.get_write_buffer_limits()
        protocol.resume_writing()
        for _ in range(5):  # it reads a little, and stops again
            await protocol.until(lambda: protocol.paused)
            await turns()
            await receive(far, 300_000)
        assert protocol.most_unsent <= high_mark + WRITE_BYTES
        await protocol.until(lambda: protocol.paused)
        transport.close()
        assert len(await receive_all(far)) + 1_500_000 == protocol.written


async def test_peer_that_stops_reading_holds_up_a_stream_writer(loop):
    """R52: drain() waits; the writer has no more than the mark and one write."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        _, writer = await asyncio.open_connection(sock=near)
        _, high = writer.transport.get_write_buffer_limits()
        most = written = 0

        async def produce():
            nonlocal most, written
            while True:
                writer.write(b"x" * WRITE_BYTES)
                written += WRITE_BYTES
                most = max(most, writer.transport.get_write_buffer_size())
                await writer.drain()

        producing = asyncio.ensure_future(produce())
        await turns()
        before = written
        await turns()
        assert before == written
        assert most <= high + WRITE_BYTES
        producing.cancel()
        writer.close()
        assert len(await receive_all(far)) == written


async def test_peer_that_stops_reading_holds_up_tls(loop, tls):
    """R52: the plain text that is kept and the records made from it each have their marks."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        accepting = loop.run_in_executor(
            None, lambda: tls.server.wrap_socket(far, server_side=True)
        )
        protocol = Producer(loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
        with await accepting:
            _, high = transport.get_write_buffer_limits()
            await protocol.until(lambda: protocol.paused)
            await turns()
            written = protocol.written
            await turns()
            assert protocol.written == written
            assert protocol.most_unsent <= high + WRITE_BYTES
            transport.abort()
            await protocol.closed()


async def test_reader_that_stops_holds_up_a_write_pipe(loop):
    """R52, R76: as for a socket."""
    read_end, write_end = os.pipe()
    protocol = Producer(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(write_end, "wb"))
    _, high = transport.get_write_buffer_limits()
    await protocol.until(lambda: protocol.paused)
    await turns()
    assert protocol.most_unsent <= high + WRITE_BYTES
    transport.abort()
    await protocol.closed()
    os.close(read_end)


async def over_socket(loop, tls, protocol, kind):
    near, far = socket_pair(kind)
    small_buffers(near, far)
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    return transport, far.close


async def over_tls(loop, tls, protocol):
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    accepting = loop.run_in_executor(None, lambda: tls.server.wrap_socket(far, server_side=True))
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
    )
    return transport, (await accepting).close


async def over_pipe(loop, tls, protocol):
    read_end, write_end = os.pipe()
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(write_end, "wb"))
    return transport, lambda: os.close(read_end)


BELOW_TLS_BYTES = 2 * 65536 + 20_000  # the socket's own mark, a piece, and its record


@pytest.mark.parametrize("data_type", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(functools.partial(over_socket, kind="tcp"), id="tcp"),
        pytest.param(functools.partial(over_socket, kind="unix"), id="unix"),
        pytest.param(over_tls, id="tls"),
        pytest.param(over_pipe, id="pipe"),
    ],
)
async def test_peer_that_stops_reading_costs_no_more_memory_than_the_mark_and_a_write(
    loop, loop_kind, tls, connect, data_type
):
    """R52: measured by the memory allocator, not by the transport's own report."""
    protocol = Producer(loop, lambda t: t.write(data_type(bytes(WRITE_BYTES))))
    protocol.paused = True  # until all is ready
    transport, close_far = await connect(loop, tls, protocol)
    transport.set_write_buffer_limits(high=MIB)
    await turns()
    gc.collect()
    tracemalloc.start()
    try:
        protocol.resume_writing()
        await protocol.until(lambda: protocol.paused)
        await turns()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert protocol.written > MIB
    below = BELOW_TLS_BYTES if connect is over_tls else 0
    if loop_kind.name == "asyncio":
        below += MIB // 8  # a bytearray has room to grow
    copying = 2 * WRITE_BYTES  # the caller's own, while its bytes are copied
    assert most_bytes < MIB + WRITE_BYTES + below + copying + 20_000
    transport.abort()
    await protocol.closed()
    close_far()


@pytest.mark.parametrize("data_type", [bytes, bytearray, memoryview])
async def test_sock_sendall_to_a_peer_that_stops_reading_keeps_no_copy(loop, data_type):
    """R30, R52: the caller's data is all there is."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    data = data_type(bytes(32 * MIB))
    with near, far:
        tracemalloc.start()
        try:
            sending = asyncio.ensure_future(loop.sock_sendall(near, data))
            await turns()
            assert not sending.done()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < MIB
        sending.cancel()
        await asyncio.wait([sending])


@pytest.mark.parametrize("receiver", [Recorder, BufferedRecorder])
async def test_paused_protocol_holds_up_its_peer(loop, receiver):
    """R53: the transport reads nothing ahead; the system's buffer is the only one."""
    protocol = receiver(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.pause_reading()
        far.setblocking(False)
        sent = 0
        for _ in range(100):
            try:
                sent += far.send(b"x" * 65536)
            except BlockingIOError:
                await turns(1)
        assert protocol.data == b"" and sent < 2 * MIB
        transport.resume_reading()
        assert len(await protocol.received(sent)) == sent


# -- a byte at a time ----------------------------------------------------------------------------

BYTES = bytes(range(256)) * 4


def send_bytewise(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(len(BYTES)):
        sock.sendall(BYTES[i : i + 1])
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "make", [Recorder, BufferedRecorder, lambda loop: BufferedRecorder(loop, size=1)]
)
async def test_peer_that_sends_a_byte_at_a_time(loop, make):
    """R45, R56: all of them, in order, then the end."""
    protocol = make(loop)
    async with connection(loop, protocol) as (_, far):
        await loop.run_in_executor(None, send_bytewise, far)
        assert await protocol.closed() is None
        assert protocol.data == BYTES
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_peer_that_takes_a_byte_at_a_time(loop):
    """R52: a buffer that drains by single bytes."""
    near, far = socket_pair("unix")
    small_buffers(near, far)
    protocol = Recorder(loop)
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        for byte in BYTES:
            transport.write(bytes([byte]))
            await asyncio.sleep(0)
        transport.close()

        def take():
            return b"".join(iter(lambda: far.recv(1), b""))

        assert await loop.run_in_executor(None, take) == BYTES
        assert await protocol.closed() is None


async def test_sock_calls_with_a_byte_at_a_time(loop):
    """R30: recv(1), and sends of one."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)

        async def send():
            for byte in BYTES:
                await loop.sock_sendall(near, bytes([byte]))

        sending = asyncio.ensure_future(send())
        taken = b"".join([await loop.sock_recv(far, 1) for _ in BYTES])
        await sending
        assert taken == BYTES


def dribble(source, sink):
    """Pass everything on, a byte at a time."""
    try:
        while data := source.recv(65536):
            for byte in data:
                sink.sendall(bytes([byte]))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.time_limit(20)
async def test_tls_records_that_arrive_a_byte_at_a_time(loop, tls):
    """R66, R69: handshake, data and the end, in both directions."""
    near, middle_near = socket_pair("tcp")
    middle_far, far = socket_pair("tcp")
    middle_far.setblocking(True)
    for sock in (middle_near, middle_far):
        sock.settimeout(10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    relays = [
        threading.Thread(target=dribble, args=pair)
        for pair in ((middle_near, middle_far), (middle_far, middle_near))
    ]
    for relay in relays:
        relay.start()

    def echo():
        with tls.server.wrap_socket(far, server_side=True) as secure:
            data = b""
            while len(data) < len(BYTES):
                data += secure.recv(65536)
            secure.sendall(data)
            try:
                secure.unwrap()
            except (OSError, ssl.SSLError):
                pass

    echoing = loop.run_in_executor(None, echo)
    protocol = Recorder(loop)
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
    )
    transport.write(BYTES)
    assert await protocol.received(len(BYTES)) == BYTES
    await protocol.closed()
    await echoing
    await turns()
    for relay in relays:
        await loop.run_in_executor(None, relay.join, 10)
    for sock in (middle_near, middle_far):
        sock.close()
