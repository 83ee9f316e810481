"""Connections of the loop under test to plain sockets that the test holds.

The far end of a connection is a plain blocking socket that a thread uses, so a fault of the loop
under test cannot change the behaviour of the far end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

from tests.support.protocols import PEER_TIMEOUT_S, Recording


def socket_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    """Two connected stream sockets: of TCP on the loopback device, or a Unix pair."""
    if kind == "unix":
        near, far = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(PEER_TIMEOUT_S)
    return near, far


def nonblocking_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected Unix sockets, neither of which blocks."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def small_buffers(*sockets: socket.socket) -> None:
    """So that little data suffices to fill a connection."""
    for sock in sockets:
        # Not smaller: a TCP window below a segment of the loopback device waits for timers.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def reset(sock: socket.socket) -> None:
    """Close with a TCP RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.asynccontextmanager
async def connection(
    loop: asyncio.AbstractEventLoop, protocol: Any, kind: str = "tcp", small: bool = False
) -> AsyncIterator[tuple[Any, socket.socket]]:
    """The protocol's transport, and the far socket; both are closed at the end."""
    near, far = socket_pair(kind)
    if small:
        small_buffers(near, far)
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        try:
            yield transport, far
        finally:
            if not isinstance(protocol, Recording):
                transport.abort()
            else:
                if not protocol.lost.done():
                    transport.abort()
                await protocol.closed()
            far.close()


@contextlib.asynccontextmanager
async def accepted_connection(
    loop: asyncio.AbstractEventLoop, protocol: Recording
) -> AsyncIterator[tuple[Any, socket.socket]]:
    """As connection(), but a server of the loop accepts the transport."""
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as far:
        far.settimeout(PEER_TIMEOUT_S)
        await protocol.made
        try:
            yield protocol.transport, far
        finally:
            if not protocol.lost.done():
                protocol.transport.abort()
            await protocol.closed()
            server.close()


async def receive(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes."""

    def work() -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = sock.recv(min(65536, count - len(data)))
            assert chunk, f"end of file after {len(data)} of {count} bytes"
            data += chunk
        return bytes(data)

    return await asyncio.get_running_loop().run_in_executor(None, work)


async def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end of file."""

    def work() -> bytes:
        data = bytearray()
        while chunk := sock.recv(65536):
            data += chunk
        return bytes(data)

    return await asyncio.get_running_loop().run_in_executor(None, work)


async def send(sock: socket.socket, data: bytes) -> None:
    """All of it, however slowly it is taken."""
    await asyncio.get_running_loop().run_in_executor(None, sock.sendall, data)


async def receive_exactly(loop, sock, count):
    """*count* bytes from a socket that does not block, received by *loop*.sock_recv()."""
    data = bytearray()
    while len(data) < count:
        chunk = await loop.sock_recv(sock, 1 << 16)
        assert chunk, f"end of file after {len(data)} bytes"
        data += chunk
    return bytes(data)
