"""A peer that resets the connection, or is simply gone, in every state of a stream: R45, R46.

In every state connection_lost() comes once and last, with an OSError or None. The exception handler
is not called, and every waiting caller is woken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import tempfile

import pytest

from tests.support.connections import (
    connection,
    receive,
    receive_all,
    reset,
    small_buffers,
    socket_pair,
)
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

MIB = 1 << 20
GONE = (ConnectionResetError, BrokenPipeError)


def vanish(sock):
    """Close with bytes unread or the other side still writing: it is told by a RST or EPIPE."""
    sock.close()


@pytest.fixture(params=[reset, vanish], ids=["reset", "close"])
def go(request):
    """How the far end goes."""
    return request.param


@pytest.fixture(params=[Recorder, BufferedRecorder], ids=["protocol", "buffered"])
def protocol_class(request):
    return request.param


def assert_ended_once(protocol):
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls.count("eof_received") <= 1


def assert_paused_and_resumed(protocol):
    """A pause_writing() that nothing follows may only be the last."""
    flow = [call for call in protocol.calls if call.endswith("_writing")]
    assert flow == ["pause_writing", "resume_writing"] * (len(flow) // 2) + flow[:1] * (
        len(flow) % 2
    )


async def test_gone_before_connection_made(loop, protocol_class, go):
    """R45, R46: connection_made() is still called, and connection_lost() after it."""
    near, far = socket_pair("tcp")
    go(far)
    protocol = protocol_class(loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    exc = await protocol.closed()
    assert isinstance(exc, ConnectionResetError if go is reset else type(None))
    assert transport.is_closing()
    assert_ended_once(protocol)


async def test_gone_while_connection_made_writes(loop, protocol_class, go):
    """R46, R52: a write of much more than the socket takes, to a peer that is gone."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    go(far)
    protocol = protocol_class(
        loop, connection_made=lambda protocol, transport: transport.write(b"x" * MIB)
    )
    await loop.create_connection(lambda: protocol, sock=near)
    assert isinstance(await protocol.closed(), GONE)
    assert_ended_once(protocol)


@pytest.mark.parametrize(
    "then",
    [
        "resume_reading",
        pytest.param(
            "write", marks=pytest.mark.known_difference("uvloop", "raises after the end")
        ),
        "close",
        "abort",
        pytest.param("write_eof", marks=pytest.mark.known_difference("asyncio", "raises")),
    ],
)
async def test_gone_while_paused(loop, protocol_class, go, then):
    """R46, R53: the loss is noticed at the next call, by each method."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.pause_reading()
        transport.write(b"unread")
        await turns()
        go(far)
        await turns()
        if then == "write":
            for _ in range(3):
                transport.write(b"to nobody")
                await turns()
        else:
            getattr(transport, then)()
        transport.resume_reading()
        exc = await protocol.closed()
        asked_to_end = then in ("close", "abort")
        assert isinstance(exc, type(None) if asked_to_end else (*GONE, type(None)))
        assert_ended_once(protocol)


@pytest.mark.parametrize("reading", [True, False])
async def test_gone_while_bytes_are_buffered(loop, protocol_class, go, reading):
    """R46: they are dropped; the size of the buffer says so afterwards."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        if not reading:
            transport.pause_reading()
        transport.write(b"x" * 4 * MIB)
        assert transport.get_write_buffer_size() > 0
        go(far)
        assert isinstance(await protocol.closed(), GONE)
        assert transport.get_write_buffer_size() == 0
        assert_ended_once(protocol)
        assert_paused_and_resumed(protocol)


