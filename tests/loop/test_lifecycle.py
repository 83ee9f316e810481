"""Run, stop and close: R18 to R22."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import sys
import threading
import time

import pytest

RESETS_THE_OUTER_LOOP = pytest.mark.known_difference(
    "asyncio",
    "3.13.0 resets the state of the outer run",
    since=(3, 13, 0),
    until=(3, 13, 0),
)


def test_stop_before_run_makes_one_turn_without_blocking(loop):
    """R18: queued callbacks run; a distant timer does not delay the end."""
    ran = []
    loop.call_soon(ran.append, "queued")
    timer = loop.call_later(60, ran.append, "timer")
    loop.stop()
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 5
    assert ran == ["queued"]
    timer.cancel()


def test_stop_ends_the_run_after_the_turn(loop):
    """R18: callbacks queued before stop() was called still run."""
    ran = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "same turn")
    loop.run_forever()
    assert ran == ["same turn"]
    assert not loop.is_running()


@RESETS_THE_OUTER_LOOP
def test_run_inside_a_run_raises_and_the_outer_goes_on(loop):
    """R19: the same loop, and another one."""

    async def main():
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        assert loop.is_running()
        nested = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError):
                loop.run_until_complete(nested)
        finally:
            nested.close()
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.001)
        return "outer"

    assert loop.run_until_complete(main()) == "outer"
    assert not loop.is_running()


@RESETS_THE_OUTER_LOOP
def test_another_loop_cannot_run_inside_a_run(loop, loop_kind):
    """R19: 'Cannot run the event loop while another loop is running'."""
    other = loop_kind.new()

    async def main():
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        assert asyncio.get_running_loop() is loop
        assert loop.is_running() and not other.is_running()
        await asyncio.sleep(0.001)

    try:
        loop.run_until_complete(main())
        assert other.run_until_complete(asyncio.sleep(0, "fine")) == "fine"
    finally:
        other.close()


def test_running_loop_cannot_be_closed(loop):
    """Section 4: 'Cannot close a running event loop'."""

    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()
        return "still running"

    assert loop.run_until_complete(main()) == "still running"


def test_closed_loop_refuses_calls_that_need_an_open_one(loop):
    """R20: call_*, run_*, add_*, run_in_executor raise 'Event loop is closed'."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        loop.close()
        assert loop.is_closed()
        assert not loop.is_running()
        coroutine = asyncio.sleep(0)
        attempts = [
            lambda: loop.call_soon(print),
            lambda: loop.call_soon_threadsafe(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.run_forever(),
            lambda: loop.run_until_complete(coroutine),
            lambda: loop.run_in_executor(None, print),
            lambda: loop.add_reader(left, print),
            lambda: loop.add_writer(left, print),
            lambda: loop.add_signal_handler(signal.SIGUSR1, print),
        ]
        for attempt in attempts:
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                attempt()
        coroutine.close()


@pytest.mark.known_difference("uvloop", "remove_reader raises")
def test_closed_loop_still_does_harmless_calls(loop):
    """R20: stop, close, time, create_future do not raise; remove_* give False."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        loop.close()
        loop.stop()
        loop.close()
        assert loop.time() > 0
        loop.create_future()
        assert loop.remove_reader(left) is False
        assert loop.remove_writer(left) is False
        assert loop.get_debug() in (True, False)
        assert "closed=True" in repr(loop)


def hooks_of_the_thread():
    return (
        asyncio.events._get_running_loop(),
        sys.get_asyncgen_hooks(),
        wakeup_fd(),
    )


def wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


@pytest.mark.parametrize("way", [None, KeyboardInterrupt, SystemExit])
def test_end_of_a_run_restores_the_thread(loop, way):
    """R21: running loop, asyncgen hooks, wakeup fd are as before the run."""
    before = hooks_of_the_thread()

    def interrupt():
        raise way

    inside = []
    loop.call_soon(lambda: inside.append(asyncio.events._get_running_loop()))
    if way is None:
        loop.call_soon(loop.stop)
        loop.run_forever()
    else:
        loop.call_soon(interrupt)
        with pytest.raises(way):
            loop.run_forever()
    assert inside == [loop]
    assert hooks_of_the_thread() == before
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "again")) == "again"


def poll_descriptors():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                found.append(int(name))
        except FileNotFoundError:
            continue
    return found


def test_failing_poll_leaves_a_clean_thread(mioloop_kind):
    """R21: poll EBADF too resets running loop, thread id, hooks."""
    if mioloop_kind.selector != "epoll":
        pytest.skip("poll(2) has no descriptor that could fail")
    before, descriptors = hooks_of_the_thread(), set(poll_descriptors())
    loop = mioloop_kind.new()
    (epoll_fd,) = set(poll_descriptors()) - descriptors
    broken = select.epoll.fromfd(epoll_fd)
    broken.close()  # now everything on that number fails
    with pytest.raises(OSError):
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    assert hooks_of_the_thread() == before
    assert not loop.is_running()
    loop.call_soon(print)
    try:
        loop.close()
    except OSError:
        pass
    assert loop.is_closed()


def test_closing_twice_is_fine(loop):
    """R22: close() after close() does nothing."""
    loop.close()
    loop.close()


def test_ten_loops_leave_no_descriptor(loop_kind, no_leaked_descriptor):
    """R22: made, used and closed."""
    for _ in range(10):
        loop = loop_kind.new()
        loop.run_until_complete(asyncio.sleep(0.0001))
        loop.close()


def test_loop_that_never_ran_closes(loop_kind, no_leaked_descriptor):
    """R22: made and closed."""
    loop_kind.new().close()


@pytest.mark.known_difference("uvloop", "keeps itself alive", run=False)
def test_open_loop_that_is_collected_warns_and_closes(loop_kind, no_leaked_descriptor):
    """R22: ResourceWarning 'unclosed event loop', no descriptor left."""
    loop = loop_kind.new()
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_close_with_callbacks_and_timers_pending(loop):
    """R22: they do not run, and are dropped."""
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_later(0, ran.append, 2)
    loop.call_soon_threadsafe(ran.append, 3)
    loop.close()
    assert ran == []


def test_close_from_the_thread_that_did_not_run_it(loop):
    """R88: a loop that does not run may be closed by any thread."""
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join(10)
    assert loop.is_closed()


def test_loop_runs_again_after_it_stopped(loop):
    """Run, stop, run: timers and watches outlive the pause."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        seen = []

        def readable():
            seen.append(left.recv(100))
            loop.stop()

        loop.add_reader(left, readable)
        loop.stop()
        loop.run_forever()
        right.send(b"between")
        loop.run_forever()
        right.send(b"second")
        loop.run_forever()
        loop.remove_reader(left)
    assert seen == [b"between", b"second"]


def test_loop_takes_attributes(loop):
    """Section 1.1: tools set attributes on loops and on their class."""
    loop.note = "mine"
    assert loop.note == "mine"
    loop_class = type(loop)
    loop_class.note_of_the_class = 1
    try:
        assert loop.note_of_the_class == 1
    finally:
        del loop_class.note_of_the_class


def test_everything_the_stdlib_assigns_has_a_slot(mioloop_loop, run):
    """A loop without a dictionary is quicker to call: see EventLoop.__slots__."""

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
        await mioloop_loop.run_in_executor(None, int)

    run(mioloop_loop, main())
    assert vars(mioloop_loop) == {}


@pytest.mark.known_difference("uvloop", "is no subclass of asyncio's loops")
def test_loop_is_a_selector_event_loop(loop):
    """Section 1.1: isinstance() of the classes that programs test for."""
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)


