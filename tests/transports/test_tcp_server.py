"""Servers: R35 to R42."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import random
import resource
import socket
import sys

import pytest

from tests.support.connections import receive, receive_all, socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


class Server:
    """A server of Recorders on the loopback device, and the protocols that it made."""

    def __init__(self, loop, **hooks):
        self.loop, self.hooks = loop, hooks
        self.protocols = []

    def factory(self):
        self.protocols.append(Recorder(self.loop, **self.hooks))
        return self.protocols[-1]

    async def start(self, **keywords):
        where = () if "sock" in keywords else ("127.0.0.1", 0)
        self.server = await self.loop.create_server(self.factory, *where, **keywords)
        return self.server.sockets[0].getsockname()

    async def protocol(self, i=0):
        give_up = self.loop.time() + 5
        while len(self.protocols) <= i or not self.protocols[i].made.done():
            assert self.loop.time() < give_up, "no connection was accepted"
            await asyncio.sleep(0.001)
        return self.protocols[i]

    async def stop(self):
        self.server.close()
        for protocol in self.protocols:
            if protocol.made.done() and not protocol.lost.done():
                protocol.transport.abort()
                await protocol.closed()
        await self.server.wait_closed()
        await turns(2)


def client(address):
    sock = socket.create_connection(address, timeout=5)
    return sock


async def test_connection_is_accepted_and_served(loop):
    """A first exchange with a server."""
    server = Server(loop, data_received=lambda p, data: p.transport.write(data.upper()))
    address = await server.start()
    with client(address) as far:
        far.sendall(b"question")
        assert await receive(far, 8) == b"QUESTION"
        protocol = await server.protocol()
        assert protocol.calls[0] == "connection_made"
    assert await protocol.closed() is None
    await server.stop()


async def test_peername_and_flags_of_accepted_connections(loop):
    """R36: peername from accept, non-blocking, close-on-exec, TCP_NODELAY."""
    server = Server(loop)
    address = await server.start()
    with client(address) as far:
        transport = (await server.protocol()).transport
        assert transport.get_extra_info("peername") == far.getsockname()
        assert transport.get_extra_info("sockname") == address
        sock = transport.get_extra_info("socket")
        assert not os.get_blocking(sock.fileno())
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getpeername() == far.getsockname()
    await server.stop()


@pytest.mark.known_difference("asyncio", "a listener without a named protocol has Nagle's delay")
async def test_connections_of_a_listener_made_without_a_protocol_have_nodelay(loop):
    """R34: a response in two writes does not wait for a delayed acknowledgement, as on uvloop."""
    listener = socket.socket()  # as uvicorn and gunicorn make their sockets
    assert listener.proto == 0
    listener.bind(("127.0.0.1", 0))
    server = Server(loop)
    address = await server.start(sock=listener)
    with client(address):
        transport = (await server.protocol()).transport
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    await server.stop()


@pytest.mark.time_limit(20)
async def test_many_clients_at_once_are_all_accepted(loop):
    """R35, R90: more than one batch of accepts."""
    server = Server(loop, data_received=lambda p, data: p.transport.write(data))
    address = await server.start(backlog=200)

    def connect():
        clients = [client(address) for _ in range(150)]
        for i, far in enumerate(clients):
            far.sendall(b"%03d" % i)
        answers = [far.recv(3) for far in clients]
        for far in clients:
            far.close()
        return answers

    answers = await loop.run_in_executor(None, connect)
    assert answers == [b"%03d" % i for i in range(150)]
    for protocol in server.protocols:
        await protocol.closed()
    await server.stop()


@pytest.mark.known_difference("uvloop", "closes the connection in silence", run=False)
@pytest.mark.known_difference("asyncio", "reports each try of its backlog")
@pytest.mark.time_limit(20)
async def test_lack_of_descriptors_is_reported_once_and_clients_are_served_later(loop, reports):
    """R35: EMFILE: one report, a second's pause, then they are served."""
    server = Server(loop)
    address = await server.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    far = socket.socket()
    far.setblocking(False)
    spare = os.dup(0)
    os.close(spare)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        far.connect_ex(address)
        give_up = loop.time() + 5
        while not reports:
            assert loop.time() < give_up
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        count = len(reports)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with far:
        await server.protocol()
        assert count == 1
        (report, *_) = reports
        assert report["message"] == "socket.accept() out of system resource"
        assert report["exception"].errno == errno.EMFILE
    await server.stop()


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
@pytest.mark.known_difference("asyncio", "leaves the closing to the collector", only=("True",))
@pytest.mark.parametrize("debug", [False, True])
def test_failing_factory_costs_only_its_connection(loop, run, reports, debug):
    """R37: the connection closes; it is reported in debug only."""

    async def main():
        fail = True

        def factory():
            if fail:
                raise ValueError("the factory's own")
            return protocol

        protocol = Recorder(loop)
        loop.set_debug(debug)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with client(address) as far:
            assert await receive_all(far) == b""
        fail = False
        with client(address):
            await asyncio.wait_for(protocol.made, 5)
        await protocol.closed()
        server.close()
        await server.wait_closed()
        await turns()

    run(loop, main())
    if debug:
        assert [report["message"] for report in reports] == [
            "Error on transport creation for incoming connection"
        ]
    else:
        assert reports == []


