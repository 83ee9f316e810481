"""Connecting: R31 to R34, and properties that create_connection() inherits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from unittest import mock

import pytest

from tests.support.connections import receive, receive_all, socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def refused_port():
    """A port without a listener, which no other process gets."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_connects_by_host_and_port(loop, listener):
    """create_connection(factory, host, port)."""
    transport, protocol = await loop.create_connection(
        lambda: Recorder(loop), *listener.getsockname()
    )
    far, address = listener.accept()
    with far:
        assert transport.get_extra_info("peername") == listener.getsockname()
        assert transport.get_extra_info("sockname") == address
        transport.write(b"x")
        assert await receive(far, 1) == b"x"
        transport.close()
        assert await protocol.closed() is None


@pytest.mark.known_difference("uvloop", "runs it before")
def test_factory_runs_only_after_the_connect(loop, run, refused_port):
    """R31: a refused connection makes no protocol."""
    made = []

    def factory():
        made.append(True)
        return asyncio.Protocol()

    async def main():
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(factory, "127.0.0.1", refused_port)
        assert caught.value.errno == errno.ECONNREFUSED

    run(loop, main())
    assert made == []


@pytest.mark.known_difference("uvloop", "the text of libuv")
async def test_refused_connection_names_the_address(loop, refused_port):
    """R32, section 4: "Connect call failed ('127.0.0.1', port)"."""
    with pytest.raises(ConnectionRefusedError, match="Connect call failed") as caught:
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", refused_port)
    assert str(refused_port) in str(caught.value)


@pytest.mark.known_difference("uvloop", "runs it before the connect")
async def test_failing_factory_closes_the_socket(loop, listener):
    """R31: its exception reaches the caller; no descriptor is left."""

    def factory():
        raise ValueError("the factory's own")

    with pytest.raises(ValueError, match="the factory's own"):
        await loop.create_connection(factory, *listener.getsockname())
    far, _ = listener.accept()
    with far:
        assert await receive_all(far) == b""


def raising_factory():
    raise ZeroDivisionError("the factory's own")


@contextlib.contextmanager
def given_socket(family=socket.AF_INET):
    near, far = socket_pair("unix" if family == socket.AF_UNIX else "tcp")
    with near, far:
        yield near, far


CONNECTS = {
    "create_connection": lambda loop, sock, tls: loop.create_connection(raising_factory, sock=sock),
    "create_connection(ssl=)": lambda loop, sock, tls: loop.create_connection(
        raising_factory, sock=sock, ssl=tls.client, server_hostname="localhost"
    ),
    "bad server_hostname": lambda loop, sock, tls: loop.create_connection(
        asyncio.Protocol, sock=sock, ssl=tls.client, server_hostname=".local"
    ),
    "bad timeout": lambda loop, sock, tls: loop.create_connection(
        asyncio.Protocol,
        sock=sock,
        ssl=tls.client,
        server_hostname="localhost",
        ssl_handshake_timeout=-1,
    ),
    "no connection_made": lambda loop, sock, tls: loop.create_connection(object, sock=sock),
    "create_unix_connection": lambda loop, sock, tls: loop.create_unix_connection(
        raising_factory, sock=sock
    ),
    "connect_accepted_socket": lambda loop, sock, tls: loop.connect_accepted_socket(
        raising_factory, sock
    ),
}


@pytest.mark.known_difference(
    "asyncio", "leaves it open", until=(3, 10), but=("bad server_hostname",))
@pytest.mark.known_difference("asyncio", "leaves it open", since=(3, 11), until=(3, 13, 0))
@pytest.mark.known_difference(
    "asyncio", "some releases leave it open", since=(3, 13, 1), until=(3, 14), strict=False)
@pytest.mark.known_difference("uvloop", "leaves it open")
@pytest.mark.parametrize("connect", CONNECTS)
async def test_given_socket_is_closed_if_there_will_be_no_transport(loop, tls, connect):
    """R33, R69: the socket is the loop's from the call on, as from 3.15 on in asyncio."""
    family = socket.AF_UNIX if "unix" in connect else socket.AF_INET
    with given_socket(family) as (near, far):
        with pytest.raises((ZeroDivisionError, ValueError, AttributeError)):
            await CONNECTS[connect](loop, near, tls)
        assert near.fileno() == -1
        assert await receive_all(far) == b""


async def test_socket_of_a_live_transport_is_refused_and_stays_open(mioloop_loop):
    """R28, R33: it is that transport's."""
    loop = mioloop_loop
    with given_socket() as (near, far):
        transport, protocol = await loop.create_connection(lambda: Recorder(loop), sock=near)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(lambda: Recorder(loop), sock=near)
        transport.write(b"alive")
        assert await receive(far, 5) == b"alive"
        transport.abort()
        await protocol.closed()