async def test_gone_while_closing(loop, protocol_class, go):
    """R46, R48: close() had been called, and there was something left to send."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.write(b"x" * 4 * MIB)
        transport.close()
        await turns()
        assert not protocol.lost.done()
        go(far)
        assert isinstance(await protocol.closed(), GONE)
        assert_ended_once(protocol)


async def test_gone_after_our_half_close(loop, protocol_class, go):
    """R46, R54: after write_eof() the peer sends a reset, or its end of file."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol) as (transport, far):
        transport.write(b"x")
        transport.write_eof()
        assert await receive_all(far) == b"x"
        go(far)
        exc = await protocol.closed()
        assert isinstance(exc, ConnectionResetError if go is reset else type(None))
        assert_ended_once(protocol)


async def test_gone_while_our_half_close_waits_for_the_buffer(loop, protocol_class, go):
    """R46, R54: write_eof() with bytes left to send."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, small=True) as (transport, far):
        transport.write(b"x" * 4 * MIB)
        transport.write_eof()
        await turns()
        go(far)
        assert isinstance(await protocol.closed(), GONE)
        assert_ended_once(protocol)


async def test_gone_after_the_peer_s_half_close(loop, protocol_class, go):
    """R46, R54: eof_received() kept the write side; writing finds out."""
    protocol = protocol_class(loop, eof_received=lambda protocol: True)
    async with connection(loop, protocol) as (transport, far):
        far.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        transport.write(b"unread")
        go(far)
        for _ in range(100):
            if protocol.lost.done():
                break
            transport.write(b"to nobody")
            await turns(1)
        assert isinstance(await protocol.closed(), GONE)
        assert_ended_once(protocol)


@pytest.mark.known_difference("uvloop", "raises after the end")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("writing", ["write", "writelines"])
async def test_gone_between_two_writes_of_one_callback(loop, protocol_class, kind, writing):
    """R46, R59: nothing is raised at the caller."""
    protocol = protocol_class(loop)
    async with connection(loop, protocol, kind) as (transport, far):
        transport.write(b"unread")
        await turns()
        far.close()
        for _ in range(3):
            transport.write(b"a") if writing == "write" else transport.writelines([b"a", b"b"])
        await turns()
        transport.write(b"b")
        assert isinstance(await protocol.closed(), (*GONE, type(None)))
        assert_ended_once(protocol)


@pytest.mark.known_difference("uvloop", "not implemented", run=False)
@pytest.mark.parametrize("fallback", [True, False])
async def test_gone_during_sendfile(loop, go, fallback):
    """R46, R74: the caller is told, and then the protocol."""
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * MIB)
        protocol = Recorder(loop)
        async with connection(loop, protocol, small=True) as (transport, far):
            sending = asyncio.ensure_future(
                loop.sendfile(transport, file, fallback=fallback)
            )
            await turns()
            assert not sending.done()
            go(far)
            with pytest.raises(OSError) as raised:
                await sending
            assert raised.value.errno in (errno.EPIPE, errno.ECONNRESET)
            assert 0 < file.tell() < 8 * MIB
            assert isinstance(await protocol.closed(), (*GONE, type(None)))
            assert_ended_once(protocol)


@pytest.mark.known_difference("uvloop", "not implemented", run=False)
async def test_gone_before_sendfile(loop, go):
    """R46, R74: nothing could be sent: an error, whichever way it is tried."""
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * MIB)
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, far):
            transport.pause_reading()
            transport.write(b"unread")
            go(far)
            with pytest.raises(ConnectionError):
                await loop.sendfile(transport, file)
            transport.resume_reading()
            assert isinstance(await protocol.closed(), (*GONE, type(None)))
            assert_ended_once(protocol)


# -- TLS -----------------------------------------------------------------------------------------


@pytest.mark.known_difference("uvloop", "start_tls() returns, by chance", strict=False)
@pytest.mark.parametrize("when", ["at once", "in the handshake"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_gone_during_start_tls(loop, tls, go, when, side):
    """R46, R69: start_tls() raises, the new protocol is not told of a connection."""
    protocol = Recorder(loop)
    upgraded = Recorder(loop)
    near, far = socket_pair("tcp")
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        if when == "at once":
            go(far)
        upgrading = asyncio.ensure_future(
            loop.start_tls(
                transport,
                upgraded,
                tls.server if side == "server" else tls.client,
                server_side=side == "server",
                server_hostname=None if side == "server" else "localhost",
            )
        )
        if when == "in the handshake":
            if side == "client":
                assert await receive(far, 5)  # of its hello, the rest is unread
            else:
                far.sendall(b"\x16\x03\x01\x02\x00")  # the first bytes of one
            await turns()
            go(far)
        with pytest.raises((OSError, ssl.SSLError)):
            await upgrading
        assert transport.is_closing()
        await turns()
        assert upgraded.calls in ([], ["connection_lost"])


@contextlib.asynccontextmanager
async def tls_client(loop, tls, protocol):
    """Our client of a TLS server that sits in a thread; the server's socket."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    accepting = loop.run_in_executor(
        None, lambda: tls.server.wrap_socket(far, server_side=True, suppress_ragged_eofs=False)
    )
    await loop.create_connection(
        lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
    )
    with await accepting as secure:
        yield secure
    if not protocol.lost.done():
        protocol.transport.abort()
    await protocol.closed()


