"""The sock_* coroutines: R30."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import tempfile

import pytest

BIG = 4 * 1024 * 1024


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


async def receive_exactly(loop, sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = await loop.sock_recv(sock, 1 << 16)
        assert chunk, f"end of file after {len(data)} bytes"
        data += chunk
    return bytes(data)


def test_connect_accept_send_receive(loop, listener, run):
    """R30: the five of a plain TCP exchange."""

    async def main():
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

    run(loop, main())


def test_they_are_coroutine_functions_or_awaitables(loop, pair, run):
    """R30: nothing happens before they are awaited or made a task."""
    left, right = pair

    async def main():
        receiving = loop.sock_recv(left, 10)
        assert asyncio.iscoroutine(receiving) or asyncio.isfuture(receiving)
        right.send(b"x")
        assert await receiving == b"x"

    run(loop, main())


def test_send_of_more_than_fits_waits_for_room(loop, pair, run):
    """R30: sock_sendall returns when everything is with the kernel."""
    left, right = pair
    data = os.urandom(BIG)

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(left, data))
        assert await receive_exactly(loop, right, BIG) == data
        assert await sending is None

    run(loop, main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_can_be_sent(loop, pair, run, kind):
    """R30: bytes, bytearray, memoryview."""
    left, right = pair

    async def main():
        await loop.sock_sendall(left, kind(b"data"))
        await loop.sock_sendall(left, kind(b""))
        assert await loop.sock_recv(right, 100) == b"data"

    run(loop, main())


def test_refused_connection_names_the_address(loop, run):
    """R32, section 4: ConnectionRefusedError(111, "Connect call failed (...)")."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()  # bound, not listening: refused, and nobody takes it

        async def main():
            with socket.socket() as client:
                client.setblocking(False)
                with pytest.raises(ConnectionRefusedError):
                    await loop.sock_connect(client, address)

        run(loop, main())


def test_unix_connect(loop, run, tmp_path):
    """R30: an AF_UNIX address is a path."""
    path = str(tmp_path / "socket")

    async def main():
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

    run(loop, main())


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


def test_cancelled_accept_and_connect_unwatch(loop, listener, run):
    """R30: the socket can be used again."""

    async def main():
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        await asyncio.sleep(0.002)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        with socket.create_connection(listener.getsockname()):
            server, _ = await loop.sock_accept(listener)
            server.close()

    run(loop, main())


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


def test_receive_with_a_timeout_can_be_repeated(loop, pair, run):
    """R30: wait_for(sock_recv) many times, then data."""
    left, right = pair

    async def main():
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(left, 10), 0.001)
        right.send(b"x")
        assert await loop.sock_recv(left, 10) == b"x"

    run(loop, main())


def test_receive_and_send_on_one_socket_at_once(loop, pair, run):
    """R30: both directions wait independently."""
    left, right = pair

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(left, b"x" * BIG))
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await asyncio.sleep(0.005)
        assert not sending.done() and not receiving.done()
        right.send(b"y")
        assert await receiving == b"y"
        await receive_exactly(loop, right, BIG)
        await sending

    run(loop, main())


@pytest.mark.known_difference("uvloop", "ssl sockets are not looked at", strict=False)
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
    """R32: a reset is ConnectionResetError, a closed peer BrokenPipeError or the like."""
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
def test_datagrams_by_sock_calls(loop, run):
    """R30: sock_recvfrom, sock_recvfrom_into, sock_sendto, on 3.10 too."""

    async def main():
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

    run(loop, main())


def test_ping_pong_keeps_its_order(loop, pair, run):
    """R30: a thousand exchanges over one socket pair; bytes never mix."""
    left, right = pair

    async def echo():
        while data := await loop.sock_recv(right, 4096):
            await loop.sock_sendall(right, data)

    async def main():
        echoing = asyncio.ensure_future(echo())
        for i in range(1000):
            message = b"%d" % i
            await loop.sock_sendall(left, message)
            assert await receive_exactly(loop, left, len(message)) == message
        left.shutdown(socket.SHUT_WR)
        await echoing

    run(loop, main())


def test_closed_and_reused_socket_numbers_do_not_mix(loop, run):
    """R29: a socket that was closed after sock_* leaves nothing behind for the next."""

    async def main():
        for i in range(50):
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                right.setblocking(False)
                receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
                await asyncio.sleep(0)
                await loop.sock_sendall(right, b"%d" % i)
                assert await receiving == b"%d" % i

    run(loop, main())