@pytest.mark.known_difference("asyncio", "leaves it to the garbage collector")
async def test_socket_of_a_datagram_endpoint_is_closed_if_the_factory_raises(loop):
    """R33: the loop made the socket, and only the loop can close it."""
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError) as kept:
        await loop.create_datagram_endpoint(raising_factory, ("127.0.0.1", 0))
    assert set(os.listdir("/proc/self/fd")) == before
    assert kept.traceback


async def test_given_datagram_socket_and_pipe_stay_the_callers_if_the_factory_raises(loop):
    """R33: as on asyncio of every version."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    read_end, write_end = os.pipe()
    with sock, open(read_end, "rb", 0) as reader, open(write_end, "wb", 0) as writer:
        for opening in (
            loop.create_datagram_endpoint(raising_factory, sock=sock),
            loop.connect_read_pipe(raising_factory, reader),
            loop.connect_write_pipe(raising_factory, writer),
        ):
            with pytest.raises(ZeroDivisionError):
                await opening
        assert -1 not in (sock.fileno(), reader.fileno(), writer.fileno())


async def test_given_socket_stays_valid_while_open(loop):
    """R33: sock=; its descriptor is the transport's until connection_lost."""
    near, far = socket_pair("tcp")
    with far:
        number = near.fileno()
        transport, protocol = await loop.create_connection(lambda: Recorder(loop), sock=near)
        assert near.fileno() == number
        near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.close()
        await protocol.closed()
        await turns()
        assert near.fileno() == -1


async def test_descriptor_is_closed_once(loop):
    """R33: its number, used again at once, is not closed by a late second close."""
    for method in ("close", "abort"):
        near, far = socket_pair("tcp")
        with far:
            number = near.fileno()
            transport, protocol = await loop.create_connection(
                lambda: Recorder(loop), sock=near
            )
            getattr(transport, method)()
            await protocol.closed()
            taken = []
            while number not in taken and len(taken) < 50:
                taken.append(os.dup(far.fileno()))
            getattr(transport, method)()
            near.close()
            del transport, near
            await turns()
            for fd in taken:
                os.fstat(fd)  # all still open
                os.close(fd)


async def test_nodelay_is_set_on_tcp(loop, listener):
    """R34: TCP_NODELAY on TCP, no error elsewhere."""
    transport, protocol = await loop.create_connection(
        lambda: Recorder(loop), *listener.getsockname()
    )
    far, _ = listener.accept()
    with far:
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        transport.abort()
        await protocol.closed()


@pytest.mark.known_difference("uvloop", "sets it on every TCP socket")
async def test_nodelay_is_left_alone_on_a_socket_of_an_unnamed_protocol(loop, listener):
    """R34: `sock.proto` decides; it is 0 in a socket made without one."""
    sock = socket.create_connection(listener.getsockname())
    assert sock.proto in (0, socket.IPPROTO_TCP)
    sock = socket.socket(sock.family, sock.type, 0, sock.detach())
    sock.setblocking(False)
    transport, protocol = await loop.create_connection(lambda: Recorder(loop), sock=sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    transport.abort()
    await protocol.closed()


async def test_local_address_is_bound(loop, listener):
    """create_connection(local_addr=)."""
    transport, protocol = await loop.create_connection(
        lambda: Recorder(loop), *listener.getsockname(), local_addr=("127.0.0.1", 0)
    )
    far, address = listener.accept()
    with far:
        assert address == transport.get_extra_info("sockname")
        transport.abort()
        await protocol.closed()


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"host": "127.0.0.1", "port": 1, "sock": "SOCK"},
        {"host": "127.0.0.1", "port": 1, "server_hostname": "name"},
        {"sock": "UDP"},
    ],
    ids=["nothing", "both", "hostname without ssl", "datagram"],
)
async def test_impossible_arguments_are_refused(loop, keywords):
    """ValueError, as asyncio; nothing is left open."""
    stream = socket.socket()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stream, datagram:
        stream.setblocking(False)
        datagram.setblocking(False)
        given = {"SOCK": stream, "UDP": datagram}
        arguments = {
            k: given.get(v, v) if isinstance(v, str) else v for k, v in keywords.items()
        }
        with pytest.raises(ValueError):
            await loop.create_connection(asyncio.Protocol, **arguments)


