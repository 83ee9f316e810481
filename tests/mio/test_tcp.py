"""TcpListener and TcpStream."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import struct
import threading
from collections import deque

import pytest

from mioloop.mio import Event, Events, MioError, Poll, PollOpt, Ready, net
from tests.support.ipv6 import ipv6

READ, WRITE = Ready.READABLE, Ready.WRITABLE
BOTH = READ | WRITE
EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
BULK_BYTES = 16 * 1024 * 1024


# -- listening and connecting ----------------------------------------------------------------


def test_accept(poll, expect, listener):
    poll.register(listener, 1, READ, EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        assert expect((1, READ)) == [Event(READ, 1)]
        stream, addr = listener.accept()
        with stream:
            assert addr == client.local_addr()
            assert not os.get_blocking(stream.fileno())
            assert not os.get_inheritable(stream.fileno())
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_accept_std_gives_a_blocking_stdlib_socket(poll, expect, listener):
    poll.register(listener, 1, READ, EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        expect((1, READ))
        sock, addr = listener.accept_std()
        with sock:
            assert type(sock) is socket.socket
            assert os.get_blocking(sock.fileno())
            assert sock.gettimeout() is None
            assert sock.getpeername() == addr == client.local_addr()


def test_connect(poll, expect, listener):
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 1, BOTH, EDGE)
        assert expect((1, WRITE)) == [Event(WRITE, 1)]
        assert client.take_error() is None
        assert client.peer_addr() == listener.local_addr()
        with Poll() as waiting:
            waiting.register(listener.fileno(), 0, READ, LEVEL)
            waiting.poll(Events(1), 10)
        listener.accept()[0].close()
        assert all(event.token == 1 for event in expect((1, READ)))
        expect.nothing()


def test_connect_then_close(poll, expect, listener):
    poll.register(listener, 1, READ, EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 2, READ, EDGE)
        expect((1, READ))
        accepted, _ = listener.accept()
        poll.register(accepted, 3, BOTH, EDGE)
        accepted.close()
        expect((2, READ))
        assert client.read(1) == b""


def test_listen_then_close(poll, expect, listener):
    poll.register(listener, 1, READ, EDGE)
    listener.close()
    expect.nothing()


def test_bind_twice_bad(listener):
    with pytest.raises(OSError) as caught:
        net.TcpListener.bind(listener.local_addr())
    assert caught.value.errno == errno.EADDRINUSE


def test_bind_to_a_foreign_address_fails():
    with pytest.raises(OSError) as caught:
        net.TcpListener.bind("192.0.2.1:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_listener_reuses_the_address_of_closed_connections(tcp_pair, listener):
    assert listener._open().getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_connect_error(poll, expect):
    with net.TcpListener.bind("127.0.0.1:0") as gone:
        addr = gone.local_addr()
    try:
        client = net.TcpStream.connect(addr)
    except ConnectionRefusedError:
        return                                          # at once, on some systems
    with client:
        poll.register(client, 0, WRITE, EDGE)
        seen = expect((0, WRITE))
        assert seen[0].readiness == WRITE | Ready.ERROR | Ready.HUP
        error = client.take_error()
        assert isinstance(error, ConnectionRefusedError)
        assert client.take_error() is None
        with pytest.raises(OSError) as caught:
            client.peer_addr()
        assert caught.value.errno == errno.ENOTCONN


def test_local_addr_ready(poll, expect, listener):
    poll.register(listener, 0, READ, EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 1, BOTH, EDGE)
        expect((0, READ), (1, WRITE))
        accepted, addr = listener.accept()
        with accepted:
            assert accepted.peer_addr() == client.local_addr() == addr
            assert accepted.local_addr() == client.peer_addr() == listener.local_addr()


@ipv6
def test_ipv6_listener_and_stream(poll, expect):
    with net.TcpListener.bind("[::1]:0") as listener:
        poll.register(listener, 0, READ, EDGE)
        with net.TcpStream.connect(listener.local_addr()) as client:
            expect((0, READ))
            accepted, addr = listener.accept()
            accepted.close()
            assert addr[:2] == client.local_addr()[:2]


def test_connect_stream_takes_over_a_configured_socket(poll, expect, listener):
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    with net.TcpStream.connect_stream(sock, listener.local_addr()) as client:
        assert sock.fileno() == -1
        assert client.nodelay()
        assert not os.get_blocking(client.fileno())
        poll.register(client, 0, WRITE, EDGE)
        expect((0, WRITE))
        assert client.take_error() is None


def test_from_stream_and_from_std_take_over_and_make_non_blocking():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        with net.TcpStream.from_stream(client) as stream:
            assert client.fileno() == -1
            with pytest.raises(BlockingIOError):
                stream.read(1)
        with net.TcpListener.from_std(server) as listener:
            assert server.fileno() == -1
            listener.accept()[0].close()
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_taking_over_a_socket_of_another_kind_is_a_value_error_and_takes_nothing():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for use in (net.TcpStream.from_stream, net.TcpListener.from_std):
            with pytest.raises(ValueError, match="SOCK_STREAM"):
                use(udp)
        with pytest.raises(ValueError, match="needs a AF_INET/AF_INET6 SOCK_STREAM socket"):
            net.TcpStream.from_fd(udp.fileno())
        assert udp.fileno() != -1
        with pytest.raises(TypeError, match="expected a socket.socket, not 3"):
            net.TcpStream.from_stream(3)
    with pytest.raises(ValueError, match="is closed"):
        net.UdpSocket.from_socket(udp)


def test_from_fd_owns_the_descriptor_and_leaves_its_mode(listener):
    for blocking in (True, False):
        with socket.create_connection(listener.local_addr()) as sock:
            sock.setblocking(blocking)
            fd = sock.detach()
        with net.TcpStream.from_fd(fd) as stream:
            assert stream.fileno() == fd
            assert os.get_blocking(fd) is blocking
        with pytest.raises(OSError):
            os.fstat(fd)


def test_from_fd_ignores_the_stdlibs_default_timeout(listener):
    socket.setdefaulttimeout(5)
    try:
        with net.TcpStream.connect(listener.local_addr()) as stream:
            with pytest.raises(BlockingIOError):
                stream.read(1)
            with net.TcpStream.from_fd(stream.detach()) as again, pytest.raises(BlockingIOError):
                again.read(1)
    finally:
        socket.setdefaulttimeout(None)


def test_from_fd_of_a_file_that_is_no_socket_is_an_os_error():
    read_fd, write_fd = os.pipe()
    try:
        with pytest.raises(OSError) as caught:
            net.TcpStream.from_fd(read_fd)
        assert caught.value.errno == errno.ENOTSOCK
        os.fstat(read_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_handles_are_made_by_their_class_methods_only():
    for cls in (net.TcpStream, net.TcpListener, net.UdpSocket):
        with pytest.raises(TypeError, match="made by its class methods"):
            cls()


def test_closed_handle_is_a_value_error(poll, tcp_pair):
    client, _ = tcp_pair
    poll.register(client, 0, READ, EDGE)
    assert "fd=" in repr(client)
    client.close()
    client.close()
    assert client.closed
    assert "closed" in repr(client)
    for call in (
        client.fileno,
        client.detach,
        client.local_addr,
        client.take_error,
        client.try_clone,
        client.flush,
        client.nodelay,
        lambda: client.read(1),
        lambda: client.write(b"x"),
        lambda: client.shutdown(socket.SHUT_WR),
        lambda: poll.register(client, 0, READ, EDGE),
        lambda: poll.deregister(client),
    ):
        with pytest.raises(ValueError, match="TcpStream is closed"):
            call()


def test_detach_gives_the_descriptor_away(tcp_pair):
    client, server = tcp_pair
    fd = client.detach()
    assert client.closed
    os.write(fd, b"x")
    os.close(fd)
    with Poll() as poll:
        poll.register(server, 0, READ, LEVEL)
        poll.poll(Events(1), 10)
    assert server.read(5) == b"x"


# -- bytes -----------------------------------------------------------------------------------


def flow(poll: Poll, sink, source, *, opts: PollOpt, take, give) -> None:
    """Drive *take* and *give* by events until *take* has returned True."""
    poll.register(sink, 0, READ, opts)
    poll.register(source, 1, WRITE, opts)
    events = Events(16)
    done = False
    while not done:
        assert poll.poll(events, 10) > 0, "no progress"
        for event in events:
            if event.token == 0:
                done = take()
            else:
                give()


@pytest.mark.parametrize("opts", [EDGE, LEVEL], ids=str)
def test_read_and_write_of_16_mib(poll, tcp_pair, opts):
    client, server = tcp_pair
    chunk = random.Random(1).randbytes(64 * 1024 + 7)
    sent = received = 0
    buffer = bytearray(32 * 1024 + 3)

    def give() -> None:
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            while sent < BULK_BYTES:
                at = sent % len(chunk)
                sent += client.write(chunk[at : at + BULK_BYTES - sent])
        if sent == BULK_BYTES:
            poll.deregister(client)
            client.shutdown(socket.SHUT_WR)
            sent += 1

    def take() -> bool:
        nonlocal received
        with contextlib.suppress(BlockingIOError):
            while count := server.read_into(buffer):
                at = received % len(chunk)
                expected = (chunk[at:] + chunk)[:count]
                assert buffer[:count] == expected
                received += count
            return True
        return False

    flow(poll, server, client, opts=opts, take=take, give=give)
    assert received == BULK_BYTES


def test_peek(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(server, 0, READ, EDGE)
    client.write_all(b"hello")
    expect((0, READ))
    assert server.peek(10) == b"hello"
    assert server.peek(2) == b"he"
    assert server.read(10) == b"hello"
    with pytest.raises(BlockingIOError):
        server.peek(1)


def test_read_bufs_and_write_bufs_of_odd_sizes(poll, tcp_pair):
    client, server = tcp_pair
    sizes = (1, 3, 8192, 64_000, 4095)
    data = random.Random(2).randbytes(1024 * 1024)
    out = deque([data])
    back = bytearray()

    def give() -> None:
        with contextlib.suppress(BlockingIOError):
            while out:
                rest = out.popleft()
                bufs, at = [], 0
                for size in sizes:
                    bufs.append(rest[at : at + size])
                    at += size
                try:
                    count = client.write_bufs(bufs)
                except BlockingIOError:
                    out.append(rest)
                    raise
                if rest[count:]:
                    out.append(rest[count:])
        if not out:
            poll.deregister(client)
            client.shutdown(socket.SHUT_WR)
            out.append(b"")

    def take() -> bool:
        bufs = [bytearray(size) for size in sizes]
        try:
            count = server.read_bufs(bufs)
        except BlockingIOError:
            return False
        back.extend(b"".join(bufs)[:count])
        return count == 0

    flow(poll, server, client, opts=LEVEL, take=take, give=give)
    assert back == data


def test_write_all_that_fills_the_socket_says_how_much_went(tcp_pair):
    client, _ = tcp_pair
    data = bytes(64 * 1024 * 1024)
    with pytest.raises(BlockingIOError) as caught:
        client.write_all(data)
    assert 0 < caught.value.characters_written < len(data)


def test_write_all_sends_everything_of_any_buffer(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(server, 0, READ, EDGE)
    client.write_all(bytearray(b"ab"))
    client.write_all(memoryview(struct.pack("=I", 0x64636463)).cast("I"))
    client.write_all(b"")
    client.flush()
    expect((0, READ))
    got = b""
    while len(got) < 6:
        with contextlib.suppress(BlockingIOError):
            got += server.read(100)
    assert got == b"ab" + struct.pack("=I", 0x64636463)


def test_write_all_on_a_socket_that_takes_nothing_is_write_zero(tcp_pair, monkeypatch):
    client, _ = tcp_pair
    monkeypatch.setattr(net.TcpStream, "write", lambda self, data: 0)
    with pytest.raises(MioError) as caught:
        client.write_all(b"x")
    assert caught.value.kind == "WriteZero"
    assert caught.value.errno is None


def test_multiple_writes_immediate_success(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(client, 0, WRITE, EDGE)
    expect((0, WRITE))
    for _ in range(16):
        assert client.write(b"x" * 1024) == 1024
    poll.register(server, 1, READ, LEVEL)
    received = 0
    while received < 16 * 1024:
        expect((1, READ))
        received += len(server.read(16 * 1024))


@pytest.mark.parametrize("register_late", [False, True])
def test_connection_reset_by_peer(poll, expect, tcp_pair, register_late):
    client, server = tcp_pair
    if not register_late:
        poll.register(server, 0, READ, EDGE)
        expect.nothing()
    client.set_linger(0)
    client.close()
    if register_late:
        poll.register(server, 0, READ, EDGE)
    expect((0, READ))
    with pytest.raises(ConnectionResetError):
        server.read(1)


def test_write_error(tcp_pair, poll, expect):
    client, server = tcp_pair
    poll.register(client, 0, BOTH, EDGE)
    server.close()
    expect((0, READ))
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            try:
                client.write(b"x" * 1024)
            except BlockingIOError:
                expect((0, Ready.HUP))


def test_writing_after_own_shutdown_is_a_broken_pipe(tcp_pair):
    client, _ = tcp_pair
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        client.write(b"x")


def test_shutdown_before_connecting_is_enotconn():
    stream = net.TcpStream.from_stream(socket.socket())
    with stream, pytest.raises(OSError) as caught:
        stream.shutdown(socket.SHUT_WR)
    assert caught.value.errno == errno.ENOTCONN


# -- shutting down ---------------------------------------------------------------------------


def test_write_shutdown(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(client, 0, BOTH, EDGE)
    poll.register(server, 1, BOTH, EDGE)
    expect((0, WRITE), (1, WRITE))
    expect.nothing()
    server.shutdown(socket.SHUT_WR)
    seen = [event for event in expect((0, READ)) if event.token == 0]
    assert all(not event.readiness.is_hup() for event in seen)
    assert client.read(1) == b""


def test_graceful_shutdown(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(client, 0, BOTH, LEVEL)
    poll.register(server, 1, BOTH, LEVEL)
    server.shutdown(socket.SHUT_WR)
    expect((0, READ))
    client.shutdown(socket.SHUT_WR)
    expect((0, READ | Ready.HUP), (1, READ | Ready.HUP))
    assert server.read(1) == b""


def test_abrupt_shutdown(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(client, 0, BOTH, EDGE)
    expect((0, WRITE))
    poll.reregister(client, 0, BOTH, EDGE)
    server.set_linger(0)
    server.close()
    expect((0, BOTH | Ready.HUP | Ready.ERROR))
    with pytest.raises(ConnectionResetError):
        client.read(1)


def test_close_on_drop(poll, expect, listener):
    poll.register(listener, 0, READ, EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 1, READ, EDGE)
        expect((0, READ))
        accepted = listener.accept()
        del accepted
        expect((1, READ))
        assert client.read(1) == b""


@pytest.mark.parametrize("deregister", [False, True])
def test_write_then_drop(poll, expect, tcp_pair, deregister):
    client, server = tcp_pair
    poll.register(client, 0, Ready.EMPTY, EDGE)
    poll.register(server, 1, WRITE, EDGE)
    assert expect((1, WRITE)) == [Event(WRITE, 1)]
    server.write_all(b"1234")
    if deregister:
        poll.deregister(server)
    else:
        server.close()
    expect.nothing()
    poll.reregister(client, 0, READ, EDGE)
    assert expect((0, READ)) == [Event(READ, 0)]
    assert client.read(10) == b"1234"


# -- level -----------------------------------------------------------------------------------


def test_tcp_listener_level_triggered(poll, expect, listener):
    poll.register(listener, 0, READ, LEVEL)
    expect.nothing()
    with net.TcpStream.connect(listener.local_addr()):
        expect((0, READ))
        for _ in range(3):
            assert expect.now() == [Event(READ, 0)]
        listener.accept()[0].close()
        expect.nothing()
    with net.TcpStream.connect(listener.local_addr()):
        expect((0, READ))
        listener.close()
        expect.nothing()


def test_tcp_stream_level_triggered(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(client, 0, BOTH, LEVEL)
    expect((0, WRITE))
    for _ in range(3):
        assert expect.now() == [Event(WRITE, 0)]
    server.write_all(b"hello")
    expect((0, READ))
    for _ in range(3):
        assert expect.now() == [Event(BOTH, 0)]
    assert client.read(10) == b"hello"
    assert expect.now() == [Event(WRITE, 0)]
    client.close()
    expect.nothing()


# -- a whole server --------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [2, 500])
def test_echo_server(poll, listener, messages):
    """A slab of connections, re-armed oneshot by oneshot, echoes *messages* lines."""
    opts = EDGE | ONESHOT
    poll.register(listener, 0, READ, EDGE)
    client = net.TcpStream.connect(listener.local_addr())
    poll.register(client, 1, WRITE, opts)
    connections: dict[int, tuple[net.TcpStream, bytearray]] = {}
    wanted = [b"message %d\n" % i for i in range(messages)]
    unsent = deque(wanted)
    echoed = bytearray()
    events = Events(16)
    with client:
        while echoed.count(b"\n") < messages:
            assert poll.poll(events, 10) > 0
            for event in events:
                if event.token == 0:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            stream, _ = listener.accept()
                            token = 2 + len(connections)
                            connections[token] = (stream, bytearray())
                            poll.register(stream, token, READ, opts)
                elif event.token == 1:
                    if event.readiness.is_readable():
                        with contextlib.suppress(BlockingIOError):
                            while True:
                                echoed += client.read(100)
                    if event.readiness.is_writable() and unsent:
                        client.write_all(unsent.popleft())
                    poll.reregister(client, 1, BOTH if unsent else READ, opts)
                else:
                    stream, buffer = connections[event.token]
                    with contextlib.suppress(BlockingIOError):
                        while data := stream.read(100):
                            buffer += data
                    if event.readiness.is_writable() and buffer:
                        del buffer[: stream.write(bytes(buffer))]
                    poll.reregister(stream, event.token, BOTH if buffer else READ, opts)
        for stream, _ in connections.values():
            stream.close()
    assert bytes(echoed) == b"".join(wanted)


def test_handles_cross_threads(poll, events, spawn, tcp_pair):
    client, server = tcp_pair
    poll.register(server, 0, READ, EDGE)
    sent = threading.Event()

    def send() -> None:
        client.write_all(b"from elsewhere")
        sent.set()

    spawn(send)
    assert poll.poll(events, 10) == 1
    assert sent.wait(10)
    assert server.read(100) == b"from elsewhere"


def test_two_clones_of_a_listener_race_for_one_connection(poll, expect, listener):
    with listener.try_clone() as clone, net.TcpStream.connect(listener.local_addr()):
        poll.register(listener, 0, READ, EDGE)
        poll.register(clone, 1, READ, EDGE)
        expect((0, READ), (1, READ))
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            clone.accept()