@pytest.mark.known_difference("uvloop", "not implemented")
def test_sendfile_over_a_plain_socket(loop, run):
    """R74: sock_sendfile; the file's position ends after what was sent."""
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


# -- cancellation and order -------------------------------------------------------------------


async def until(condition, timeout_s=5.0):
    """Turns of the loop until it is so."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout_s
    while not condition():
        assert loop.time() < give_up, "waited too long"
        await asyncio.sleep(0)


async def until_waiting(*tasks):
    """Turns until each task waits for a future."""
    await until(lambda: all(task._fut_waiter is not None for task in tasks))


def future_is_set(task):
    return task._fut_waiter is not None and task._fut_waiter.done()


@pytest.mark.known_difference("asyncio", "the bytes are in the future, and lost with it")
@pytest.mark.known_difference("uvloop", "the bytes are in the future, and lost with it")
def test_receive_cancelled_between_readiness_and_its_turn_loses_no_byte(loop, pair, run):
    """R30: the event was served, the task did not run yet, and is cancelled."""
    left, right = pair

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
        await until_waiting(receiving)
        right.send(b"kept")
        await until(lambda: future_is_set(receiving))
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert await asyncio.wait_for(loop.sock_recv(left, 100), 0.5) == b"kept"

    run(loop, main())


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
def test_receivers_of_one_socket_are_served_in_order(loop, pair, run):
    """R30: first come, first served; all of them."""
    left, right = pair

    async def main():
        tasks = [asyncio.ensure_future(loop.sock_recv(left, 1)) for _ in range(4)]
        await until_waiting(*tasks)
        right.send(b"abcd")  # one event for all of them
        assert await asyncio.gather(*tasks) == [b"a", b"b", b"c", b"d"]

        tasks = [asyncio.ensure_future(loop.sock_recv(left, 1)) for _ in range(2)]
        await until_waiting(*tasks)
        right.close()
        assert await asyncio.gather(*tasks) == [b"", b""]

    run(loop, main())


def test_cancelled_receiver_passes_its_event_on(mioloop_loop, pair, run):
    """R30: whoever waits behind it gets the bytes that it was woken for."""
    loop, (left, right) = mioloop_loop, pair

    async def main():
        first, second, third = [asyncio.ensure_future(loop.sock_recv(left, 10)) for _ in range(3)]
        await until_waiting(first, second, third)
        second.cancel()
        right.send(b"x")
        await until(lambda: future_is_set(first))
        first.cancel()
        assert await asyncio.wait_for(third, 5) == b"x"
        assert first.cancelled() and second.cancelled()

    run(loop, main())


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
def test_several_may_accept_on_one_listener(loop, listener, run):
    """R30: workers that share a listening socket each get a connection."""

    async def main():
        tasks = [asyncio.ensure_future(loop.sock_accept(listener)) for _ in range(3)]
        await until_waiting(*tasks)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        accepted = await asyncio.gather(*tasks)
        assert [address for _, address in accepted] == [c.getsockname() for c in clients]
        for sock in [*clients, *(server for server, _ in accepted)]:
            sock.close()

    run(loop, main())


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
def test_two_sendalls_do_not_mix(loop, pair, run):
    """R30: the second begins when the first is done."""
    left, right = pair

    async def main():
        first = asyncio.ensure_future(loop.sock_sendall(left, b"1" * BIG))
        second = asyncio.ensure_future(loop.sock_sendall(left, b"2" * BIG))
        assert await receive_exactly(loop, right, 2 * BIG) == b"1" * BIG + b"2" * BIG
        await asyncio.gather(first, second)

    run(loop, main())


# -- the registration -------------------------------------------------------------------------


def registrations(fd):
    """In how many epolls of this process *fd* is."""
    count = 0
    for other in os.listdir("/proc/self/fd"):
        try:
            with open(f"/proc/self/fdinfo/{other}") as info:
                count += sum(1 for line in info if line.split()[:2] == ["tfd:", str(fd)])
        except FileNotFoundError:
            pass
    return count


def test_registration_is_kept_between_calls(mioloop_loop, pair, run):
    """Section 6: try first, arm at the first wait, leave it until the socket is closed."""
    loop, (left, right) = mioloop_loop, pair
    if loop.selector != "epoll":
        pytest.skip("only epoll tells what it watches")

    async def main():
        right.send(b"x")
        await loop.sock_recv(left, 10)
        assert registrations(left.fileno()) == 0  # it did not have to wait
        for _ in range(2):
            receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
            await until_waiting(receiving)
            assert registrations(left.fileno()) == 1
            right.send(b"x")
            await receiving
            assert registrations(left.fileno()) == 1
        number = left.fileno()
        left.close()
        assert registrations(number) == 0

    run(loop, main())


def reopened(number):
    """A new pair of sockets, the first of which has the descriptor *number*."""
    left, right = socket.socketpair()
    if left.fileno() != number:
        right.close()
        spare = left
        left, right = socket.socketpair()
        spare.close()
    assert left.fileno() == number
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def test_new_socket_on_a_reused_number_is_watched_anew(mioloop_loop, run):
    """R29: in both directions, also if the old one was watched by add_reader()."""
    loop = mioloop_loop
    stale = []

    async def exchange(left, right):
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await until_waiting(receiving)
        await loop.sock_sendall(right, b"x")
        assert await asyncio.wait_for(receiving, 5) == b"x"
        sending = asyncio.ensure_future(loop.sock_sendall(left, b"y" * BIG))
        await receive_exactly(loop, right, BIG)
        await asyncio.wait_for(sending, 5)

    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        for watched in (False, True, True, False, False):
            with left, right:
                await exchange(left, right)
                if watched:
                    loop.add_reader(left, stale.append, 1)
                    loop.add_writer(left, stale.append, 1)
                number = left.fileno()
                left.close()
                del stale[:]
                pair = reopened(number)
            left, right = pair
        with left, right:
            await exchange(left, right)
        assert not stale

    run(loop, main())


def test_waiting_call_of_a_closed_socket_fails_when_its_number_is_used_again(mioloop_loop, run):
    """R29: EBADF, and not a byte of the new socket's."""
    loop = mioloop_loop

    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        with left, right:
            old = asyncio.ensure_future(loop.sock_recv(left, 10))
            await until_waiting(old)
            number = left.fileno()
            left.close()
            new_left, new_right = reopened(number)
        with new_left, new_right:
            new = asyncio.ensure_future(loop.sock_recv(new_left, 10))
            await until_waiting(new)
            new_right.send(b"x")
            assert await asyncio.wait_for(new, 5) == b"x"
            with pytest.raises(OSError, match="Bad file descriptor"):
                await asyncio.wait_for(old, 5)

    run(loop, main())