def test_loop_can_be_subclassed(mioloop_kind, no_leaked_descriptor):
    """Section 1.2: a subclass sees its own call_soon from tasks."""
    import mioloop

    calls = []

    class Counting(mioloop.EventLoop):
        def call_soon(self, callback, *args, context=None):
            calls.append(callback)
            return super().call_soon(callback, *args, context=context)

    options = {name: value for name, value in mioloop_kind.options.items() if name != "backend"}
    loop = Counting(**options)
    try:
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert calls


@pytest.mark.known_difference("uvloop", "has no private names of asyncio's")
def test_private_names_in_use_are_there(loop):
    """Section 3: names that tools read."""
    assert loop._thread_id is None
    assert loop._ready is not None
    assert loop._scheduled is not None
    assert loop._selector is not None
    assert loop._default_executor is None
    assert loop._executor_shutdown_called is False
    loop._check_closed()

    async def main():
        assert loop._thread_id == threading.get_ident()

    loop.run_until_complete(main())


@pytest.mark.known_difference("uvloop", "has no _run_once")
def test_loop_can_be_driven_by_run_once(loop):
    """Section 1.2: _run_once() makes one turn, for tools that nest loops."""
    asyncio.events._set_running_loop(loop)
    loop._thread_id = threading.get_ident()
    try:
        done = []
        loop.call_soon(done.append, "soon")
        loop.call_later(0.005, done.append, "later")
        give_up = time.monotonic() + 10
        while len(done) < 2 and time.monotonic() < give_up:
            loop._run_once()
    finally:
        loop._thread_id = None
        asyncio.events._set_running_loop(None)
    assert done == ["soon", "later"]
