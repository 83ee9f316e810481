"""loop.watch: everything the Poll core can poll, as callbacks of the loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import weakref

import pytest

from tests.support.waiting import run_turns, run_until


@pytest.fixture
def mio():
    from mioloop import mio

    return mio


def test_registration_set_from_another_thread_calls_back(mioloop_loop, mio):
    """An idle loop is woken by set_readiness()."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    seen = []

    def ready(event, *args):
        seen.append((event, args, threading.current_thread()))
        loop.stop()

    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, ready, 1, "two")
    assert isinstance(token, mio.Token)
    thread = threading.Timer(0.05, set_readiness.set_readiness, (mio.Ready.READABLE,))
    thread.start()
    loop.run_forever()
    thread.join(10)
    ((event, args, where),) = seen
    assert event == mio.Event(mio.Ready.READABLE, token)
    assert args == (1, "two")
    assert where is threading.main_thread()
    loop.unwatch(token)
    registration.close()


def test_readiness_set_before_the_watch_is_delivered(mioloop_loop, mio):
    """mio 0.6: readiness is kept, and reported once it is registered."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    set_readiness.set_readiness(mio.Ready.READABLE)
    seen = []
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, seen.append)
    run_until(loop, lambda: seen)
    run_turns(loop)
    assert len(seen) == 1
    loop.unwatch(token)


def test_level_registration_fires_until_it_is_cleared(mioloop_loop, mio):
    """mio 0.6: one event a poll while readiness is set."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    seen = []

    def ready(event):
        seen.append(event)
        if len(seen) == 5:
            set_readiness.set_readiness(mio.Ready.EMPTY)

    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.LEVEL, ready)
    set_readiness.set_readiness(mio.Ready.READABLE)
    run_until(loop, lambda: len(seen) >= 5)
    run_turns(loop)
    assert len(seen) == 5
    loop.unwatch(token)


def test_evented_fd_is_watched(mioloop_loop, mio, pair):
    """EventedFd, level: until the bytes are read."""
    loop = mioloop_loop
    left, right = pair
    seen = []
    evented = mio.unix.EventedFd(left.fileno())
    token = loop.watch(evented, mio.Ready.READABLE, mio.PollOpt.LEVEL, seen.append)
    right.send(b"x")
    run_until(loop, lambda: len(seen) >= 3)
    assert all(event.token == token and event.readiness.is_readable() for event in seen)
    left.recv(10)
    run_turns(loop)
    count = len(seen)
    run_turns(loop)
    assert len(seen) == count
    loop.unwatch(token)


def test_mio_socket_is_watched(mioloop_loop, mio):
    """mio.net.TcpListener and TcpStream in an asyncio program."""
    loop = mioloop_loop
    accepted = []
    listener = mio.net.TcpListener.bind("127.0.0.1:0")

    def ready(event):
        stream, _ = listener.accept()
        accepted.append(stream)

    token = loop.watch(listener, mio.Ready.READABLE, mio.PollOpt.LEVEL, ready)
    stream = mio.net.TcpStream.connect(listener.local_addr())
    run_until(loop, lambda: accepted)
    loop.unwatch(token)
    for handle in (listener, stream, *accepted):
        handle.close()


def test_own_evented_class_is_watched(mioloop_loop, mio, pair):
    """A class with register, reregister, deregister that delegates."""
    loop = mioloop_loop
    left, right = pair

    class Counted(mio.Evented):
        def __init__(self, inner):
            self.inner = inner
            self.calls = []

        def register(self, poll, token, interest, opts):
            self.calls.append("register")
            poll.register(self.inner, token, interest, opts)

        def reregister(self, poll, token, interest, opts):
            self.calls.append("reregister")
            self.inner.reregister(poll, token, interest, opts)

        def deregister(self, poll):
            self.calls.append("deregister")
            poll.deregister(self.inner)

    counted = Counted(mio.unix.EventedFd(left.fileno()))
    seen = []
    token = loop.watch(counted, mio.Ready.READABLE, mio.PollOpt.EDGE, seen.append)
    right.send(b"x")
    run_until(loop, lambda: seen)
    loop.poll.reregister(counted, token, mio.Ready.READABLE, mio.PollOpt.EDGE)
    run_until(loop, lambda: len(seen) >= 2)
    loop.unwatch(token)
    assert counted.calls == ["register", "reregister", "deregister"]


