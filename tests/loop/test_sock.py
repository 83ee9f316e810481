"""The sock_* coroutines: R30."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile

import pytest

from tests.support.connections import receive_exactly
from tests.support.waiting import until_waiting

BIG = 4 * 1024 * 1024


async def test_connect_accept_send_receive(loop, listener):
    """R30: the five of a plain TCP exchange."""
    client = socket.socket()
    client.setblocking(False)
    accepting = asyncio.ensure_future(loop.sock_accept(listener))
    with client:
        await loop.sock_connect(client, listener.getsockname())
        server, address = await accepting
        with server:
            assert address == client.getsockname()
            assert server.gettimeout() == 0
            assert not os.get_inheritable(server.fileno())
            await loop.sock_sendall(client, b"question")
            assert await loop.sock_recv(server, 100) == b"question"
            await loop.sock_sendall(server, b"answer")
            buffer = bytearray(100)
            count = await loop.sock_recv_into(client, buffer)
            assert buffer[:count] == b"answer"
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(server, 100) == b""


async def test_they_are_coroutine_functions_or_awaitables(loop, pair):
    """R30: nothing happens before they are awaited or made a task."""
    left, right = pair
    receiving = loop.sock_recv(left, 10)
    assert asyncio.iscoroutine(receiving) or asyncio.isfuture(receiving)
    right.send(b"x")
    assert await receiving == b"x"


async def test_send_of_more_than_fits_waits_for_room(loop, pair):
    """R30: sock_sendall returns when everything is with the kernel."""
    left, right = pair
    data = os.urandom(BIG)
    sending = asyncio.ensure_future(loop.sock_sendall(left, data))
    assert await receive_exactly(loop, right, BIG) == data
    assert await sending is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_bytes_like_object_can_be_sent(loop, pair, kind):
    """R30: bytes, bytearray, memoryview."""
    left, right = pair
    await loop.sock_sendall(left, kind(b"data"))
    await loop.sock_sendall(left, kind(b""))
    assert await loop.sock_recv(right, 100) == b"data"


def test_refused_connection_names_the_address(loop, run):
    """R32, section 4: ConnectionRefusedError(111, "Connect call failed (...)")."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()  # bound but not listening: connections are refused

        async def main():
            with socket.socket() as client:
                client.setblocking(False)
                with pytest.raises(ConnectionRefusedError):
                    await loop.sock_connect(client, address)

        run(loop, main())


