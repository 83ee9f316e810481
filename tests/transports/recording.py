"""Protocols that write down their calls, and connections to sockets that the test holds.

The far end of a connection is a plain blocking socket, used in a thread: whatever the loop under
test does wrong, the far end is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

PEER_TIMEOUT_S = 5.0
Hook = Callable[..., Any]


class Recording(asyncio.BaseProtocol):
    """Notes each call; then calls the hook of that name, with itself and the call's arguments."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **hooks: Hook) -> None:
        self.loop = loop
        self.hooks = hooks
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.made: asyncio.Future[None] = loop.create_future()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()

    def _note(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        hook = self.hooks.get(name)
        return None if hook is None else hook(self, *args)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.done() or self.made.set_result(None)
        self._note("connection_made", transport)

    def eof_received(self) -> Any:
        self.eof.done() or self.eof.set_result(None)
        return self._note("eof_received")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.done() or self.lost.set_result(exc)
        self._note("connection_lost", exc)

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    async def until(self, condition: Callable[[], object], what: str = "a condition") -> None:
        """Return once the condition is true; it is looked at every turn or so."""
        give_up = self.loop.time() + PEER_TIMEOUT_S
        while not condition():
            assert self.loop.time() < give_up, f"waited too long for {what}; calls: {self.calls}"
            await asyncio.sleep(0.001)

    async def received(self, count: int) -> bytes:
        """All data so far, once it is at least `count` bytes."""
        await self.until(lambda: len(self.data) >= count, f"{count} bytes")
        return bytes(self.data)

    async def closed(self) -> BaseException | None:
        """What connection_lost was given."""
        return await asyncio.wait_for(asyncio.shield(self.lost), PEER_TIMEOUT_S)


class Recorder(Recording, asyncio.Protocol):
    """Is given its data."""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data_received", data)


class BufferedRecorder(Recording, asyncio.BufferedProtocol):
    """Reads into a buffer of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int = 65536, **hooks: Hook) -> None:
        super().__init__(loop, **hooks)
        self.buffer = bytearray(size)
        self.size_hints: list[int] = []

    def get_buffer(self, sizehint: int) -> Any:
        self.size_hints.append(sizehint)
        hook = self.hooks.get("get_buffer")
        return self.buffer if hook is None else hook(self, sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self._note("buffer_updated", nbytes)


# -- the far end -----------------------------------------------------------------------------------


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


async def turns(count: int = 5) -> None:
    """A few turns of the loop, each of which polls."""
    for _ in range(count):
        await asyncio.sleep(0.001)