async def test_cancelled_connect_leaves_nothing(loop):
    """R33: a connect that hangs is given up, its descriptor closed."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = []
        try:
            for _ in range(4):  # the backlog is full: the next one hangs
                other = socket.socket()
                other.setblocking(False)
                other.connect_ex(full.getsockname())
                others.append(other)
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *full.getsockname())
            )
            await asyncio.sleep(0.05)
            assert not connecting.done()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        finally:
            for other in others:
                other.close()


@pytest.mark.known_difference("uvloop", "not implemented")
async def test_happy_eyeballs_tries_the_next_address(loop, listener, monkeypatch):
    """create_connection(happy_eyeballs_delay=): the second address answers."""
    port = listener.getsockname()[1]

    async def getaddrinfo(host, port_, **keywords):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    loop.getaddrinfo = getaddrinfo
    try:
        transport, protocol = await loop.create_connection(
            lambda: Recorder(loop), "two.addresses.invalid", port, happy_eyeballs_delay=0.25
        )
    finally:
        del loop.getaddrinfo
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    transport.abort()
    await protocol.closed()


@pytest.mark.known_difference("uvloop", "not implemented")
@pytest.mark.parametrize("interleave", [None, 1])
async def test_happy_eyeballs_does_not_wait_for_an_address_that_says_nothing(
    loop, listener, interleave
):
    """create_connection(happy_eyeballs_delay=, interleave=): another is tried beside it."""
    port = listener.getsockname()[1]

    async def getaddrinfo(host, port_, **keywords):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in ("127.0.0.2", "127.0.0.1")
        ]

    loop.getaddrinfo = getaddrinfo
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        for _ in range(8):  # a full backlog: the system drops further connections
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        began = loop.time()
        transport, protocol = await loop.create_connection(
            lambda: Recorder(loop),
            "two.addresses.invalid",
            port,
            happy_eyeballs_delay=0.05,
            interleave=interleave,
        )
        assert transport.get_extra_info("peername") == ("127.0.0.1", port)
        assert 0.05 <= loop.time() - began < 0.9  # the SYN is repeated after a second
        transport.abort()
        await protocol.closed()
    del loop.getaddrinfo


@pytest.mark.skipif(sys.version_info < (3, 12), reason="since 3.12")
@pytest.mark.known_difference("uvloop", "not implemented")
async def test_all_errors_are_raised_as_a_group(loop, refused_port):
    """R32: create_connection(all_errors=True): one for each address."""
    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821
        await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", refused_port, all_errors=True
        )
    assert [type(error) for error in raised.value.exceptions] == [ConnectionRefusedError]


async def test_open_connection_streams(loop, listener):
    """asyncio.open_connection: StreamReader and StreamWriter over our transport."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    far, _ = listener.accept()
    with far:
        writer.write(b"question\n")
        await writer.drain()
        assert await receive(far, 9) == b"question\n"
        far.sendall(b"answer\nrest")
        assert await reader.readline() == b"answer\n"
        far.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"rest"
        writer.close()
        await writer.wait_closed()


@pytest.mark.time_limit(20)
async def test_stream_writer_drain_waits_for_the_peer(loop, listener):
    """R52: drain() returns when the buffer is below the low mark."""
    _, writer = await asyncio.open_connection(*listener.getsockname())
    far, _ = listener.accept()
    with far:
        total = 0

        async def write_all():
            nonlocal total
            for _ in range(200):
                writer.write(b"x" * 65536)
                await writer.drain()
                total += 65536

        writing = asyncio.ensure_future(write_all())
        await asyncio.sleep(0.1)
        assert not writing.done()
        await receive(far, 200 * 65536)
        await writing
        writer.close()
        await writer.wait_closed()


async def test_failing_factory_is_reported_for_a_mocked_socket(loop):
    """R33: the caller gets the factory's exception, for any answer of the socket's fileno()."""
    sock = mock.Mock()
    sock.type = socket.SOCK_STREAM
    with pytest.raises(ZeroDivisionError):
        await loop.create_connection(raising_factory, sock=sock)


@pytest.mark.known_difference("uvloop", "has no such hook")
async def test_mocked_socket_with_a_descriptor_gets_a_transport(loop):
    """R34: only the result of fileno() needs to be a number, no attribute of the socket."""
    with given_socket() as (near, far):
        sock = mock.Mock()
        sock.fileno.return_value = near.fileno()
        protocol = Recorder(loop)
        transport = loop._make_socket_transport(sock, protocol)
        await turns(3)
        assert protocol.transport is transport
        transport.abort()
        assert await protocol.closed() is None
        sock.setsockopt.assert_not_called()
