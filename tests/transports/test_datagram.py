"""Datagram transports: R62 to R65."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from recording import turns


class Recorder(asyncio.DatagramProtocol):
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
        give_up = self.loop.time() + 5
        while not condition():
            assert self.loop.time() < give_up, f"waited too long; calls: {self.calls}"
            await asyncio.sleep(0.001)


async def endpoint(loop, remote=None, family=socket.AF_INET, **hooks):
    """A datagram transport's protocol, bound to a port of its own or connected."""
    local = ("127.0.0.1", 0) if remote is None else None
    _, protocol = await loop.create_datagram_endpoint(
        lambda: Recorder(loop, **hooks), local_addr=local, remote_addr=remote, family=family
    )
    protocol.address = protocol.transport.get_extra_info("sockname")
    return protocol


async def close(*protocols):
    for protocol in protocols:
        protocol.transport.close()
        await asyncio.wait_for(asyncio.shield(protocol.lost), 5)
    await turns(2)


def test_datagrams_go_both_ways(loop, run):
    """R62: unconnected and connected, with addresses."""

    async def main():
        server = await endpoint(
            loop, datagram_received=lambda p, data, a: p.transport.sendto(data.upper(), a)
        )
        client = await endpoint(loop, remote=server.address)
        assert client.transport.get_extra_info("peername") == server.address
        client.transport.sendto(b"one")
        client.transport.sendto(b"two", server.address)
        await client.until(lambda: len(client.received) == 2)
        assert client.received == [(b"ONE", server.address), (b"TWO", server.address)]
        assert [a for _, a in server.received] == [client.address] * 2
        await close(client, server)
        assert client.calls[0] == "connection_made" and client.calls[-1] == "connection_lost"

    run(loop, main())


def test_boundaries_are_kept(loop, run):
    """R62: many datagrams of many sizes, each as it was sent."""
    sizes = [1, 100, 1400, 9000, 60_000, 2]

    async def main():
        server = await endpoint(loop)
        client = await endpoint(loop, remote=server.address)
        for i in range(30):
            count = len(server.received)
            client.transport.sendto(bytes([i]) * sizes[i % len(sizes)])
            await server.until(lambda count=count: len(server.received) > count)
        assert [len(data) for data, _ in server.received] == [sizes[i % len(sizes)] for i in range(30)]
        await close(client, server)

    run(loop, main())


def test_empty_datagram_is_received(loop, run):
    """R62: from a peer that can send it."""

    async def main():
        server = await endpoint(loop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", 0))
            far.sendto(b"", server.address)
            far.sendto(b"next", server.address)
            await server.until(lambda: len(server.received) == 2)
            assert server.received == [
                (b"", far.getsockname()),
                (b"next", far.getsockname()),
            ]
        await close(server)

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="dropped before 3.13")
@pytest.mark.known_difference("uvloop", "drops it", strict=False)
def test_empty_datagram_is_sent(loop, run):
    """R62: from 3.13 on."""

    async def main():
        server = await endpoint(loop)
        client = await endpoint(loop, remote=server.address)
        client.transport.sendto(b"")
        await server.until(lambda: server.received)
        assert server.received[0][0] == b""
        await close(client, server)

    run(loop, main())


def test_refused_datagram_is_an_error_received(loop, run):
    """R63: ECONNREFUSED goes to error_received; the transport stays open."""

    async def main():
        server = await endpoint(loop)
        address = server.address
        client = await endpoint(loop, remote=address)
        await close(server)
        client.transport.sendto(b"nobody listens")
        await client.until(lambda: client.errors)
        assert isinstance(client.errors[0], ConnectionRefusedError)
        assert not client.transport.is_closing()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(address)
            far.sendto(b"back", client.address)
            await client.until(lambda: client.received)
        await close(client)

    run(loop, main())


def test_too_long_datagram_is_an_error_received(loop, run):
    """R63: EMSGSIZE too; nothing is raised by sendto()."""

    async def main():
        server = await endpoint(loop)
        client = await endpoint(loop, remote=server.address)
        client.transport.sendto(b"x" * 100_000)
        await client.until(lambda: client.errors)
        assert isinstance(client.errors[0], OSError)
        assert not client.transport.is_closing()
        client.transport.sendto(b"fits")
        await server.until(lambda: server.received)
        await close(client, server)

    run(loop, main())


