"""A turn sees each event that was ready when it began, as many turns later as on asyncio (R92).

Every cause is counted on asyncio first, and then on the loop under test. Each is counted in a
loop that has just begun to be busy, in one that has been busy for so long that mioloop asks an
io_uring instead of the selector, and beside other tasks and idle connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

import pytest

from tests.support.waiting import Turns

TURNS_UNTIL_A_PEEK_IS_ARMED = 200


class Seen(asyncio.Protocol, asyncio.DatagramProtocol):
    """Sets a future when something happens."""

    def __init__(self, seen):
        self.seen = seen

    def connection_made(self, transport):
        self.transport = transport

    def happened(self, *_):
        if not self.seen.done():
            self.seen.set_result(None)

    data_received = datagram_received = eof_received = happened


# -- causes: each makes something ready in its own thread, and says when it was noticed ----------


async def reader_of(loop, stack, seen):
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
        stack.callback(sock.close)
    loop.add_reader(left, seen.set_result, None)
    stack.callback(loop.remove_reader, left)
    return right


async def stream_of(loop, stack, seen):
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    stack.callback(right.close)
    transport, protocol = await loop.create_connection(lambda: Seen(seen), sock=left)
    stack.callback(transport.close)
    return transport, right


async def bare_send_to_a_reader(loop, stack, seen):
    right = await reader_of(loop, stack, seen)
    return lambda: right.send(b"x")


async def os_write_to_a_pipe(loop, stack, seen):
    read_end, write_end = os.pipe()
    stack.callback(os.close, read_end)
    stack.callback(os.close, write_end)
    loop.add_reader(read_end, seen.set_result, None)
    stack.callback(loop.remove_reader, read_end)
    return lambda: os.write(write_end, b"x")


async def bare_send_to_a_stream(loop, stack, seen):
    _, right = await stream_of(loop, stack, seen)
    return lambda: right.send(b"x")


async def close_of_a_streams_peer(loop, stack, seen):
    _, right = await stream_of(loop, stack, seen)
    return right.close


async def shutdown_by_a_streams_peer(loop, stack, seen):
    _, right = await stream_of(loop, stack, seen)
    return lambda: right.shutdown(socket.SHUT_WR)


async def write_of_a_transport(loop, stack, seen):
    _, right = await stream_of(loop, stack, seen)
    other, _ = await loop.create_connection(asyncio.Protocol, sock=right.dup())
    stack.callback(other.close)
    return lambda: other.write(b"x")


async def write_eof_of_a_transport(loop, stack, seen):
    _, right = await stream_of(loop, stack, seen)
    other, _ = await loop.create_connection(asyncio.Protocol, sock=right.dup())
    stack.callback(other.close)
    return other.write_eof


async def sendto_of_a_transport(loop, stack, seen):
    receiver, _ = await loop.create_datagram_endpoint(
        lambda: Seen(seen), local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname"))
    stack.callback(receiver.close)
    stack.callback(sender.close)
    return lambda: sender.sendto(b"x")


async def sock_sendall(loop, stack, seen):
    right = await reader_of(loop, stack, seen)

    def send():
        coroutine = loop.sock_sendall(right, b"x")
        with contextlib.suppress(StopIteration):
            coroutine.send(None)

    return send


async def connect_to_a_watched_listener(loop, stack, seen):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    stack.callback(listener.close)
    loop.add_reader(listener, seen.set_result, None)
    stack.callback(loop.remove_reader, listener)
    client = socket.socket()
    stack.callback(client.close)
    return lambda: client.connect(listener.getsockname())


async def data_before_add_reader(loop, stack, seen):
    left, right = socket.socketpair()
    left.setblocking(False)
    stack.callback(left.close)
    stack.callback(right.close)
    right.send(b"x")
    stack.callback(loop.remove_reader, left)
    return lambda: loop.add_reader(left, seen.set_result, None)


async def data_before_resume_reading(loop, stack, seen):
    transport, right = await stream_of(loop, stack, seen)
    transport.pause_reading()
    right.send(b"x")
    await asyncio.sleep(0.01)   # an edge is reported now, and kept
    return transport.resume_reading


async def data_and_resume_reading_at_once(loop, stack, seen):
    transport, right = await stream_of(loop, stack, seen)
    transport.pause_reading()

    def send_and_resume():
        right.send(b"x")
        transport.resume_reading()

    return send_and_resume


CAUSES = [
    bare_send_to_a_reader,
    os_write_to_a_pipe,
    bare_send_to_a_stream,
    close_of_a_streams_peer,
    shutdown_by_a_streams_peer,
    write_of_a_transport,
    write_eof_of_a_transport,
    sendto_of_a_transport,
    sock_sendall,
    connect_to_a_watched_listener,
    data_before_add_reader,
    data_before_resume_reading,
    data_and_resume_reading_at_once,
]


def turns_until_seen(loop, cause, turns_before, busy_tasks=0, idle_connections=0):
    """How many turns after the one that made it ready it is noticed in."""

    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        seen = loop.create_future()
        noticed = loop.create_future()
        with contextlib.ExitStack() as stack:
            for _ in range(idle_connections):
                await stream_of(loop, stack, loop.create_future())
            make_ready = await cause(loop, stack, seen)
            tasks = [asyncio.ensure_future(spin()) for _ in range(busy_tasks)]
            turns = Turns(loop)
            while turns.count < turns_before:
                await asyncio.sleep(0)
            began = []

            def begin():
                began.append(turns.count)
                make_ready()

            seen.add_done_callback(lambda _: noticed.set_result(turns.count))
            loop.call_soon(begin)
            result = await asyncio.wait_for(noticed, 20) - began[0]
            turns.chain.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        return result

    return loop.run_until_complete(main())


def on_asyncio(*args, **kwargs):
    loop = asyncio.SelectorEventLoop()
    try:
        return turns_until_seen(loop, *args, **kwargs)
    finally:
        loop.close()


@pytest.mark.known_difference("uvloop", "has turns of another order", but=("write_eof",))
@pytest.mark.parametrize("turns_before", [5, TURNS_UNTIL_A_PEEK_IS_ARMED])
@pytest.mark.parametrize("cause", CAUSES)
def test_ready_event_is_seen_in_the_turn_that_asyncio_sees_it_in(loop, cause, turns_before):
    """R92: a look at the selector in every turn."""
    assert turns_until_seen(loop, cause, turns_before) == on_asyncio(cause, turns_before)


@pytest.mark.known_difference("uvloop", "has turns of another order", but=("write_eof",))
@pytest.mark.parametrize("cause", CAUSES)
def test_busy_tasks_and_idle_connections_do_not_delay_a_ready_event(loop, cause):
    """R92: however full the ready queue is."""
    crowd = {"busy_tasks": 3, "idle_connections": 20}
    expected = on_asyncio(cause, TURNS_UNTIL_A_PEEK_IS_ARMED, **crowd)
    assert turns_until_seen(loop, cause, TURNS_UNTIL_A_PEEK_IS_ARMED, **crowd) == expected


@pytest.mark.known_difference("uvloop", "has turns of another order")
@pytest.mark.parametrize("connections", [0, 8])
def test_signal_handler_runs_in_the_turn_that_asyncio_runs_it_in(loop, connections):
    """R92: also where nothing is watched but the loop's own self-pipe."""

    async def cause(loop, stack, seen):
        loop.add_signal_handler(signal.SIGUSR1, seen.set_result, None)
        stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
        return lambda: os.kill(os.getpid(), signal.SIGUSR1)

    for turns_before in (5, TURNS_UNTIL_A_PEEK_IS_ARMED):
        expected = on_asyncio(cause, turns_before, idle_connections=connections)
        assert turns_until_seen(
            loop, cause, turns_before, idle_connections=connections) == expected


