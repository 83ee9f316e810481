"""UdpSocket."""

from __future__ import annotations

import errno
import socket

import pytest

from mioloop.mio import Event, PollOpt, Ready, net

READ, WRITE = Ready.READABLE, Ready.WRITABLE
EDGE, LEVEL = PollOpt.EDGE, PollOpt.LEVEL


@pytest.fixture
def udp_pair():
    with net.UdpSocket.bind("127.0.0.1:0") as tx, net.UdpSocket.bind("127.0.0.1:0") as rx:
        yield tx, rx


def test_udp_socket(poll, expect, udp_pair):
    tx, rx = udp_pair
    with pytest.raises(BlockingIOError):
        rx.recv_from(10)
    poll.register(tx, 0, WRITE, EDGE)
    poll.register(rx, 1, READ, EDGE)
    expect((0, WRITE))
    assert tx.send_to(b"hello world", rx.local_addr()) == 11
    expect((1, READ))
    assert rx.recv_from(100) == (b"hello world", tx.local_addr())
    with pytest.raises(BlockingIOError):
        rx.recv_from(100)
    host, port = rx.local_addr()
    tx.send_to(b"again", f"{host}:{port}")
    expect((1, READ))
    buffer = bytearray(3)
    assert rx.recv_from_into(buffer) == (3, tx.local_addr())    # the rest is lost
    assert bytes(buffer) == b"aga"


def test_udp_socket_send_recv(poll, expect, udp_pair):
    tx, rx = udp_pair
    with pytest.raises(OSError) as caught:
        tx.send(b"to whom?")
    assert caught.value.errno == errno.EDESTADDRREQ
    tx.connect(rx.local_addr())
    rx.connect(tx.local_addr())
    poll.register(rx, 1, READ, EDGE)
    assert tx.send(b"hello") == 5
    expect((1, READ))
    assert rx.recv(100) == b"hello"
    with pytest.raises(BlockingIOError):
        rx.recv_into(bytearray(1))


def test_udp_socket_discard(poll, expect, udp_pair):
    tx, rx = udp_pair
    with net.UdpSocket.bind("127.0.0.1:0") as third:
        tx.connect(rx.local_addr())
        rx.connect(third.local_addr())
        poll.register(rx, 0, READ, EDGE)
        tx.send(b"hello")
        expect.nothing()


def test_udp_socket_send_recv_bufs(poll, expect, udp_pair):
    tx, rx = udp_pair
    tx.connect(rx.local_addr())
    poll.register(rx, 0, READ, EDGE)
    assert tx.send_bufs([b"he", b"llo ", b"", b"world"]) == 11
    expect((0, READ))
    buffers = [bytearray(3), bytearray(1), bytearray(20)]
    assert rx.recv_bufs(buffers) == 11                  # one datagram
    assert b"".join(buffers)[:11] == b"hello world"
    with pytest.raises(BlockingIOError):
        rx.recv_bufs(buffers)


def test_udp_level_triggered(poll, expect, udp_pair):
    tx, rx = udp_pair
    poll.register(tx, 0, READ | WRITE, LEVEL)
    poll.register(rx, 1, READ | WRITE, LEVEL)
    for _ in range(2):
        assert {event.token: event.readiness for event in expect.now()} == {0: WRITE, 1: WRITE}
    tx.send_to(b"hello", rx.local_addr())
    expect((1, READ))
    for _ in range(2):
        assert Event(READ | WRITE, 1) in expect.now()
    rx.recv_from(100)
    assert Event(WRITE, 1) in expect.now()
    tx.close()
    rx.close()
    expect.nothing()


def test_an_empty_datagram_is_no_end(poll, expect, udp_pair):
    tx, rx = udp_pair
    poll.register(rx, 0, READ, EDGE)
    tx.send_to(b"", rx.local_addr())
    tx.send_to(b"after", rx.local_addr())
    expect((0, READ))
    assert rx.recv_from(100)[0] == b""
    assert rx.recv_from(100)[0] == b"after"


def test_a_refused_peer_is_an_error_event_and_a_connection_refused(poll, expect, udp_pair):
    tx, rx = udp_pair
    tx.connect(rx.local_addr())
    rx.close()
    poll.register(tx, 0, READ, EDGE)
    tx.send(b"x")
    seen = expect((0, Ready.ERROR))
    assert seen[0].readiness == Ready.ERROR
    with pytest.raises(ConnectionRefusedError):
        tx.send(b"x")


def test_datagram_that_is_too_long_is_emsgsize(udp_pair):
    tx, rx = udp_pair
    with pytest.raises(OSError) as caught:
        tx.send_to(bytes(100_000), rx.local_addr())
    assert caught.value.errno == errno.EMSGSIZE


def test_two_sockets_cannot_have_one_address(udp_pair):
    with pytest.raises(OSError) as caught:
        net.UdpSocket.bind(udp_pair[0].local_addr())
    assert caught.value.errno == errno.EADDRINUSE


def test_from_socket_takes_over(poll):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with net.UdpSocket.from_socket(sock) as udp:
        assert sock.fileno() == -1
        with pytest.raises(BlockingIOError):
            udp.recv(1)


def test_multicast(poll, expect, udp_pair):
    tx, rx = udp_pair
    try:
        rx.join_multicast_v4("227.1.1.100", "127.0.0.1")
        rx.join_multicast_v4("227.1.1.101", "127.0.0.1")
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")
    poll.register(rx, 0, READ, EDGE)
    tx.send_to(b"hello world", rx.local_addr())
    expect((0, READ))
    assert rx.recv_from(100) == (b"hello world", tx.local_addr())
    with pytest.raises(OSError) as caught:
        rx.join_multicast_v4("227.1.1.100", "127.0.0.1")
    assert caught.value.errno == errno.EADDRINUSE
    rx.leave_multicast_v4("227.1.1.100", "127.0.0.1")
    with pytest.raises(OSError) as caught:
        rx.leave_multicast_v4("227.1.1.100", "127.0.0.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_multicast_v6():
    try:
        udp = net.UdpSocket.bind("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with udp:
        udp.set_multicast_loop_v6(False)
        assert udp.multicast_loop_v6() is False
        lo = socket.if_nametoindex(socket.if_nameindex()[0][1])
        udp.join_multicast_v6("ff01::1234", lo)
        udp.leave_multicast_v6("ff01::1234", lo)


def test_bad_groups_are_value_errors(udp_pair):
    for bad in ("localhost", "::1"):
        with pytest.raises(ValueError):
            udp_pair[0].join_multicast_v4(bad, "0.0.0.0")
    with pytest.raises(ValueError):
        udp_pair[0].join_multicast_v6("227.1.1.1", 0)


def test_options_are_kept(udp_pair):
    tx, _ = udp_pair
    assert tx.broadcast() is False
    tx.set_broadcast(True)
    assert tx.broadcast() is True
    assert tx.multicast_ttl_v4() == 1
    tx.set_multicast_ttl_v4(5)
    assert tx.multicast_ttl_v4() == 5
    tx.set_multicast_loop_v4(False)
    assert tx.multicast_loop_v4() is False
    tx.set_ttl(9)
    assert tx.ttl() == 9
    assert tx.take_error() is None
