"""A datagram protocol that records its calls, and far ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tests.support.waiting import PAUSE_S, turns, until

PEER_TIMEOUT_S = 10.0


class DatagramRecorder(asyncio.DatagramProtocol):
    """Records its calls, and the datagrams and errors that it received."""

    def __init__(self, loop, **hooks):
        self.loop, self.hooks = loop, hooks
        self.calls, self.received, self.errors = [], [], []
        self.lost = loop.create_future()

    def _note(self, name, *args):
        self.calls.append(name)
        if name in self.hooks:
            self.hooks[name](self, *args)

    def connection_made(self, transport):
        self.transport = transport
        self._note("connection_made")

    def datagram_received(self, data, address):
        self.received.append((data, address))
        self._note("datagram_received", data, address)

    def error_received(self, error):
        self.errors.append(error)
        self._note("error_received", error)

    def pause_writing(self):
        self._note("pause_writing")

    def resume_writing(self):
        self._note("resume_writing")

    def connection_lost(self, error):
        self.lost.set_result(error)
        self._note("connection_lost", error)

    async def until(self, condition):
        """Return when *condition* is true."""
        await until(condition, pause_s=PAUSE_S, describe=lambda: f"; calls: {self.calls}")

    async def count(self, count):
        """The data of all datagrams so far, once there are `count`."""
        await self.until(lambda: len(self.received) >= count)
        return [data for data, _ in self.received]

    async def closed(self):
        """Return the argument of connection_lost()."""
        return await asyncio.wait_for(asyncio.shield(self.lost), PEER_TIMEOUT_S)


async def endpoint(loop, remote=None, family=socket.AF_INET, **hooks):
    """A datagram transport's protocol, bound to a port of its own or connected."""
    local = ("127.0.0.1", 0) if remote is None else None
    _, protocol = await loop.create_datagram_endpoint(
        lambda: DatagramRecorder(loop, **hooks), local_addr=local, remote_addr=remote, family=family
    )
    protocol.address = protocol.transport.get_extra_info("sockname")
    return protocol


async def close(*protocols):
    for protocol in protocols:
        protocol.transport.close()
        await asyncio.wait_for(asyncio.shield(protocol.lost), 5)
    await turns(2)


@contextlib.asynccontextmanager
async def opened(loop, protocol=None, **options):
    """A transport and its protocol; closed at the end."""
    protocol = protocol or DatagramRecorder(loop)
    transport, returned = await loop.create_datagram_endpoint(lambda: protocol, **options)
    assert returned is protocol
    try:
        yield transport, protocol
    finally:
        transport.abort()
        await protocol.closed()


def far_socket(family=socket.AF_INET):
    """The far end: a plain blocking socket."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(PEER_TIMEOUT_S)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    return sock


async def recvfrom(sock):
    return await asyncio.get_running_loop().run_in_executor(None, sock.recvfrom, 65536)


@contextlib.asynccontextmanager
async def unix_pair(loop, protocol):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    far.settimeout(PEER_TIMEOUT_S)
    with far:
        async with opened(loop, protocol, sock=near) as (transport, _):
            yield transport, far


def fill(transport, size=1000):
    """How many datagrams were given to the transport until one waits."""
    for sent in range(1, 10000):
        transport.sendto(b"%d" % sent + bytes(size))
        if transport.get_write_buffer_size():
            return sent
    raise AssertionError("the socket never was full")


def number_of(datagram):
    return int(datagram.rstrip(b"\0"))