@pytest.mark.parametrize("state", ["idle", "paused", "buffered", "closing"])
async def test_gone_while_tls_is_spoken(loop, tls, go, state):
    """R46, R66: without a close_notify."""
    protocol = Recorder(loop)
    async with tls_client(loop, tls, protocol) as far:
        transport = protocol.transport
        if state == "paused":
            transport.pause_reading()
        elif state != "idle":
            transport.write(b"x" * 4 * MIB)
            await turns()
        if state == "closing":
            transport.close()
        go(far)
        if state == "paused":
            await turns()
            transport.resume_reading()
        assert isinstance(await protocol.closed(), (OSError, type(None)))
        assert_ended_once(protocol)


# -- servers, sock_*() and pipes -----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 300])
async def test_reset_between_connect_and_accept(loop, count):
    """R45, R46: an accepted connection that is dead already; the server serves on."""
    protocols = []

    def factory():
        protocols.append(Recorder(loop))
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=512)
    address = server.sockets[0].getsockname()
    for _ in range(count):
        reset(socket.create_connection(address))
    with socket.create_connection(address) as alive:
        alive.settimeout(5)
        alive.sendall(b"hello")
        while not (protocols and protocols[-1].data == b"hello"):
            await turns(1)
        assert len(protocols) == count + 1
        for protocol in protocols[:-1]:
            assert isinstance(await protocol.closed(), ConnectionResetError)
            assert_ended_once(protocol)
    assert await protocols[-1].closed() is None
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop, near: loop.sock_recv(near, 10),
        lambda loop, near: loop.sock_recv_into(near, bytearray(10)),
        lambda loop, near: loop.sock_sendall(near, b"x" * 8 * MIB),
    ],
    ids=["sock_recv", "sock_recv_into", "sock_sendall"],
)
async def test_reset_under_a_waiting_sock_call(loop, call):
    """R30, R32: ConnectionResetError, or BrokenPipeError for a writer."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with near:
        waiting = asyncio.ensure_future(call(loop, near))
        await turns()
        assert not waiting.done()
        reset(far)
        with pytest.raises(GONE):
            await waiting


@pytest.mark.parametrize("state", ["idle", "buffered", "closing"])
async def test_reader_of_a_pipe_goes(loop, state):
    """R76: BrokenPipeError if bytes were unsent, None if not."""
    read_end, write_end = os.pipe()
    protocol = Recorder(loop)
    pipe = os.fdopen(write_end, "wb", 0)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
    if state != "idle":
        transport.write(b"x" * MIB)
        await turns()
    if state == "closing":
        transport.close()
        await turns()
    os.close(read_end)
    exc = await protocol.closed()
    assert exc is None if state == "idle" else isinstance(exc, BrokenPipeError)
    assert_ended_once(protocol)