async def test_unix_connect(loop, tmp_path):
    """R30: an AF_UNIX address is a path."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, path)
        server, _ = await loop.sock_accept(listener)
        with server:
            await loop.sock_sendall(server, b"x")
            assert await loop.sock_recv(client, 10) == b"x"


@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into"])
def test_cancelled_receive_loses_no_byte(loop, pair, run, method):
    """R30: it unwatches, and the bytes are there for the next one."""
    left, right = pair

    async def main():
        argument = 100 if method == "sock_recv" else bytearray(100)
        receiving = asyncio.ensure_future(getattr(loop, method)(left, argument))
        await asyncio.sleep(0.005)
        receiving.cancel()
        right.send(b"kept")  # before the cancellation was delivered
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await asyncio.sleep(0.005)
        assert await loop.sock_recv(left, 100) == b"kept"

    run(loop, main())
    assert not loop.remove_reader(left)


async def test_cancelled_accept_and_connect_unwatch(loop, listener):
    """R30: the socket can be used again."""
    accepting = asyncio.ensure_future(loop.sock_accept(listener))
    await asyncio.sleep(0.002)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    with socket.create_connection(listener.getsockname()):
        server, _ = await loop.sock_accept(listener)
        server.close()


def test_cancelled_send_unwatches(loop, pair, run):
    """R30: no writer stays behind."""
    left, right = pair

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(left, b"x" * BIG))
        await asyncio.sleep(0.005)
        assert not sending.done()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(loop, main())
    assert not loop.remove_writer(left)


async def test_receive_with_a_timeout_can_be_repeated(loop, pair):
    """R30: wait_for(sock_recv) many times, then data."""
    left, right = pair
    for _ in range(20):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(left, 10), 0.001)
    right.send(b"x")
    assert await loop.sock_recv(left, 10) == b"x"


async def test_receive_and_send_on_one_socket_at_once(loop, pair):
    """R30: both directions wait independently."""
    left, right = pair
    sending = asyncio.ensure_future(loop.sock_sendall(left, b"x" * BIG))
    receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
    await asyncio.sleep(0.005)
    assert not sending.done() and not receiving.done()
    right.send(b"y")
    assert await receiving == b"y"
    await receive_exactly(loop, right, BIG)
    await sending


@pytest.mark.known_difference("uvloop", "ssl sockets are not looked at")
def test_ssl_socket_is_refused(loop, pair, run):
    """R30: TypeError."""
    left, _ = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    secure = context.wrap_socket(left, do_handshake_on_connect=False)

    async def main():
        for attempt in (
            lambda: loop.sock_recv(secure, 1),
            lambda: loop.sock_recv_into(secure, bytearray(1)),
            lambda: loop.sock_sendall(secure, b"x"),
            lambda: loop.sock_connect(secure, ("127.0.0.1", 1)),
        ):
            with pytest.raises(TypeError):
                await attempt()

    with secure:
        run(loop, main())


def test_blocking_socket_is_refused_in_debug(loop, run):
    """R30, section 4: 'the socket must be non-blocking'."""
    left, right = socket.socketpair()
    loop.set_debug(True)

    async def main():
        for attempt in (
            lambda: loop.sock_recv(left, 1),
            lambda: loop.sock_sendall(left, b"x"),
            lambda: loop.sock_connect(left, ("127.0.0.1", 1)),
            lambda: loop.sock_accept(left),
        ):
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await attempt()

    with left, right:
        run(loop, main())


def test_errors_of_the_socket_are_raised(loop, run):
    """R32: a reset is ConnectionResetError; a closed peer may also be BrokenPipeError."""
    left, right = socket.socketpair()
    left.setblocking(False)

    async def main():
        right.close()
        assert await loop.sock_recv(left, 1) == b""
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(left, b"x")

    with left:
        run(loop, main())


def test_socket_of_a_live_transport_is_refused(loop, pair, run):
    """R28: by sock_* too."""
    left, _ = pair

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        loop.set_debug(True)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await asyncio.wait_for(loop.sock_recv(left, 1), 1)
        transport.abort()
        await asyncio.sleep(0.01)

    run(loop, main())


@pytest.mark.known_difference("asyncio", "has them since 3.11", until=(3, 10))
@pytest.mark.known_difference("uvloop", "not implemented")
async def test_datagrams_by_sock_calls(loop):
    """R30: sock_recvfrom, sock_recvfrom_into, sock_sendto, on 3.10 too."""
    left = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    right = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        assert await loop.sock_sendto(left, b"one", right.getsockname()) == 3
        assert await loop.sock_recvfrom(right, 100) == (b"one", left.getsockname())
        waiting = asyncio.ensure_future(loop.sock_recvfrom_into(right, buffer := bytearray(9)))
        await asyncio.sleep(0.002)
        await loop.sock_sendto(left, b"two", right.getsockname())
        assert await waiting == (3, left.getsockname())
        assert buffer[:3] == b"two"
        await loop.sock_sendto(left, b"three", right.getsockname())
        count, _ = await loop.sock_recvfrom_into(right, buffer, 2)
        assert count == 2


async def test_ping_pong_keeps_its_order(loop, pair):
    """R30: a thousand exchanges over one socket pair; bytes never mix."""
    left, right = pair

    async def echo():
        while data := await loop.sock_recv(right, 4096):
            await loop.sock_sendall(right, data)

    echoing = asyncio.ensure_future(echo())
    for i in range(1000):
        message = b"%d" % i
        await loop.sock_sendall(left, message)
        assert await receive_exactly(loop, left, len(message)) == message
    left.shutdown(socket.SHUT_WR)
    await echoing


async def test_closed_and_reused_socket_numbers_do_not_mix(loop):
    """R29: a socket that was closed after sock_* leaves nothing behind for the next."""
    for i in range(50):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
            await asyncio.sleep(0)
            await loop.sock_sendall(right, b"%d" % i)
            assert await receiving == b"%d" % i


@pytest.mark.known_difference("uvloop", "not implemented")
def test_sendfile_over_a_plain_socket(loop, run):
    """R74: after sock_sendfile() the file's position is behind the last byte that was sent."""
    data = os.urandom(1_000_000)

    async def main(file):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            receiving = asyncio.ensure_future(receive_exactly(loop, right, 900_000 - 7))
            sent = await loop.sock_sendfile(left, file, 7, 900_000 - 7)
            assert sent == 900_000 - 7
            assert await receiving == data[7:900_000]
            assert file.tell() == 900_000

    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        run(loop, main(file))


# -- sizes, kinds and errors ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, 65536, 262144, 300_000, BIG])
async def test_receive_of_any_size(loop, pair, size):
    """R30: each call returns at most as many bytes as asked for, and all calls together all."""
    left, right = pair
    data = os.urandom(min(size * 3, BIG))
    sending = asyncio.ensure_future(loop.sock_sendall(left, data))
    got = bytearray()
    while len(got) < len(data):
        chunk = await loop.sock_recv(right, size)
        assert type(chunk) is bytes and 0 < len(chunk) <= size
        got += chunk
    assert got == data
    await sending


