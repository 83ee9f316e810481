"""After a hundred thousand connections the memory in use has not grown. R22, R33, R39."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.accounting import account, at_rest, growth, resident_bytes

AT_A_TIME = 50
MIB = 1 << 20


class Brief(asyncio.Protocol):
    """A connection that lives for one byte each way."""

    def __init__(self, loop, speaks_first):
        self.speaks_first, self.lost = speaks_first, loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        if self.speaks_first:
            transport.write(b"?")

    def data_received(self, data):
        if self.speaks_first:
            self.transport.close()
        else:
            self.transport.write(b"!")

    def connection_lost(self, exc):
        self.transport = None
        self.lost.done() or self.lost.set_result(exc)


class Listening:
    """One server, and clients that it answers."""

    def __init__(self, loop, tls, path):
        self.loop = loop
        self.secure = ({}, {}) if tls is None else (
            {"ssl": tls.server}, {"ssl": tls.client, "server_hostname": "localhost"})
        self.path = path

    async def __aenter__(self):
        def factory():
            return Brief(self.loop, False)

        if self.path is not None:
            self.server = await self.loop.create_unix_server(factory, self.path)
            self.address = (self.path,)
        else:
            self.server = await self.loop.create_server(
                factory, "127.0.0.1", 0, backlog=AT_A_TIME * 2, **self.secure[0])
            self.address = self.server.sockets[0].getsockname()
        return self

    async def once(self):
        connect = (self.loop.create_connection if self.path is None
                   else self.loop.create_unix_connection)
        _, protocol = await connect(
            lambda: Brief(self.loop, True), *self.address, **self.secure[1])
        assert await protocol.lost is None

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()


class Datagrams:
    """Each endpoint sends itself a datagram."""

    def __init__(self, loop, tls, path):
        self.loop = loop

    async def once(self):
        lost = self.loop.create_future()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport
                transport.sendto(b"x", transport.get_extra_info("sockname"))

            def datagram_received(self, data, addr):
                self.transport.close()

            def connection_lost(self, exc):
                lost.set_result(exc)

        await self.loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        assert await lost is None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


class Pipes(Datagrams):
    async def once(self):
        reading, writing = os.pipe()
        _, reader = await self.loop.connect_read_pipe(
            lambda: Brief(self.loop, False), open(reading, "rb", 0))
        reader.data_received = lambda data: None
        transport, writer = await self.loop.connect_write_pipe(
            lambda: Brief(self.loop, True), open(writing, "wb", 0))
        transport.close()
        assert await writer.lost is None
        assert await reader.lost is None


class Pairs(Datagrams):
    """Two connected sockets, both ends transports."""

    async def once(self):
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        _, left = await self.loop.create_unix_connection(
            lambda: Brief(self.loop, True), sock=near)
        _, right = await self.loop.connect_accepted_socket(
            lambda: Brief(self.loop, False), far)
        assert [await left.lost, await right.lost] == [None, None]


class Children(Datagrams):
    """Each says a byte, and is reaped."""

    async def once(self):
        process = await asyncio.create_subprocess_exec(
            "/bin/echo", "x", stdout=asyncio.subprocess.PIPE)
        assert await process.communicate() == (b"x\n", None)
        assert process.returncode == 0


def churn(loop, kind, tls, path, count):
    async def main():
        async with kind(loop, tls, path) as connections:
            async def one_after_the_other(count):
                for _ in range(count):
                    await connections.once()

            async def at_once(count):
                """*count* in all, so many at a time."""
                await asyncio.gather(
                    *(one_after_the_other(count // AT_A_TIME) for _ in range(AT_A_TIME)))
                await at_rest(loop)             # the far ends too
                return account(loop), resident_bytes()

            # The rounds so far cover one-time allocations, and the allocator's free memory.
            before, resident_before = await at_once(count // 2)
            after, resident_after = await at_once(count // 2)
            assert growth(before, after, count // 2) == {}
            assert resident_after - resident_before < 2 * MIB

    loop.run_until_complete(main())


def count(mioloop_kind, most):
    """*most* on the default loop, a tenth of it on each of the other kinds."""
    default = (mioloop_kind.trigger, mioloop_kind.selector) == ("edge", "epoll")
    return most if default else most // 10


pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.unsanitized("freed memory is kept, to find who still uses it"),
]


@pytest.mark.parametrize("connections", [Listening, Pairs, Datagrams, Pipes],
                         ids=lambda connections: connections.__name__.lower())
def test_100_000_connections_leave_no_memory(mioloop_loop, mioloop_kind, connections):
    """R33, R39."""
    churn(mioloop_loop, connections, None, None, count(mioloop_kind, 100_000))


def test_100_000_unix_connections_leave_no_memory(mioloop_loop, mioloop_kind, tmp_path):
    """R39, R43."""
    path = str(tmp_path / "socket")
    churn(mioloop_loop, Listening, None, path, count(mioloop_kind, 100_000))


def test_100_000_tls_connections_leave_no_memory(mioloop_loop, mioloop_kind, tls):
    """R39, R73: each with a full handshake."""
    churn(mioloop_loop, Listening, tls, None, count(mioloop_kind, 100_000))


def test_10_000_children_leave_no_memory(mioloop_loop, mioloop_kind):
    """R78: fewer, for each costs a fork."""
    churn(mioloop_loop, Children, None, None, count(mioloop_kind, 10_000))