def test_transport_takes_over_a_socket_that_was_used_before(loop, pair, run):
    """R28: connected and used by sock_*, then handed to create_connection()."""
    left, right = pair

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await until_waiting(receiving)
        right.send(b"before")
        assert await receiving == b"before"
        reader, writer = await asyncio.open_connection(sock=left)
        right.send(b"after")
        assert await reader.readexactly(5) == b"after"
        writer.write(b"answer")
        assert await loop.sock_recv(right, 10) == b"answer"
        writer.close()
        await writer.wait_closed()

    run(loop, main())


def test_call_that_waits_when_a_transport_takes_the_socket_is_refused(mioloop_loop, pair, run):
    """R28: it does not hang, and takes nothing from the transport."""
    loop, (left, right) = mioloop_loop, pair

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await until_waiting(receiving)
        reader, writer = await asyncio.open_connection(sock=left)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await asyncio.wait_for(receiving, 5)
        right.send(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()

    run(loop, main())


@pytest.mark.known_difference("uvloop", "remove_writer() returns None")
def test_writer_callback_beside_a_waiting_receive(loop, pair, run):
    """R24: add_writer() and remove_writer() leave sock_recv() alone."""
    left, right = pair
    writable = []

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
        await until_waiting(receiving)
        loop.add_writer(left, writable.append, True)
        await until(lambda: len(writable) > 2)  # R25: every turn
        assert loop.remove_writer(left)
        right.send(b"x")
        assert await asyncio.wait_for(receiving, 5) == b"x"
        assert not loop.remove_writer(left)

    run(loop, main())


def test_reader_callback_outlives_a_receive(mioloop_loop, pair, run):
    """R24: only remove_reader() removes it; it fires again for what is left."""
    loop, (left, right) = mioloop_loop, pair
    seen = []

    async def main():
        loop.add_reader(left, seen.append, True)
        sending = asyncio.ensure_future(loop.sock_sendall(left, b"x" * BIG))
        await until_waiting(sending)
        await receive_exactly(loop, right, BIG)
        await asyncio.wait_for(sending, 5)
        receiving = asyncio.ensure_future(loop.sock_recv(left, 1))
        await until_waiting(receiving)
        assert not seen
        right.send(b"ab")
        assert await asyncio.wait_for(receiving, 5) == b"a"
        del seen[:]
        await until(lambda: len(seen) > 2)  # R25: "b" is there
        assert loop.remove_reader(left)
        assert await loop.sock_recv(left, 10) == b"b"

    run(loop, main())


def test_idle_watch_does_not_turn_the_loop(mioloop_loop, pair, run):
    """R25: level-triggered for add_writer() alone; what sock_*() left over is not reported."""
    loop, (left, right) = mioloop_loop, pair

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(left, 1))
        await until_waiting(receiving)
        sending = asyncio.ensure_future(loop.sock_sendall(right, b"x" * BIG))
        await until_waiting(sending)
        loop.add_reader(right, print)  # nothing to read there
        right_count = len(await receiving)
        left_over = BIG - right_count
        polls = loop.stats()["polls"]
        await asyncio.sleep(0.05)
        assert loop.stats()["polls"] - polls < 10  # left is readable, and nobody wants to know
        await receive_exactly(loop, left, left_over)
        await sending
        loop.remove_reader(right)

    run(loop, main())