@pytest.mark.known_difference("uvloop", "runs them in the accepting context")
def test_factory_and_connection_made_run_in_a_copy_of_the_server_s_context(loop, run):
    """R38: the context in which serving was started."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def note(*_):
        seen.append(variable.get())
        variable.set("changed by a connection")

    async def main():
        server = Server(loop, connection_made=note)
        original = server.factory
        server.factory = lambda: (note(), original())[1]
        variable.set("serving")
        address = await server.start()
        variable.set("later")
        for i in range(2):
            with client(address):
                protocol = await server.protocol(i)
            await protocol.closed()
        await server.stop()
        assert variable.get() == "later"

    run(loop, main())
    assert seen[0] == "serving"
    assert seen[2] == "serving"


async def test_wait_closed_of_a_server_without_clients_returns(loop):
    """R39: at once."""
    server = Server(loop)
    await server.start()
    assert server.server.is_serving()
    server.server.close()
    assert not server.server.is_serving()
    await asyncio.wait_for(server.server.wait_closed(), 5)


@pytest.mark.known_difference("uvloop", "returns when the listener is closed")
@pytest.mark.known_difference("asyncio", "3.12.1 was the first to wait", until=(3, 12, 0))
@pytest.mark.skipif(sys.version_info < (3, 12), reason="waits from 3.12 on")
async def test_wait_closed_waits_for_clients(loop):
    """R39: until the last connection_lost has been called."""
    server = Server(loop)
    address = await server.start()
    with client(address):
        protocol = await server.protocol()
        server.server.close()
        waiting = asyncio.ensure_future(server.server.wait_closed())
        await turns(10)
        assert not waiting.done()
        protocol.transport.close()
        await asyncio.wait_for(waiting, 5)
        assert protocol.lost.done()


@pytest.mark.known_difference("uvloop", "keeps its transports")
@pytest.mark.known_difference("asyncio", "reads on", until=(3, 10))
@pytest.mark.known_difference(
    "asyncio", "still waits for it", since=(3, 12, 0), until=(3, 12, 1))
@pytest.mark.known_difference(
    "asyncio", "some releases wait for it", since=(3, 12, 2), until=(3, 12), strict=False)
async def test_forgotten_connection_is_taken_off_its_server(loop):
    """R61: a transport without a reference; wait_closed() does not wait for it."""

    class Forgetful(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            accepted.set()

    accepted = asyncio.Event()
    server = await loop.create_server(Forgetful, "127.0.0.1", 0)
    with client(server.sockets[0].getsockname()) as far:
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            await accepted.wait()
            await turns(2)
            gc.collect()
        assert await receive_all(far) == b""
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@pytest.mark.known_difference("uvloop", "not implemented")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_server_closes_its_clients(loop, method):
    """R39: Server.close_clients(), Server.abort_clients()."""
    server = Server(loop)
    address = await server.start()
    with client(address) as far:
        protocol = await server.protocol()
        server.server.close()
        getattr(server.server, method)()
        assert await protocol.closed() is None
        assert await receive_all(far) == b""
        await asyncio.wait_for(server.server.wait_closed(), 5)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@pytest.mark.known_difference("uvloop", "not implemented")
async def test_server_knows_its_clients_in_any_order_of_leaving(loop):
    """R39: close_clients() closes those that are there, and wait_closed() waits for the last."""
    server = Server(loop)
    address = await server.start()
    with contextlib.ExitStack() as stack:
        far = [stack.enter_context(client(address)) for _ in range(24)]
        near = [await server.protocol(i) for i in range(24)]
        order = list(range(24))
        random.Random(39).shuffle(order)
        for i in order[:16]:
            near[i].transport.abort()
            await near[i].closed()
        server.server.close()
        closing = asyncio.ensure_future(server.server.wait_closed())
        await turns()
        assert not closing.done()
        server.server.close_clients()
        for i in order[16:]:
            assert await near[i].closed() is None
        await asyncio.wait_for(closing, 5)
        for sock in far:
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""


@pytest.mark.known_difference("asyncio", "the connection stays open")
async def test_factory_may_close_its_server(loop):
    """R37, R39: the connection is served or closed, wait_closed() returns."""

    def factory():
        server.close()
        return Recorder(loop)

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with client(server.sockets[0].getsockname()) as far:
        await turns(3)
        far.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert await receive_all(far) == b""
        await asyncio.wait_for(server.wait_closed(), 5)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@pytest.mark.known_difference("uvloop", "not implemented")
async def test_accepted_connections_are_kept_alive(loop):
    """R36: create_server(keep_alive=True)."""
    for keep_alive in (True, None):
        server = Server(loop)
        address = await server.start(keep_alive=keep_alive)
        with client(address):
            sock = (await server.protocol()).transport.get_extra_info("socket")
            option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert option == (keep_alive is True)
        await server.stop()


@pytest.mark.known_difference("uvloop", "does not end it")
async def test_close_ends_serve_forever(loop):
    """R40: with CancelledError."""
    server = Server(loop)
    await server.start(start_serving=False)
    assert not server.server.is_serving()
    serving = asyncio.ensure_future(server.server.serve_forever())
    await turns()
    assert server.server.is_serving()
    server.server.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(serving), 5)


async def test_close_closes_a_given_listener(loop):
    """R40: create_server(sock=)."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(asyncio.Protocol, sock=listener)
    server.close()
    await server.wait_closed()
    await turns()
    assert listener.fileno() == -1 or server.sockets == ()
    listener.close()


