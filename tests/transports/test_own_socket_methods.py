"""Sockets of a program's own class: the methods that the class defines are called, R99."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from unittest import mock

import pytest

from tests.support.connections import receive_all, send, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder

pytestmark = pytest.mark.known_difference(
    "uvloop", "uses the descriptor, not the socket's methods"
)


class Counted(socket.socket):
    """Notes the calls of its methods."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def recv(self, *args):
        self.calls.append("recv")
        return super().recv(*args)

    def recv_into(self, *args):
        self.calls.append("recv_into")
        return super().recv_into(*args)

    def recvfrom(self, *args):
        self.calls.append("recvfrom")
        return super().recvfrom(*args)

    def send(self, *args):
        self.calls.append("send")
        return super().send(*args)

    def sendmsg(self, *args):
        self.calls.append("sendmsg")
        return super().sendmsg(*args)

    def sendto(self, *args):
        self.calls.append("sendto")
        return super().sendto(*args)

    def shutdown(self, how):
        self.calls.append("shutdown")
        return super().shutdown(how)

    def accept(self):
        self.calls.append("accept")
        return super().accept()


class WithAttributes(socket.socket):
    """Defines no method of its own, but can take them on one object."""


def counted_pair(cls=Counted):
    near, far = socket_pair("tcp")
    near = cls(fileno=near.detach())
    near.setblocking(False)
    return near, far


async def test_stream_calls_recv_and_send_of_its_socket(loop):
    """R99: a class that counts bytes or delays them sees each call."""
    near, far = counted_pair()
    with far:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"ping")
        assert await protocol.received(4) == b"ping"
        assert near.calls == ["recv"]
        transport.write(b"pong")
        assert near.calls == ["recv", "send"]
        transport.write_eof()
        assert near.calls == ["recv", "send", "shutdown"]
        assert await receive_all(far) == b"pong"
        transport.close()
        assert await protocol.closed() is None
        assert near.fileno() == -1


async def test_stream_calls_recv_into_of_its_socket(loop):
    """R99: for a protocol with a buffer of its own."""
    near, far = counted_pair()
    with far:
        protocol = BufferedRecorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"ping")
        assert await protocol.received(4) == b"ping"
        assert near.calls == ["recv_into"]
        transport.abort()
        await protocol.closed()


async def test_stream_calls_a_method_that_is_set_on_its_socket(loop):
    """R99: on one object instead of its class."""
    near, far = counted_pair(WithAttributes)
    sizes = []
    recv = near.recv
    near.recv = lambda size: (sizes.append(size), recv(size))[1]
    with far:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"ping")
        assert await protocol.received(4) == b"ping"
        assert len(sizes) == 1
        transport.abort()
        await protocol.closed()


async def test_exception_of_the_sockets_own_method_ends_the_stream(loop):
    """R46: connection_lost() gets it."""
    near, far = counted_pair(WithAttributes)

    def recv(size):
        raise ConnectionResetError("by the class")

    near.recv = recv
    with far:
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"ping")
        assert str(await protocol.closed()) == "by the class"


async def test_tls_calls_recv_and_send_of_its_socket(loop, tls):
    """R99: the records go through them, in both directions and to the end."""

    async def serve(reader, writer):
        writer.write((await reader.readexactly(4)) * 100_000)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server)
    sock = Counted()
    sock.connect(server.sockets[0].getsockname())
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=tls.client, server_hostname="localhost"
    )
    writer.write(b"ping")
    assert await reader.read() == b"ping" * 100_000
    writer.close()
    await writer.wait_closed()
    server.close()
    assert {"send"} < set(sock.calls) < {"send", "sendmsg", "recv", "recv_into", "shutdown"}


async def test_datagram_transport_calls_recvfrom_and_sendto_of_its_socket(loop):
    """R99: for datagrams."""
    sock = Counted(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    received = loop.create_future()

    class Echo(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            received.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Echo, sock=sock)
    transport.sendto(b"ping", sock.getsockname())
    assert await asyncio.wait_for(received, 5) == b"ping"
    assert sock.calls == ["sendto", "recvfrom"]
    transport.close()


async def test_server_calls_accept_of_its_socket(loop):
    """R99: a class that accepts connections in its own way."""
    sock = Counted()
    sock.bind(("127.0.0.1", 0))

    async def serve(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    server = await asyncio.start_server(serve, sock=sock)
    address = sock.getsockname()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"ping")
    assert await reader.read() == b"ping"
    assert "accept" in sock.calls
    writer.close()
    server.close()
    with pytest.raises(OSError):
        await asyncio.open_connection(*address)


async def test_file_is_sent_through_a_socket_of_an_own_class(loop):
    """R74: sendfile() works on such a transport, and what is written after it comes after it."""
    near, far = counted_pair()
    with far, tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.flush()
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        reader = asyncio.ensure_future(receive_all(far))
        assert await loop.sendfile(transport, file) == 100_000
        transport.write(b"end")
        transport.close()
        assert await reader == b"x" * 100_000 + b"end"
        assert await protocol.closed() is None


def test_mock_of_a_socket_has_no_methods_of_its_own():
    """R99: CPython's own tests make transports of mocks, which say that they are sockets."""
    from mioloop.loop.own_methods import defines

    mocked = mock.MagicMock(spec=socket.socket)
    assert isinstance(mocked, socket.socket)
    assert not defines(mocked, "recv", "recvfrom", "accept")
