"""A forked child: R88, R89."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
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
    """R89: transports collected in the child do not disturb those of the parent."""

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
    """R91: what the policy holds for the thread is reset by a fork."""
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
