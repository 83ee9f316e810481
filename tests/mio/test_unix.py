"""UnixStream, UnixListener, UnixDatagram, pipes; descriptors of other kinds."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import subprocess
import sys

import pytest

from mioloop.mio import Event, Events, PollOpt, Ready, unix

READ, WRITE = Ready.READABLE, Ready.WRITABLE
EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


def test_unix_echo_server(poll, expect, tmp_path):
    path = tmp_path / "echo"
    with unix.UnixListener.bind(path) as listener:
        poll.register(listener, 0, READ, EDGE)
        with unix.UnixStream.connect(path) as client:
            assert client.peer_addr() == listener.local_addr() == str(path)
            poll.register(client, 1, READ, EDGE)
            expect((0, READ))
            server, _ = listener.accept()
            with pytest.raises(BlockingIOError):
                listener.accept()
            with server:
                poll.register(server, 2, READ, EDGE)
                for line in (b"first\n", b"second\n"):
                    client.write_all(line)
                    expect((2, READ))
                    server.write_all(server.read(100))
                    with pytest.raises(BlockingIOError):
                        server.read(1)
                    expect((1, READ))
                    assert client.read(100) == line
                    with pytest.raises(BlockingIOError):
                        client.read(1)
                client.shutdown(socket.SHUT_WR)
                seen = expect((2, READ))
                assert not seen[-1].readiness.is_hup()
                assert seen[-1].is_read_closed()
                assert server.read(1) == b""


def test_the_end_of_a_stream_is_a_hup(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, READ | WRITE, EDGE)
    right.close()
    expect((0, READ | WRITE | Ready.HUP))
    assert left.read(1) == b""
    with pytest.raises(BrokenPipeError):
        left.write(b"x")


def test_connecting_without_a_listener_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        unix.UnixStream.connect(tmp_path / "missing")
    unix.UnixListener.bind(tmp_path / "left").close()
    with pytest.raises(ConnectionRefusedError):
        unix.UnixStream.connect(tmp_path / "left")
    with pytest.raises(OSError) as caught:
        unix.UnixListener.bind(tmp_path / "left")
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has abstract names")
def test_abstract_names(poll, expect):
    name = b"\0mioloop-%d" % os.getpid()
    with unix.UnixListener.bind(name) as listener:
        poll.register(listener, 0, READ, EDGE)
        with unix.UnixStream.connect(name):
            expect((0, READ))
            listener.accept()[0].close()


def test_datagrams_by_path(poll, expect, tmp_path):
    with unix.UnixDatagram.bind(tmp_path / "rx") as rx, unix.UnixDatagram.unbound() as tx:
        poll.register(rx, 0, READ, EDGE)
        assert tx.send_to(b"hello", tmp_path / "rx") == 5
        expect((0, READ))
        assert rx.recv_from(100)[0] == b"hello"
        with pytest.raises(BlockingIOError):
            rx.recv(1)
        with pytest.raises(OSError) as caught:
            tx.peer_addr()
        assert caught.value.errno == errno.ENOTCONN
        tx.connect(tmp_path / "rx")
        assert tx.peer_addr() == str(tmp_path / "rx")
        tx.send(b"again")
        expect((0, READ))
        assert rx.recv(100) == b"again"
        tx.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            tx.send(b"x")
        with pytest.raises(OSError) as caught:
            unix.UnixDatagram.bind(tmp_path / "rx")
        assert caught.value.errno == errno.EADDRINUSE


def test_a_datagram_pair_is_connected(poll, expect):
    left, right = unix.UnixDatagram.pair()
    with left, right:
        poll.register(left, 0, READ, EDGE)
        right.send(b"one")
        right.send(b"two")
        expect((0, READ))
        assert left.recv(100) == b"one"
        assert left.recv(100) == b"two"


def test_stdlib_sockets_are_taken_over(tmp_path):
    for sock, make in (
        (socket.socket(socket.AF_UNIX), unix.UnixStream.from_std),
        (socket.socket(socket.AF_UNIX), unix.UnixListener.from_std),
        (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), unix.UnixDatagram.from_std),
    ):
        with make(sock) as handle:
            assert sock.fileno() == -1
            assert not os.get_blocking(handle.fileno())
    with socket.socket() as tcp, pytest.raises(ValueError, match="AF_UNIX"):
        unix.UnixStream.from_std(tcp)


def test_unix_pass_fd(poll, expect, pair):
    left, right = pair
    read_fd, write_fd = os.pipe()
    poll.register(right, 0, READ, EDGE)
    with socket.socket(fileno=os.dup(left.fileno())) as sock:
        sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read_fd]))])
    os.close(read_fd)
    expect((0, READ))
    with socket.socket(fileno=os.dup(right.fileno())) as sock:
        _, [(_, _, data)], _, _ = sock.recvmsg(1, socket.CMSG_LEN(4))
    with unix.Receiver.from_fd(array.array("i", data)[0]) as passed:
        poll.register(passed, 1, READ, EDGE)
        os.write(write_fd, b"through")
        expect((1, READ))
        assert passed.read(100) == b"through"
    os.close(write_fd)


# -- pipes -----------------------------------------------------------------------------------


def test_bytes_go_through_a_pipe(poll, expect):
    sender, receiver = unix.pipe()
    with sender, receiver:
        for end in (sender, receiver):
            assert not os.get_blocking(end.fileno())
            assert not os.get_inheritable(end.fileno())
        poll.register(receiver, 0, READ, EDGE)
        poll.register(sender, 1, WRITE, EDGE)
        assert expect.now() == [Event(WRITE, 1)]
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.write(bytes(65536))
        assert expect.now() == [Event(READ, 0)]
        with contextlib.suppress(BlockingIOError):
            while True:
                assert receiver.read(65536)
        assert expect.now() == [Event(WRITE, 1)]
        sender.write(b"x")
        assert expect.now()[-1] == Event(READ, 0)


def test_event_when_sender_is_dropped(poll, expect):
    sender, receiver = unix.pipe()
    with receiver:
        poll.register(receiver, 0, READ, EDGE)
        assert expect.now() == []
        sender.close()
        (event,) = expect((0, Ready.HUP))
        assert event.is_read_closed()


def test_event_when_receiver_is_dropped(poll, expect):
    sender, receiver = unix.pipe()
    with sender:
        poll.register(sender, 0, WRITE, EDGE)
        assert expect.now() == [Event(WRITE, 0)]
        poll.reregister(sender, 0, WRITE, EDGE)
        receiver.close()
        (event,) = expect((0, Ready.ERROR))
        assert event.is_write_closed()
        with pytest.raises(BrokenPipeError):
            sender.write(b"x")


def test_closed_pipe_end_is_a_value_error(poll):
    sender, receiver = unix.pipe()
    receiver.close()
    fd = sender.detach()
    os.close(fd)
    for end in (sender, receiver):
        assert end.closed
        with pytest.raises(ValueError, match=f"{type(end).__name__} is closed"):
            poll.register(end, 0, READ, EDGE)
        with pytest.raises(ValueError):
            end.fileno()
    with pytest.raises(OSError) as caught:
        unix.Sender.from_fd(fd)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(TypeError, match="made by pipe"):
        unix.Sender()


def test_subprocess_pipe(poll):
    """4 MiB through cat: the handler ignores the readiness, since the end is a hup only."""
    total = 4 * 1024 * 1024
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None
    assert child.stdout is not None
    sender = unix.Sender.from_fd(os.dup(child.stdin.fileno()))
    child.stdin.close()
    with child, unix.Receiver.from_fd(os.dup(child.stdout.fileno())) as receiver:
        sender.set_nonblocking(True)
        receiver.set_nonblocking(True)
        poll.register(sender, 0, WRITE, LEVEL)
        poll.register(receiver, 1, READ, LEVEL)
        events = Events(8)
        written = received = 0
        ended = False
        while not ended:
            assert poll.poll(events, 20) > 0
            for event in events:
                with contextlib.suppress(BlockingIOError):
                    if event.token == 0:
                        written += sender.write(bytes(min(65536, total - written)))
                        if written == total:
                            sender.close()
                    else:
                        data = receiver.read(65536)
                        received += len(data)
                        ended = not data
    assert received == total