# -- sizes, kinds and errors ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, 65536, 262144, 300_000, BIG])
def test_receive_of_any_size(loop, pair, run, size):
    """R30: at most what was asked for, and in the end all of it."""
    left, right = pair
    data = os.urandom(min(size * 3, BIG))

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(left, data))
        got = bytearray()
        while len(got) < len(data):
            chunk = await loop.sock_recv(right, size)
            assert type(chunk) is bytes and 0 < len(chunk) <= size
            got += chunk
        assert got == data
        await sending

    run(loop, main())


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
def test_unfit_argument_is_refused(loop, pair, run, method, argument, error):
    """R30: with the type that the socket's own method raises."""
    left, right = pair
    right.send(b"x")  # uvloop looks at the argument when there is something to read

    async def main():
        with pytest.raises(error):
            await getattr(loop, method)(left, argument)

    run(loop, main())


@pytest.mark.known_difference("asyncio", "counts items, not bytes, and never ends", run=False)
@pytest.mark.known_difference("uvloop", "counts items, not bytes", run=False)
def test_view_of_wide_items_is_sent_whole(loop, pair, run):
    """R30: by its bytes."""
    left, right = pair
    data = memoryview(bytes(range(256)) * 8192).cast("I")

    async def main():
        sending = asyncio.ensure_future(loop.sock_sendall(left, data))
        assert await receive_exactly(loop, right, data.nbytes) == data.tobytes()
        await sending

    run(loop, main())


def test_data_is_released_when_it_is_sent(loop, pair, run):
    """R50's twin: a bytearray can be resized after sock_sendall()."""
    left, _ = pair

    async def main():
        data = bytearray(b"x" * 1000)
        await loop.sock_sendall(left, data)
        data.extend(b"y")

    run(loop, main())


def test_data_is_released_when_its_sending_is_cancelled(loop, pair, run):
    """R50's twin: at once."""
    left, _ = pair

    async def main():
        data = bytearray(b"x" * BIG)
        sending = asyncio.ensure_future(loop.sock_sendall(left, data))
        await until_waiting(sending)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        data.extend(b"y")

    run(loop, main())


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
@pytest.mark.known_difference("uvloop", "takes EAGAIN for EINPROGRESS", strict=False)
def test_full_unix_listener_refuses(loop, run, tmp_path):
    """R32: connect() failed with EAGAIN, and nothing will tell when there is room."""
    path = str(tmp_path / "socket")

    async def main():
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

    run(loop, main())


def test_host_name_is_resolved(loop, listener, run):
    """R83: by the loop's getaddrinfo()."""

    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            server, _ = await loop.sock_accept(listener)
            server.close()

    run(loop, main())


def test_refused_connection_says_which(mioloop_loop, run):
    """R32, section 4: the text of asyncio's."""
    loop = mioloop_loop

    async def main():
        with socket.socket() as free, socket.socket() as client:
            free.bind(("127.0.0.1", 0))
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as caught:
                await loop.sock_connect(client, free.getsockname())
            assert caught.value.strerror == f"Connect call failed {free.getsockname()}"

    run(loop, main())


