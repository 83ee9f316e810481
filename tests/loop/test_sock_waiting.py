"""The sock_* coroutines that wait: cancelled, queued, on descriptors used again. R28 to R30."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import socket
import tempfile

import pytest

from tests.support.connections import receive_exactly
from tests.support.waiting import future_is_set, until, until_waiting

BIG = 4 * 1024 * 1024


# -- cancellation and order -------------------------------------------------------------------


@pytest.mark.known_difference("asyncio", "the bytes are in the future, and lost with it")
@pytest.mark.known_difference("uvloop", "the bytes are in the future, and lost with it")
async def test_receive_cancelled_between_readiness_and_its_turn_loses_no_byte(loop, pair):
    """R30: the event was served, the task did not run yet, and is cancelled."""
    left, right = pair
    receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
    await until_waiting(receiving)
    right.send(b"kept")
    await until(lambda: future_is_set(receiving))
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await asyncio.wait_for(loop.sock_recv(left, 100), 0.5) == b"kept"


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
async def test_receivers_of_one_socket_are_served_in_order(loop, pair):
    """R30: first come, first served; all of them."""
    left, right = pair
    tasks = [asyncio.ensure_future(loop.sock_recv(left, 1)) for _ in range(4)]
    await until_waiting(*tasks)
    right.send(b"abcd")  # one event for all of them
    assert await asyncio.gather(*tasks) == [b"a", b"b", b"c", b"d"]

    tasks = [asyncio.ensure_future(loop.sock_recv(left, 1)) for _ in range(2)]
    await until_waiting(*tasks)
    right.close()
    assert await asyncio.gather(*tasks) == [b"", b""]


async def test_cancelled_receiver_passes_its_event_on(mioloop_loop, pair):
    """R30: the next waiting call gets the bytes that the cancelled one was woken for."""
    loop, (left, right) = mioloop_loop, pair
    first, second, third = [asyncio.ensure_future(loop.sock_recv(left, 10)) for _ in range(3)]
    await until_waiting(first, second, third)
    second.cancel()
    right.send(b"x")
    await until(lambda: future_is_set(first))
    first.cancel()
    assert await asyncio.wait_for(third, 5) == b"x"
    assert first.cancelled() and second.cancelled()


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
async def test_several_may_accept_on_one_listener(loop, listener):
    """R30: workers that share a listening socket each get a connection."""
    tasks = [asyncio.ensure_future(loop.sock_accept(listener)) for _ in range(3)]
    await until_waiting(*tasks)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    accepted = await asyncio.gather(*tasks)
    assert [address for _, address in accepted] == [c.getsockname() for c in clients]
    for sock in [*clients, *(server for server, _ in accepted)]:
        sock.close()


@pytest.mark.known_difference("asyncio", "a second one replaces the first", run=False)
@pytest.mark.known_difference("uvloop", "refuses the second", run=False)
async def test_two_sendalls_do_not_mix(loop, pair):
    """R30: the second begins when the first is done."""
    left, right = pair
    first = asyncio.ensure_future(loop.sock_sendall(left, b"1" * BIG))
    second = asyncio.ensure_future(loop.sock_sendall(left, b"2" * BIG))
    assert await receive_exactly(loop, right, 2 * BIG) == b"1" * BIG + b"2" * BIG
    await asyncio.gather(first, second)


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


async def test_new_socket_on_a_reused_number_is_watched_anew(mioloop_loop):
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


async def test_waiting_call_of_a_closed_socket_fails_when_its_number_is_used_again(mioloop_loop):
    """R29: EBADF, and not a byte of the new socket's."""
    loop = mioloop_loop
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


async def test_transport_takes_over_a_socket_that_was_used_before(loop, pair):
    """R28: connected and used by sock_*, then handed to create_connection()."""
    left, right = pair
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