async def test_start_serving_is_repeatable(loop):
    """Server.start_serving() starts once."""
    server = Server(loop)
    address = await server.start(start_serving=False)
    await server.server.start_serving()
    await server.server.start_serving()
    with client(address):
        await server.protocol()
    await server.stop()


async def test_server_closed_while_clients_wait_in_the_backlog(loop):
    """R39: no descriptor is left; the waiting clients are reset."""
    server = Server(loop)
    address = await server.start()
    clients = [client(address) for _ in range(5)]
    server.server.close()
    await server.server.wait_closed()
    await turns()
    for protocol in server.protocols:
        if protocol.made.done() and not protocol.lost.done():
            protocol.transport.abort()
            await protocol.closed()
    for far in clients:
        far.close()


async def test_server_closed_in_connection_made(loop):
    """R60: the accept loop copes with a listener that has gone."""
    server = Server(loop, connection_made=lambda p, t: server.server.close())
    address = await server.start()
    clients = [client(address) for _ in range(3)]
    await server.protocol()
    await turns()
    await server.stop()
    for far in clients:
        far.close()


@pytest.mark.parametrize("hosts", [["127.0.0.1", "127.0.0.1"], "localhost", None, ["127.0.0.1"]])
async def test_hosts_of_a_server(loop, hosts):
    """create_server(host): one, several, all."""
    try:
        server = await loop.create_server(asyncio.Protocol, hosts, 0)
    except OSError as error:
        assert error.errno == errno.EADDRINUSE  # port 0 of each host is another port
        return
    assert server.sockets
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@pytest.mark.known_difference("uvloop", "raises")
async def test_address_that_is_not_there_is_skipped_if_another_binds(loop):
    """R41: EADDRNOTAVAIL of one of several hosts."""
    server = await loop.create_server(asyncio.Protocol, ["127.0.0.1", "192.0.2.1"], 0)
    assert len(server.sockets) == 1
    server.close()
    await server.wait_closed()


async def test_address_in_use_is_an_os_error(loop):
    """Inherited text: EADDRINUSE with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError) as caught:
            await loop.create_server(asyncio.Protocol, *taken.getsockname())
        assert caught.value.errno == errno.EADDRINUSE


async def test_reuse_port_lets_two_servers_share(loop):
    """create_server(reuse_port=True)."""
    first = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_port=True)
    port = first.sockets[0].getsockname()[1]
    second = await loop.create_server(asyncio.Protocol, "127.0.0.1", port, reuse_port=True)
    for server in (first, second):
        server.close()
        await server.wait_closed()


async def test_accepted_socket_is_handed_over(loop):
    """connect_accepted_socket(factory, sock)."""
    near, far = socket_pair("tcp")
    with far:
        transport, protocol = await loop.connect_accepted_socket(
            lambda: Recorder(loop), sock=near
        )
        assert isinstance(protocol, Recorder)
        transport.write(b"x")
        assert await receive(far, 1) == b"x"
        transport.close()
        assert await protocol.closed() is None


async def test_dropped_server_keeps_serving_while_the_loop_runs(loop):
    """R39: the Server object lives without a reference to it."""
    server = Server(loop)
    address = await server.start()
    listener = server.server.sockets[0].fileno()
    number = os.dup(listener)
    os.close(number)
    gc.collect()
    with client(address):
        await server.protocol()
    await server.stop()


def test_loop_closed_while_serving_leaves_no_descriptor(loop):
    """R22, R33: loop.close() with a listening server and a live connection."""

    async def main():
        server = Server(loop)
        address = await server.start()
        far = client(address)
        protocol = await server.protocol()
        return server, far, protocol

    server, far, protocol = loop.run_until_complete(main())
    far.close()
    protocol.transport.abort()
    loop.run_until_complete(protocol.closed())
    server.server.close()
    loop.run_until_complete(server.server.wait_closed())
    loop.run_until_complete(turns())


@pytest.mark.time_limit(20)
async def test_start_server_streams(loop):
    """asyncio.start_server: a hundred sessions of a line protocol."""

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def session(address, i):
        reader, writer = await asyncio.open_connection(*address)
        for n in range(5):
            writer.write(b"line %d of %d\n" % (n, i))
            assert await reader.readline() == b"LINE %d OF %d\n" % (n, i)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*(session(address, i) for i in range(100)))
    server.close()
    await server.wait_closed()
    await turns()