@pytest.mark.parametrize("base", ["EDGE", "LEVEL"])
def test_oneshot_is_rearmed_with_its_token(mioloop_loop, mio, pair, base):
    """One event, then silence until loop.poll.reregister()."""
    loop = mioloop_loop
    left, right = pair
    opts = getattr(mio.PollOpt, base) | mio.PollOpt.ONESHOT
    evented = mio.unix.EventedFd(left.fileno())
    seen = []
    token = loop.watch(evented, mio.Ready.READABLE, opts, seen.append)
    right.send(b"x")
    run_until(loop, lambda: seen)
    right.send(b"y")
    run_turns(loop)
    assert len(seen) == 1
    for count in (2, 3):
        loop.poll.reregister(evented, token, mio.Ready.READABLE, opts)
        run_until(loop, lambda count=count: len(seen) == count)
    run_turns(loop)
    assert len(seen) == 3
    loop.unwatch(token)


def test_oneshot_registration_is_rearmed_from_its_callback(mioloop_loop, mio):
    """reregister() inside the callback, while readiness is still set."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    opts = mio.PollOpt.EDGE | mio.PollOpt.ONESHOT
    seen = []

    def ready(event):
        seen.append(event)
        if len(seen) < 4:
            loop.poll.reregister(registration, event.token, mio.Ready.READABLE, opts)

    token = loop.watch(registration, mio.Ready.READABLE, opts, ready)
    set_readiness.set_readiness(mio.Ready.READABLE)
    run_until(loop, lambda: len(seen) == 4)
    run_turns(loop)
    assert len(seen) == 4
    loop.unwatch(token)


def test_unwatch_ends_the_callbacks(mioloop_loop, mio):
    """Nothing comes after unwatch(), and the token is no longer valid."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    seen = []
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, seen.append)
    loop.unwatch(token)
    set_readiness.set_readiness(mio.Ready.READABLE)
    run_turns(loop)
    assert seen == []
    with pytest.raises(ValueError):
        loop.unwatch(token)
    with pytest.raises(ValueError):
        loop.unwatch(123456789)


def test_unwatched_earlier_in_the_turn_does_not_fire(mioloop_loop, mio):
    """R27 for watches: two ready ones, the first callback ends both."""
    loop = mioloop_loop
    seen = []
    tokens = []

    def ready(event):
        seen.append(event.token)
        for token in tokens:
            loop.unwatch(token)

    setters = []
    for _ in range(2):
        registration, set_readiness = mio.Registration.new2()
        setters.append((registration, set_readiness))
        tokens.append(loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, ready))
    for _, set_readiness in setters:
        set_readiness.set_readiness(mio.Ready.READABLE)
    run_until(loop, lambda: seen)
    run_turns(loop)
    assert len(seen) == 1


def test_unwatch_from_inside_the_callback(mioloop_loop, mio, pair):
    """A level watch that ends itself fires once."""
    loop = mioloop_loop
    left, right = pair
    seen = []

    def ready(event):
        seen.append(event)
        loop.unwatch(event.token)

    evented = mio.unix.EventedFd(left.fileno())
    loop.watch(evented, mio.Ready.READABLE, mio.PollOpt.LEVEL, ready)
    right.send(b"x")
    run_until(loop, lambda: seen)
    run_turns(loop)
    assert len(seen) == 1