async def test_call_that_waits_when_a_transport_takes_the_socket_is_refused(mioloop_loop, pair):
    """R28: it does not hang, and takes nothing from the transport."""
    loop, (left, right) = mioloop_loop, pair
    receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
    await until_waiting(receiving)
    reader, writer = await asyncio.open_connection(sock=left)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await asyncio.wait_for(receiving, 5)
    right.send(b"x")
    assert await reader.readexactly(1) == b"x"
    writer.close()
    await writer.wait_closed()


@pytest.mark.known_difference("uvloop", "remove_writer() returns None")
async def test_writer_callback_beside_a_waiting_receive(loop, pair):
    """R24: add_writer() and remove_writer() leave sock_recv() alone."""
    left, right = pair
    writable = []
    receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
    await until_waiting(receiving)
    loop.add_writer(left, writable.append, True)
    await until(lambda: len(writable) > 2)  # R25: every turn
    assert loop.remove_writer(left)
    right.send(b"x")
    assert await asyncio.wait_for(receiving, 5) == b"x"
    assert not loop.remove_writer(left)


async def test_reader_callback_outlives_a_receive(mioloop_loop, pair):
    """R24: only remove_reader() removes the callback; it fires again for the remaining bytes."""
    loop, (left, right) = mioloop_loop, pair
    seen = []
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


async def test_idle_watch_does_not_turn_the_loop(mioloop_loop, pair):
    """R25: level-triggered for add_writer() alone; bytes that sock_*() left are not reported."""
    loop, (left, right) = mioloop_loop, pair
    receiving = asyncio.ensure_future(loop.sock_recv(left, 1))
    await until_waiting(receiving)
    sending = asyncio.ensure_future(loop.sock_sendall(right, b"x" * BIG))
    await until_waiting(sending)
    loop.add_reader(right, print)  # nothing to read there
    right_count = len(await receiving)
    left_over = BIG - right_count
    polls = loop.stats()["polls"]
    await asyncio.sleep(0.05)
    assert loop.stats()["polls"] - polls < 10  # left is readable, and no call waits for it
    await receive_exactly(loop, left, left_over)
    await sending
    loop.remove_reader(right)


# -- the coroutine ----------------------------------------------------------------------------


@pytest.mark.known_difference("mioloop", "native ones have no room for the mark", until=(3, 10))
def test_they_can_be_told_for_coroutine_functions(loop, run):
    """R30: mock.patch.object(loop, "sock_recv") shall make an AsyncMock."""
    # 3.16 leaves it to inspect, which does not know the mark that versions before 3.12 go by.
    is_one = getattr(asyncio, "iscoroutinefunction", inspect.iscoroutinefunction)
    assert is_one(loop.sock_recv)
    assert is_one(loop.sock_connect)


def test_forgotten_await_is_told(loop, pair):
    """R30: RuntimeWarning, as for a coroutine of Python's."""
    left, _ = pair
    with pytest.warns(RuntimeWarning, match=r"sock_recv' was never awaited"):
        receiving = loop.sock_recv(left, 1)
        del receiving
        gc.collect()


@pytest.mark.known_difference("uvloop", "raises StopIteration, once in a while", strict=False)
async def test_finished_call_cannot_be_awaited_again(loop, pair):
    """R30: RuntimeError, as for a coroutine of Python's."""
    left, right = pair
    right.send(b"x")
    receiving = loop.sock_recv(left, 1)
    assert await receiving == b"x"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await receiving


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


async def test_tuple_result_arrives_as_it_is(mioloop_loop, pair):
    """R30: whether or not it had to wait."""
    loop, (left, right) = mioloop_loop, pair
    right.send(b"x")
    assert await loop.sock_recvfrom(left, 10) == (b"x", None)
    receiving = asyncio.ensure_future(loop.sock_recvfrom(left, 10))
    await until_waiting(receiving)
    right.send(b"y")
    assert await receiving == (b"y", None)


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


async def test_cancelled_connect_unwatches(loop):
    """R30: the socket can be closed, and its number used, at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(4):  # a listener with a full queue does not answer
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