@pytest.mark.known_difference("uvloop", "reports 1,024 descriptors at most")
def test_every_ready_descriptor_is_served_in_one_turn(loop, many_descriptors):
    """R92: one turn serves 1,500 readers, as asyncio's does."""
    pairs = [socket.socketpair() for _ in range(1500)]
    served = []
    try:
        for left, right in pairs:
            loop.add_reader(left, served.append, left)
            right.send(b"x")
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert len(served) == 1500
    finally:
        for left, right in pairs:
            loop.remove_reader(left)
            left.close()
            right.close()


@pytest.fixture
def many_descriptors():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4000:
        pytest.skip("fewer than 4,000 descriptors are permitted")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- the peek -----------------------------------------------------------------------------------


def test_a_busy_loop_with_idle_connections_stops_asking_the_selector(mioloop_loop):
    """With an io_uring, turns that find nothing make no system call."""
    import mioloop.doctor  # noqa: F401
    from mioloop.reactor.reactor import io_uring_problem

    loop = mioloop_loop
    if loop.selector != "epoll" or io_uring_problem():
        pytest.skip("no io_uring, or no descriptor to watch with it")

    async def main():
        with contextlib.ExitStack() as stack:
            await stream_of(loop, stack, loop.create_future())
            for _ in range(50):
                await asyncio.sleep(0)
            before = loop.stats()["polls"]
            for _ in range(1000):
                await asyncio.sleep(0)
            return loop.stats()["polls"] - before

    assert loop.run_until_complete(main()) < 50


def test_loop_that_moves_to_another_thread_sees_a_ready_event(mioloop_loop):
    """The kernel tells of completions in the thread that asked; the next one asks anew."""
    import threading

    loop = mioloop_loop
    results = []

    def run():
        results.append(turns_until_seen(loop, bare_send_to_a_reader, TURNS_UNTIL_A_PEEK_IS_ARMED))

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    run()
    assert results == [results[0]] * 3


def test_level_triggered_descriptor_that_is_not_read_is_reported_in_every_turn(loop):
    """R25 in a busy loop: as many calls as turns."""
    left, right = socket.socketpair()
    calls = []

    async def main():
        loop.add_reader(left, calls.append, None)
        right.send(b"x")
        for _ in range(3):
            await asyncio.sleep(0)
        before = len(calls)
        for _ in range(TURNS_UNTIL_A_PEEK_IS_ARMED):
            await asyncio.sleep(0)
        loop.remove_reader(left)
        return len(calls) - before

    with left, right:
        assert loop.run_until_complete(main()) == TURNS_UNTIL_A_PEEK_IS_ARMED