def test_evented_closed_before_unwatch(mioloop_loop, mio):
    """Closing first is no error of unwatch()."""
    loop = mioloop_loop
    listener = mio.net.TcpListener.bind("127.0.0.1:0")
    token = loop.watch(listener, mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    listener.close()
    run_turns(loop)
    loop.unwatch(token)


def test_failing_callback_is_reported_and_the_watch_stays(mioloop_loop, mio, reports):
    """R13 for watches."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()

    def ready(event):
        raise ValueError("the callback's own")

    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, ready)
    for count in (1, 2):
        set_readiness.set_readiness(mio.Ready.READABLE)
        run_until(loop, lambda count=count: len(reports) == count)
    assert all(isinstance(report["exception"], ValueError) for report in reports)
    loop.unwatch(token)


def test_callback_runs_in_the_context_of_its_watch(mioloop_loop, mio):
    """R9 for watches."""
    loop = mioloop_loop
    variable = contextvars.ContextVar("variable", default="unset")
    registration, set_readiness = mio.Registration.new2()
    seen = []

    def watch():
        variable.set("watching")
        return loop.watch(
            registration,
            mio.Ready.READABLE,
            mio.PollOpt.EDGE,
            lambda _: seen.append(variable.get()),
        )

    token = contextvars.copy_context().run(watch)
    set_readiness.set_readiness(mio.Ready.READABLE)
    run_until(loop, lambda: seen)
    loop.unwatch(token)
    assert seen == ["watching"]


def test_poll_of_the_loop_cannot_be_polled(mioloop_loop, mio):
    """RuntimeError with advice; the object is the same each time."""
    poll = mioloop_loop.poll
    assert isinstance(poll, mio.Poll)
    assert mioloop_loop.poll is poll
    for method in (poll.poll, poll.poll_interruptible):
        with pytest.raises(RuntimeError, match="watch"):
            method(mio.Events(8), 0)
    with pytest.raises(RuntimeError):
        poll.close()
    assert mioloop_loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"


def test_token_that_the_loop_did_not_give_out_is_refused(mioloop_loop, mio, pair):
    """ValueError on register and reregister, for descriptors and Registrations."""
    poll = mioloop_loop.poll
    left, _ = pair
    evented = mio.unix.EventedFd(left.fileno())
    registration, _ = mio.Registration.new2()
    for handle in (evented, registration):
        for token in (mio.Token(0), mio.Token(123456789), mio.Token.MAX):
            with pytest.raises(ValueError):
                poll.register(handle, token, mio.Ready.READABLE, mio.PollOpt.EDGE)
    run_turns(mioloop_loop)


def test_watching_one_descriptor_twice_is_refused(mioloop_loop, mio, pair):
    """FileExistsError, and the first watch works on."""
    loop = mioloop_loop
    left, right = pair
    evented = mio.unix.EventedFd(left.fileno())
    seen = []
    token = loop.watch(evented, mio.Ready.READABLE, mio.PollOpt.EDGE, seen.append)
    sources = loop.stats()["sources"]
    with pytest.raises(FileExistsError):
        loop.watch(evented, mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    assert loop.stats()["sources"] == sources
    right.send(b"x")
    run_until(loop, lambda: seen)
    loop.unwatch(token)


def test_object_that_cannot_be_watched_is_refused(mioloop_loop, mio, tmp_path):
    """A regular file, edge and level together, no callable, no Evented."""
    loop = mioloop_loop
    registration, _ = mio.Registration.new2()
    sources = loop.stats()["sources"]
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        loop.watch(mio.unix.EventedFd(file.fileno()), mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    with pytest.raises(ValueError):
        loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE | mio.PollOpt.LEVEL, print)
    with pytest.raises((TypeError, ValueError)):
        loop.watch(object(), mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    with pytest.raises(TypeError):
        loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, None)
    assert loop.stats()["sources"] == sources


def test_closed_loop_watches_nothing(mioloop_kind, mio, no_leaked_descriptor):
    """RuntimeError from watch and poll; a Poll that was kept raises too."""
    loop = mioloop_kind.new()
    registration, set_readiness = mio.Registration.new2()
    poll = loop.poll
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        _ = loop.poll
    with pytest.raises(ValueError):
        poll.register(registration, token, mio.Ready.READABLE, mio.PollOpt.EDGE)
    set_readiness.set_readiness(mio.Ready.READABLE)


def test_unwatched_evented_is_freed(mioloop_loop, mio):
    """The loop keeps nothing of an ended watch."""
    loop = mioloop_loop
    registration, _ = mio.Registration.new2()

    class Callback:
        def __call__(self, event):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, callback)
    del callback
    gc.collect()
    assert gone() is not None
    loop.unwatch(token)
    gc.collect()
    assert gone() is None


def test_registration_that_is_set_ten_thousand_times_from_threads(mioloop_loop, mio):
    """No wakeup is lost: each item is seen, though events merge."""
    loop = mioloop_loop
    registration, set_readiness = mio.Registration.new2()
    lock, posted, taken = threading.Lock(), [], []

    def ready(event):
        with lock:
            taken.extend(posted)
            posted.clear()

    def post(i):
        for n in range(2500):
            with lock:
                posted.append((i, n))
            set_readiness.set_readiness(mio.Ready.READABLE)

    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, ready)
    threads = [threading.Thread(target=post, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: len(taken) == 10_000, timeout_s=20)
    for thread in threads:
        thread.join(10)
    loop.unwatch(token)


def test_watch_and_asyncio_streams_share_the_loop(mioloop_loop, mio):
    """A pipe under loop.watch feeds an asyncio queue while a task runs."""
    loop = mioloop_loop
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    async def main():
        queue = asyncio.Queue()
        token = loop.watch(
            mio.unix.EventedFd(read_end),
            mio.Ready.READABLE,
            mio.PollOpt.LEVEL,
            lambda event: queue.put_nowait(os.read(read_end, 100)),
        )
        for i in range(10):
            os.write(write_end, b"%d" % i)
            assert await asyncio.wait_for(queue.get(), 5) == b"%d" % i
        loop.unwatch(token)

    try:
        loop.run_until_complete(main())
    finally:
        os.close(read_end)
        os.close(write_end)
