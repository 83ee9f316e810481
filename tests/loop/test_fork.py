"""A forked child: R88, R89."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
import traceback
import warnings

import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*policy.*:DeprecationWarning"),
]


def in_child(work):
    """Run work() in a forked child: its exit status, 0 for None or a true result."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # its default action ends a child that hangs
        status = 3
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            status = 0 if work() in (None, True) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 2
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def test_child_sees_no_running_loop(loop):
    """R88: get_running_loop() raises in a child forked by a callback."""

    def work():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
        return False

    async def main():
        return in_child(work)

    assert loop.run_until_complete(main()) == 0


def test_child_can_run_a_new_loop(loop, loop_kind):
    """R88: forked inside and outside a running loop."""

    def work():
        new = loop_kind.new()
        try:
            return new.run_until_complete(asyncio.sleep(0.001, True))
        finally:
            new.close()

    async def main():
        return in_child(work)

    assert in_child(work) == 0
    assert loop.run_until_complete(main()) == 0
    assert loop.run_until_complete(asyncio.sleep(0.001, "parent")) == "parent"


@pytest.mark.known_difference("asyncio", "the shared epoll loses the parent's watches", run=False)
@pytest.mark.known_difference("uvloop", "the shared epoll loses the parent's watches", run=False)
@pytest.mark.parametrize("way", ["close", "collect"])
def test_child_that_ends_the_inherited_loop_leaves_the_parent_s_alone(loop_kind, way):
    """R89: no epoll_ctl on the shared epoll; watches and wakeups of the parent live on."""
    holder = [loop_kind.new()]
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        holder[0].add_reader(left, holder[0].stop)
        holder[0].run_until_complete(asyncio.sleep(0.001))

        def work():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inherited = holder.pop()
                if way == "close":
                    inherited.close()
                del inherited
                gc.collect()

        assert in_child(work) == 0
        loop = holder[0]
        right.send(b"x")
        loop.run_forever()  # the watch works
        loop.remove_reader(left)

        async def main():
            started = loop.time()
            await loop.run_in_executor(None, int)  # a thread's wakeup works
            return loop.time() - started

        assert loop.run_until_complete(asyncio.wait_for(main(), 10)) < 0.5
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_child_of_a_running_loop_with_connections_can_exit(loop):
    """R89: transports collected in the child do not disturb the parent's transports."""

    async def main():
        async def echo(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        assert in_child(lambda: gc.collect() >= 0) == 0
        writer.write(b"after")
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"after"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio does so since 3.12")
def test_child_has_no_current_loop_of_its_parent(loop_kind):
    """R91: a fork resets the policy's loop of the thread."""
    import mioloop

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(mioloop.EventLoopPolicy(**loop_kind.options))
    loop = loop_kind.new()
    try:
        asyncio.set_event_loop(loop)

        async def main():
            return in_child(lambda: asyncio.get_event_loop_policy()._local._loop is None)

        assert loop.run_until_complete(main()) == 0
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        asyncio.set_event_loop_policy(before)
        loop.close()


# -- a loop that goes on, or begins, in the child ------------------------------------------------


def echo_once(address):
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(b"hello")
        return sock.recv(5)


def test_loop_made_before_a_fork_runs_in_the_child(loop):
    """R88: as a server does that makes its loop, forks, and serves in its workers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            status = 1
            try:

                async def serve():
                    served = loop.create_future()

                    async def echo(reader, writer):
                        writer.write(await reader.readexactly(5))
                        await writer.drain()
                        writer.close()
                        served.set_result(None)

                    await asyncio.start_server(echo, sock=listener)
                    await asyncio.sleep(0.001)
                    await served
                    thread = await loop.run_in_executor(None, threading.get_ident)
                    return thread != threading.get_ident()

                status = 0 if loop.run_until_complete(serve()) else 2
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert echo_once(listener.getsockname()) == b"hello"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert loop.run_until_complete(asyncio.sleep(0.001, "parent")) == "parent"


def test_child_is_told_of_sources_registered_before_the_fork(mioloop_kind):
    """R88: readers, writers, transports, sock_*(), watch(), for parent and child."""
    from mioloop import mio
    from mioloop.mio.unix import EventedFd

    loop = mioloop_kind.new()
    socks = []

    def pair():
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        socks.extend((left, right))
        return left, right

    told = []
    read_left, read_right = pair()
    loop.add_reader(read_left, lambda: told.append(("reader", read_left.recv(10))))
    write_left, _ = pair()
    waiting_left, waiting_right = pair()
    stream_left, stream_right = pair()
    watched_left, watched_right = pair()
    registration, readiness = mio.Registration.new2()
    readable, edge, oneshot = mio.Ready.READABLE, mio.PollOpt.EDGE, mio.PollOpt.ONESHOT
    loop.watch(registration, readable, edge, lambda event: told.append("set"))
    loop.watch(
        EventedFd(watched_left.fileno()),
        readable,
        edge | oneshot,
        lambda event: told.append("watched"),
    )

    class Stream(asyncio.Protocol):
        def data_received(self, data):
            told.append(("stream", data))

    def written():
        loop.remove_writer(write_left)
        told.append("writer")

    async def begin():
        await loop.create_connection(Stream, sock=stream_left)
        loop.create_task(wait())
        await asyncio.sleep(0)

    async def wait():
        told.append(("waiter", await loop.sock_recv(waiting_left, 10)))

    async def hear():
        loop.add_writer(write_left, written)
        for sock in (read_right, waiting_right, stream_right, watched_right):
            sock.send(b"x")
        readiness.set_readiness(readable)
        while len(told) < 6:
            await asyncio.sleep(0.001)
        return {part if isinstance(part, str) else part[0] for part in told}

    expected = {"reader", "writer", "waiter", "stream", "set", "watched"}
    loop.run_until_complete(begin())
    assert in_child(lambda: loop.run_until_complete(asyncio.wait_for(hear(), 10)) == expected) == 0
    assert told == []
    assert loop.run_until_complete(asyncio.wait_for(hear(), 10)) == expected
    loop.close()
    for sock in socks:
        sock.close()


@pytest.mark.known_difference("asyncio", "the child has the parent's epoll", run=False)
@pytest.mark.known_difference("uvloop", "the child has the parent's epoll", run=False)
def test_child_that_goes_on_in_a_callback_does_not_disturb_the_parent(loop_kind):
    """R88, R89: descriptors that the child unwatches and closes are still watched in the parent."""
    loop = loop_kind.new()
    left, right = socket.socketpair()
    left.setblocking(False)
    statuses = []

    def fork():
        pid = os.fork()
        if pid:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            right.send(b"parent")
            return
        signal.alarm(20)  # its default action ends a child that hangs
        loop.remove_reader(left)
        loop.add_reader(left, child_hears)
        right.send(b"child")

    def child_hears():
        if left.recv(10) != b"child":
            os._exit(4)
        loop.remove_reader(left)
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(os._exit, 0))
        loop.call_later(0.01, thread.start)

    def parent_hears():
        statuses.append(left.recv(10))
        loop.stop()

    async def wake():
        started = loop.time()
        await loop.run_in_executor(None, int)
        return loop.time() - started

    with left, right:
        loop.add_reader(left, parent_hears)
        loop.call_later(0.01, fork)
        loop.run_forever()
        assert statuses == [0, b"parent"]
        assert loop.run_until_complete(wake()) < 0.5
        loop.remove_reader(left)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.mark.known_difference("asyncio", "the child writes to the parent's pipe", run=False)
@pytest.mark.known_difference("uvloop", "the child writes to the parent's pipe", run=False)
def test_child_handles_its_own_signals(loop_kind):
    """R87, R88: by the handlers that the loop had before the fork, and by new ones."""
    loop = loop_kind.new()
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "before")
    loop.run_until_complete(asyncio.sleep(0.001))

    def work():
        os.kill(os.getpid(), signal.SIGUSR1)        # before the loop is used

        async def main():
            while got != ["before"]:
                await asyncio.sleep(0.001)
            loop.add_signal_handler(signal.SIGUSR2, got.append, "new")
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(got) < 3:
                await asyncio.sleep(0.001)

        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
        return sorted(got) == ["before", "before", "new"]

    assert in_child(work) == 0
    loop.run_until_complete(asyncio.sleep(0.01))
    assert got == []
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert got == ["before"]
    loop.close()


def test_child_without_a_descriptor_left_raises_and_tries_again(mioloop_loop):
    """R88: it does not wait in silence."""

    def work():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(2):
            with pytest.raises(OSError):
                mioloop_loop.run_until_complete(asyncio.sleep(0.001))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return mioloop_loop.run_until_complete(asyncio.sleep(0.001, True))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert in_child(work) == 0


def test_poll_of_the_parent_raises_in_a_child_and_can_be_closed():
    """A mio Poll is used by the process that made it."""
    from mioloop import mio

    left, right = socket.socketpair()
    poll = mio.Poll()
    registration, readiness = mio.Registration.new2()
    waker = mio.Registration.new2()
    token, interest, opts = mio.Token(1), mio.Ready.READABLE, mio.PollOpt.EDGE
    poll.register(left, token, interest, opts)
    registration.register(poll, mio.Token(2), interest, opts)
    events = mio.Events.with_capacity(4)

    def work():
        for use in (
            lambda: poll.poll(events, 0),
            lambda: poll.register(right, token, interest, opts),
            lambda: poll.reregister(left, token, interest, opts),
            lambda: poll.deregister(left),
            lambda: registration.register(poll, token, interest, opts),
            poll.fileno,
        ):
            with pytest.raises(RuntimeError, match="before a fork"):
                use()
        poll.drained(left, interest)
        readiness.set_readiness(interest)
        registration.close()
        poll.close()
        with mio.Poll() as own:
            own.register(left, token, interest, opts)
            right.send(b"x")
            return own.poll(events, 10) == 1

    with left, right:
        assert in_child(work) == 0
        left.recv(1)
        assert poll.poll(events, 0) in (0, 1)
        readiness.set_readiness(interest)
        assert poll.poll(events, 10) == 1
        poll.close()
        waker[0].close()


@pytest.mark.parametrize("way", ["close", "collect", "run"])
@pytest.mark.slow
def test_child_waits_for_no_thread_of_its_parent(mioloop_kind, way):
    """R88: the parent's threads may hold any lock when the process forks."""
    from mioloop import mio

    holder = [mioloop_kind.new()]
    loop = holder[0]
    registration, readiness = mio.Registration.new2()
    interest, opts = mio.Ready.READABLE, mio.PollOpt.EDGE
    token = loop.watch(registration, interest, opts, int)
    poll = loop.poll
    stop = False

    def disturb():
        while not stop:
            poll.reregister(registration, token, interest, opts)
            readiness.set_readiness(interest)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(int)

    def work():
        inherited = holder.pop()
        readiness.set_readiness(interest)
        if way == "run":
            poll.reregister(registration, token, interest, opts)
            assert inherited.run_until_complete(asyncio.sleep(0.001, True))
            inherited.close()
        elif way == "close":
            inherited.close()
            registration.close()
        else:
            inherited = None
            gc.collect()

    threads = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            loop.run_until_complete(asyncio.sleep(0.001))
            assert in_child(work) == 0
    finally:
        stop = True
        for thread in threads:
            thread.join()
    loop.close()
