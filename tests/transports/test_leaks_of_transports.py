"""An action that is repeated a thousand times leaves no object, no reference and no descriptor.

R22, R33, R39, R61, and the counts of stats(). An ordinary run repeats each action a hundred times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from mioloop import mio
from tests.support.accounting import account, at_rest, lasting_growth
from tests.support.connections import socket_pair
from tests.support.protocols import Recorder

WARM_UP = 20
MOST_TRIES = 6  # accidental growth does not happen each time


async def stream(loop, tls):
    near, far = socket_pair("unix")
    far.setblocking(False)
    left, right = Recorder(loop), Recorder(loop)
    await loop.create_unix_connection(lambda: left, sock=near)
    await loop.connect_accepted_socket(lambda: right, far)
    left.transport.write(b"x" * 1000)
    left.transport.writelines([b"y" * 1000, bytearray(b"z")])
    left.transport.write_eof()
    await right.closed()
    await left.closed()
    assert len(right.data) == 2001


async def half_full_stream_aborted(loop, tls):
    near, far = socket_pair("tcp")
    with far:
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=near)
        protocol.transport.pause_reading()
        protocol.transport.write(bytes(1 << 22))
        far.send(b"unread")
        protocol.transport.abort()
        await protocol.closed()


async def forgotten_stream(loop, tls):
    near, far = socket_pair("unix")
    with far:
        protocol = Recorder(loop)
        await loop.create_unix_connection(lambda: protocol, sock=near)
        protocol.transport.pause_reading()
        with pytest.warns(ResourceWarning):
            protocol.transport = protocol.made = None


async def accept(loop, tls):
    made = []

    def factory():
        made.append(Recorder(loop))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    clients = [Recorder(loop) for _ in range(2)]
    for client in clients:
        await loop.create_connection(lambda client=client: client,
                                     *server.sockets[0].getsockname())
        client.transport.get_extra_info("socket")
        client.transport.close()
    for client in clients:
        await client.closed()
    while len(made) < len(clients):
        await asyncio.sleep(0)
    for protocol in made:
        await protocol.closed()
    server.close()
    await server.wait_closed()


async def failed_connect(loop, tls):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))        # bound and not listening: refuses
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(asyncio.Protocol, *taken.getsockname())
        with pytest.raises(OSError):
            await loop.create_unix_connection(asyncio.Protocol, "/nonexistent")


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, loop):
        self.received, self.lost = loop.create_future(), loop.create_future()

    def datagram_received(self, data, addr):
        self.received.done() or self.received.set_result(data)

    def error_received(self, exc):
        self.received.done() or self.received.set_result(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def datagrams(loop, tls):
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(loop), local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    assert await protocol.received == b"x"
    transport.close()
    await protocol.lost


async def refused_datagrams(loop, tls):
    with socket.socket(type=socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        # While it is bound: the endpoint could be given the same port, and be its own peer.
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Datagrams(loop), remote_addr=unused.getsockname())
    transport.sendto(b"x")
    assert isinstance(await protocol.received, ConnectionRefusedError)
    transport.abort()
    await protocol.lost


async def pipes(loop, tls):
    reading, writing = os.pipe()
    reader, writer = Recorder(loop), Recorder(loop)
    await loop.connect_read_pipe(lambda: reader, open(reading, "rb", 0))
    transport, _ = await loop.connect_write_pipe(lambda: writer, open(writing, "wb", 0))
    transport.write(b"x" * 1000)
    transport.write_eof()
    assert await reader.closed() is None
    await writer.closed()
    assert len(reader.data) == 1000


async def subprocess(loop, tls):
    process = await asyncio.create_subprocess_exec(
        "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate(b"x"))[0] == b"x"


async def sock_calls(loop, tls):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        conn, _ = await accepting
        with conn:
            await loop.sock_sendall(client, b"x" * 1000)
            assert len(await loop.sock_recv(conn, 1000)) == 1000
            assert await asyncio.gather(
                loop.sock_recv_into(conn, bytearray(10)), loop.sock_sendall(client, b"x")
            ) == [1, None]


async def cancelled_sock_calls(loop, tls):
    near, far = socket_pair("unix")
    far.setblocking(False)
    with near, far:
        waiting = asyncio.ensure_future(loop.sock_recv(near, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        full = asyncio.ensure_future(loop.sock_sendall(near, bytes(1 << 22)))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(full, 0.0001)


def secured(tls, server_side):
    return ({"ssl": tls.server} if server_side
            else {"ssl": tls.client, "server_hostname": "localhost"})


async def secure_stream(loop, tls):
    near, far = socket_pair("unix")
    far.setblocking(False)
    client, server = Recorder(loop), Recorder(loop)
    await asyncio.gather(
        loop.connect_accepted_socket(lambda: server, far, **secured(tls, True)),
        loop.create_unix_connection(lambda: client, sock=near, **secured(tls, False)))
    client.transport.write(b"x" * 1000)
    await server.received(1000)
    client.transport.close()
    await client.closed()
    await server.closed()


async def failed_handshake(loop, tls):
    near, far = socket_pair("unix")
    with far:
        far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(OSError):
            await loop.create_unix_connection(
                lambda: Recorder(loop), sock=near, **secured(tls, False))


async def started_tls(loop, tls):
    near, far = socket_pair("unix")
    far.setblocking(False)
    client, server = Recorder(loop), Recorder(loop)
    await loop.create_unix_connection(lambda: client, sock=near)
    await loop.connect_accepted_socket(lambda: server, far)
    upgraded, _ = await asyncio.gather(
        loop.start_tls(client.transport, client, tls.client, server_hostname="localhost"),
        loop.start_tls(server.transport, server, tls.server, server_side=True))
    upgraded.write(b"x")
    await server.received(1)
    upgraded.close()
    await client.closed()
    await server.closed()


async def timers_cancelled(loop, tls):
    timers = [loop.call_later(1000 + i, print, i) for i in range(20)]
    for timer in timers[::2] + timers[1::2]:
        timer.cancel()
    await asyncio.sleep(0.00001)


async def calls_from_a_thread(loop, tls):
    done = loop.create_future()
    await loop.run_in_executor(None, loop.call_soon_threadsafe, done.set_result, 1)
    await done


async def readers_and_writers(loop, tls):
    near, far = socket_pair("unix")
    with near, far:
        readable = loop.create_future()
        loop.add_reader(near, print)
        loop.add_reader(near, lambda: readable.done() or readable.set_result(None))
        loop.add_writer(near, int)
        far.send(b"x")
        await readable
        loop.remove_reader(near)
        loop.remove_writer(near)


async def watches(loop, tls):
    registration, setter = mio.Registration.new2()
    seen = loop.create_future()
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, seen.set_result)
    setter.set_readiness(mio.Ready.READABLE)
    await seen
    loop.unwatch(token)
    registration.close()


async def exceptions_in_callbacks(loop, tls):
    def fail(*_):
        raise ZeroDivisionError

    loop.call_soon(fail)
    loop.call_later(0, fail)
    near, far = socket_pair("unix")
    with far:
        protocol = Recorder(loop, connection_made=fail, data_received=fail, connection_lost=fail)
        await loop.create_unix_connection(lambda: protocol, sock=near)
        far.send(b"x")
        await protocol.lost
    await asyncio.sleep(0)


async def failing_tasks(loop, tls):
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    await asyncio.gather(*(fail() for _ in range(5)), return_exceptions=True)


SCENARIOS = [
    stream, half_full_stream_aborted, forgotten_stream, accept, failed_connect, datagrams,
    refused_datagrams, pipes, subprocess, sock_calls, cancelled_sock_calls, secure_stream,
    failed_handshake, started_tls, timers_cancelled, calls_from_a_thread, readers_and_writers,
    watches, exceptions_in_callbacks, failing_tasks,
]


def leaves_nothing(loop, tls, scenario, rounds):
    async def repeat(count):
        for _ in range(count):
            await asyncio.wait_for(scenario(loop, tls), 10)
        await at_rest(loop)

    loop.run_until_complete(repeat(WARM_UP))
    accounts = [account(loop)]
    for _ in range(MOST_TRIES):
        loop.run_until_complete(repeat(rounds))
        accounts.append(account(loop))
        if lasting_growth(accounts, rounds) == {}:
            return
    assert lasting_growth(accounts, rounds) == {}


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.__name__)
def scenario(request):
    return request.param


def discard_reports(loop):
    """They would keep the objects that they describe."""
    loop.set_exception_handler(lambda *_: None)


def test_a_hundred_times_leaves_nothing(mioloop_loop, tls, scenario):
    """R22, R33, R39, R61."""
    discard_reports(mioloop_loop)
    leaves_nothing(mioloop_loop, tls, scenario, 100)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_times_leaves_nothing(mioloop_loop, tls, scenario):
    """R22, R33, R39, R61."""
    discard_reports(mioloop_loop)
    leaves_nothing(mioloop_loop, tls, scenario, 1000)