# -- the coroutine ----------------------------------------------------------------------------


@pytest.mark.known_difference("mioloop", "native ones have no room for the mark", until=(3, 10))
def test_they_can_be_told_for_coroutine_functions(loop, run):
    """R30: mock.patch.object(loop, "sock_recv") shall make an AsyncMock."""
    assert asyncio.iscoroutinefunction(loop.sock_recv)
    assert asyncio.iscoroutinefunction(loop.sock_connect)


def test_forgotten_await_is_told(loop, pair):
    """R30: RuntimeWarning, as for a coroutine of Python's."""
    left, _ = pair
    with pytest.warns(RuntimeWarning, match=r"sock_recv' was never awaited"):
        receiving = loop.sock_recv(left, 1)
        del receiving
        gc.collect()


def test_finished_call_cannot_be_awaited_again(loop, pair, run):
    """R30: RuntimeError, as for a coroutine of Python's."""
    left, right = pair
    right.send(b"x")

    async def main():
        receiving = loop.sock_recv(left, 1)
        assert await receiving == b"x"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await receiving

    run(loop, main())


@pytest.mark.known_difference("asyncio", "unwatches in a later turn")
@pytest.mark.known_difference("uvloop", "always waits first")
def test_call_is_driven_like_a_coroutine(loop, pair):
    """R30: send(), throw(), close()."""
    left, right = pair
    right.send(b"x")
    with pytest.raises(StopIteration) as stop:
        loop.sock_recv(left, 1).send(None)
    assert stop.value.value == b"x"

    receiving = loop.sock_recv(left, 1)
    assert asyncio.isfuture(receiving.send(None))
    with pytest.raises(ZeroDivisionError, match="thrown"):
        receiving.throw(ZeroDivisionError("thrown"))

    receiving = loop.sock_recv(left, 1)
    receiving.send(None)
    receiving.close()
    receiving.close()
    loop.sock_recv(left, 1).close()  # not even begun
    assert not loop.remove_reader(left)


def test_tuple_result_arrives_as_it_is(mioloop_loop, pair, run):
    """R30: whether or not it had to wait."""
    loop, (left, right) = mioloop_loop, pair

    async def main():
        right.send(b"x")
        assert await loop.sock_recvfrom(left, 10) == (b"x", None)
        receiving = asyncio.ensure_future(loop.sock_recvfrom(left, 10))
        await until_waiting(receiving)
        right.send(b"y")
        assert await receiving == (b"y", None)

    run(loop, main())


def test_loop_can_be_closed_under_a_waiting_call(mioloop_kind, pair):
    """R22: no error, no abort; the call can be closed afterwards."""
    left, _ = pair
    loop = mioloop_kind.new()
    receiving = loop.sock_recv(left, 10)
    assert asyncio.isfuture(receiving.send(None))
    second = loop.sock_recv(left, 10)
    second.send(None)
    loop.close()
    receiving.close()
    with pytest.raises(KeyError):
        second.throw(KeyError)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(left, 10).send(None)


def test_descriptors_that_cannot_be_polled_are_refused(mioloop_loop):
    """R23: the system's error, no abort; a waiting call leaves nothing behind."""
    loop = mioloop_loop

    class NeverReady:
        def fileno(self):
            return file.fileno()

        def recv(self, size):
            raise BlockingIOError

    with tempfile.TemporaryFile() as file:
        before = loop.stats()["sources"]
        with pytest.raises(PermissionError):
            loop.sock_recv(NeverReady(), 10).send(None)
        assert loop.stats()["sources"] == before


def test_cancelled_connect_unwatches(loop, run):
    """R30: the socket can be closed, and its number used, at once."""

    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = []
            for _ in range(4):  # a listener whose queue is full does not answer
                client = socket.socket()
                client.setblocking(False)
                waiting.append(
                    (client, asyncio.ensure_future(loop.sock_connect(client, full.getsockname())))
                )
            await asyncio.sleep(0.02)
            assert not waiting[-1][1].done()
            for client, connecting in waiting:
                connecting.cancel()
                await asyncio.wait([connecting])
                assert not loop.remove_writer(client)
                client.close()

    run(loop, main())
