"""Many connections that are ready at once, with plain sockets at their far ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile

from tests.support.connections import socket_pair
from tests.support.protocols import Recorder

COUNT = 70              # more than are served together


class Crowd:
    """Connections whose far ends are plain sockets."""

    def __init__(self, loop, protocols, fars, numbers):
        self.loop, self.protocols, self.fars = loop, protocols, fars
        self.numbers = numbers      # the loop's descriptors, if its sockets were given to it

    def send(self, data=b"request"):
        """All at once, so that one poll finds all of them."""
        for far in self.fars:
            far.sendall(data)

    def others(self, protocol):
        return [other for other in self.protocols if other is not protocol]

    async def answers(self, size):
        """Return the bytes that each far end received, when each has at least *size* of them."""
        found = [b""] * len(self.fars)
        for _ in range(2000):
            for i, far in enumerate(self.fars):
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    found[i] += far.recv(65536)
            if all(len(data) >= size for data in found):
                return found
            await asyncio.sleep(0.001)
        raise AssertionError(f"answers are missing: {[len(data) for data in found]}")

    async def received(self, size):
        for protocol in self.protocols:
            await protocol.received(size)
        return [bytes(protocol.data) for protocol in self.protocols]


@contextlib.asynccontextmanager
async def crowd(loop, kind="tcp", make=Recorder, count=COUNT, accepted=True, **hooks):
    """Connections made by `make(loop, **hooks)`; every hook is given the protocol first.

    accepted: by a server of the loop; otherwise the loop is given their sockets.
    """
    protocols, fars, numbers = [make(loop, **hooks) for _ in range(count)], [], []
    unconnected = iter(protocols)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        if kind == "unix":
            server = await loop.create_unix_server(lambda: next(unconnected), f"{directory}/crowd")
        else:
            server = await loop.create_server(lambda: next(unconnected), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for protocol in protocols:
            if accepted:
                far = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
                far.connect(address)
                await protocol.made
            else:
                near, far = socket_pair(kind)
                numbers.append(near.fileno())
                await loop.create_connection(lambda: next(unconnected), sock=near)
                del near                # the loop's alone from here on
            far.setblocking(False)
            fars.append(stack.enter_context(far))
        server.close()
        try:
            yield Crowd(loop, protocols, fars, numbers)
        finally:
            for protocol in protocols:
                if not protocol.lost.done():
                    protocol.transport.abort()
                await protocol.closed()


def once(action):
    """Return a hook that acts at its first call only, and the list of protocols that called it."""
    called = []

    def hook(protocol, *args):
        if not called:
            called.append(protocol)
            action(protocol)

    return hook, called