def test_long_datagram_arrives_whole(loop, run):
    """R30: also one that is longer than the buffer that reads share."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def main():
        for sock in (left, right):
            sock.setblocking(False)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        data = os.urandom(150_000)
        left.send(data)
        assert await loop.sock_recv(right, 1 << 20) == data

    with left, right:
        run(loop, main())


@pytest.mark.parametrize(
    ("method", "argument", "error"),
    [
        ("sock_recv", -1, ValueError),
        ("sock_recv", 1.5, TypeError),
        ("sock_recv", None, TypeError),
        ("sock_recv_into", b"read-only", TypeError),
        ("sock_recv_into", None, TypeError),
        ("sock_sendall", "text", TypeError),
    ],
)
async def test_unfit_argument_is_refused(loop, pair, method, argument, error):
    """R30: with the type that the socket's own method raises."""
    left, right = pair
    right.send(b"x")  # uvloop looks at the argument when there is something to read
    with pytest.raises(error):
        await getattr(loop, method)(left, argument)


@pytest.mark.known_difference("asyncio", "counts items, not bytes, and never ends", run=False)
@pytest.mark.known_difference("uvloop", "counts items, not bytes", run=False)
async def test_view_of_wide_items_is_sent_whole(loop, pair):
    """R30: by its bytes."""
    left, right = pair
    data = memoryview(bytes(range(256)) * 8192).cast("I")
    sending = asyncio.ensure_future(loop.sock_sendall(left, data))
    assert await receive_exactly(loop, right, data.nbytes) == data.tobytes()
    await sending


async def test_data_is_released_when_it_is_sent(loop, pair):
    """R50's twin: a bytearray can be resized after sock_sendall()."""
    left, _ = pair
    data = bytearray(b"x" * 1000)
    await loop.sock_sendall(left, data)
    data.extend(b"y")


async def test_data_is_released_when_its_sending_is_cancelled(loop, pair):
    """R50's twin: at once."""
    left, _ = pair
    data = bytearray(b"x" * BIG)
    sending = asyncio.ensure_future(loop.sock_sendall(left, data))
    await until_waiting(sending)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    data.extend(b"y")


def test_methods_of_a_socket_subclass_are_used(loop, run):
    """R30: PySocks and its like override them."""
    calls = []

    class Socket(socket.socket):
        def recv(self, *args):
            calls.append("recv")
            return super().recv(*args)

        def send(self, *args):
            calls.append("send")
            return super().send(*args)

    plain_left, plain_right = socket.socketpair()
    left, right = Socket(fileno=plain_left.detach()), Socket(fileno=plain_right.detach())

    async def main():
        left.setblocking(False)
        right.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendall(left, b"x" * BIG))
        await receive_exactly(loop, right, BIG)
        await sending

    with left, right:
        run(loop, main())
    assert {"recv", "send"} == set(calls)


def test_blocking_socket_does_not_block_the_loop(mioloop_loop, run):
    """R30 (+: asyncio would stand still): outside of debug mode it is not refused."""
    loop = mioloop_loop
    left, right = socket.socketpair()

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        sending = asyncio.ensure_future(loop.sock_sendall(right, b"x" * BIG))
        await until_waiting(sending)
        assert await receiving == b"x" * 10
        await receive_exactly(loop, left, BIG - 10)
        await sending

    with left, right:
        run(loop, main())


@pytest.mark.known_difference("asyncio", "takes EAGAIN for EINPROGRESS: connected, it says")
@pytest.mark.known_difference("uvloop", "takes EAGAIN for EINPROGRESS")
async def test_full_unix_listener_refuses(loop, tmp_path):
    """R32: connect() failed with EAGAIN, and nothing will tell when there is room."""
    path = str(tmp_path / "socket")
    clients = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        try:
            with pytest.raises(BlockingIOError):
                for _ in range(10):
                    clients.append(socket.socket(socket.AF_UNIX))
                    clients[-1].setblocking(False)
                    await loop.sock_connect(clients[-1], path)
        finally:
            for client in clients:
                client.close()


async def test_host_name_is_resolved(loop, listener):
    """R83: by the loop's getaddrinfo()."""
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
        server, _ = await loop.sock_accept(listener)
        server.close()


async def test_refused_connection_says_which(mioloop_loop):
    """R32, section 4: the text of asyncio's."""
    loop = mioloop_loop
    with socket.socket() as free, socket.socket() as client:
        free.bind(("127.0.0.1", 0))
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.sock_connect(client, free.getsockname())
        assert caught.value.strerror == f"Connect call failed {free.getsockname()}"