@pytest.mark.known_difference("asyncio", "AttributeError", strict=False)
@pytest.mark.known_difference("uvloop", "raises", strict=False)
def test_no_method_raises_after_the_end(loop, run):
    """R63, R47: sendto after loss is ignored."""

    async def main():
        server = await endpoint(loop)
        client = await endpoint(loop, remote=server.address)
        client.transport.close()
        client.transport.close()
        await asyncio.wait_for(asyncio.shield(client.lost), 5)
        for _ in range(7):
            client.transport.sendto(b"late")
        client.transport.abort()
        client.transport.close()
        assert client.transport.is_closing()
        assert client.transport.get_write_buffer_size() == 0
        repr(client.transport)
        await turns()
        assert server.received == []
        await close(server)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "another type of error", strict=False)
def test_bad_arguments_of_sendto_are_refused(loop, run):
    """R64, section 4: 'Invalid address: must be None or (...)'; TypeError for no bytes."""

    async def main():
        server = await endpoint(loop)
        client = await endpoint(loop, remote=server.address)
        with pytest.raises(ValueError, match="Invalid address"):
            client.transport.sendto(b"x", ("127.0.0.1", 1))
        for bad in (None, "text", 3):
            with pytest.raises(TypeError):
                client.transport.sendto(bad)
        await close(client, server)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "a type of its own", strict=False)
@pytest.mark.known_difference("asyncio", "since 3.12", until=(3, 11), strict=False)
def test_transport_is_a_datagram_transport(loop, run):
    """R65: isinstance of asyncio.DatagramTransport."""

    async def main():
        server = await endpoint(loop)
        assert isinstance(server.transport, asyncio.DatagramTransport)
        await close(server)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "not implemented")
def test_unix_datagrams(loop, run, tmp_path):
    """R64: AF_UNIX needs no DNS."""
    server_path, client_path = str(tmp_path / "server"), str(tmp_path / "client")

    async def main():
        _, server = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), local_addr=server_path, family=socket.AF_UNIX
        )
        _, client = await loop.create_datagram_endpoint(
            lambda: Recorder(loop),
            local_addr=client_path,
            remote_addr=server_path,
            family=socket.AF_UNIX,
        )
        client.transport.sendto(b"question")
        await server.until(lambda: server.received)
        assert server.received == [(b"question", client_path)]
        server.transport.sendto(b"answer", client_path)
        await client.until(lambda: client.received)
        await close(client, server)

    run(loop, main())


def test_given_socket_is_used(loop, run):
    """create_datagram_endpoint(sock=)."""

    async def main():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        transport, protocol = await loop.create_datagram_endpoint(lambda: Recorder(loop), sock=sock)
        assert transport.get_extra_info("sockname") == sock.getsockname()
        await close(protocol)
        assert sock.fileno() == -1
        with pytest.raises(ValueError):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol)

    run(loop, main())


def test_burst_is_received_without_starving_timers(loop, run):
    """R90: a thousand datagrams in the socket, and a timer."""

    async def main():
        server = await endpoint(loop)
        server.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            for i in range(200):
                far.sendto(b"%d" % i, server.address)
            await asyncio.sleep(0.01)
            await server.until(lambda: len(server.received) == 200)
            assert [data for data, _ in server.received] == [b"%d" % i for i in range(200)]
        await close(server)

    run(loop, main())


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("callback", ["datagram_received", "error_received"])
def test_transport_may_be_closed_in_a_callback(loop, run, method, callback):
    """R60: no further call but connection_lost."""

    async def main():
        other = await endpoint(loop)
        address = other.address
        protocol = await endpoint(
            loop, remote=address, **{callback: lambda p, *args: getattr(p.transport, method)()}
        )
        if callback == "datagram_received":
            for _ in range(5):
                other.transport.sendto(b"x", protocol.address)
        else:
            await close(other)
            protocol.transport.sendto(b"refused")
        assert await asyncio.wait_for(asyncio.shield(protocol.lost), 5) is None
        assert protocol.calls == ["connection_made", callback, "connection_lost"]
        if callback == "datagram_received":
            await close(other)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "closes the transport", strict=False)
def test_failing_datagram_received_is_reported(loop, run, reports):
    """R13, R55: one report for each."""

    def fail(*_):
        raise ValueError("the protocol's own")

    async def main():
        server = await endpoint(loop, datagram_received=fail)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.sendto(b"x", server.address)
            await server.until(lambda: reports)
        server.transport.abort()
        await asyncio.wait_for(asyncio.shield(server.lost), 5)
        await turns(2)

    run(loop, main())
    assert isinstance(reports[0]["exception"], ValueError)


def test_broadcast_and_reuse_port(loop, run):
    """create_datagram_endpoint(allow_broadcast=, reuse_port=)."""

    async def main():
        _, protocol = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), local_addr=("127.0.0.1", 0), allow_broadcast=True, reuse_port=True
        )
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        await close(protocol)

    run(loop, main())
