"""A loop that is closed or collected releases everything that it holds: R90.

Objects that the loop holds may own other objects whose __del__ uses the loop again. Such a __del__
finds a loop that refuses every call or one that still works, and never a loop in between.

A __del__ here may make another owner, which the loop refuses, so that it dies at once and makes yet
another one. Such a chain has no end on any loop, nor with a plain `[].index(Owner())`, so the tests
end it after MOST_GENERATIONS. They count generations rather than deaths: with a limit for all
deaths, the chain of the first owner would leave none for the other owners.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import functools
import gc
import os
import signal
import socket
import sys
import warnings

import pytest

from tests.support.loops import MIOLOOP_KINDS

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

MOST_GENERATIONS = 3


class Scene:
    """A loop with a connection, and the actions that its owners will do to it."""

    def __init__(self, kind, act):
        self.loop = kind.new()
        self.acts = [act]                   # none once the test is over
        self.socks = []
        self.generation = 0                 # of the owners that are made now
        self.left, self.right = self.pair()
        transport, _ = self.loop.run_until_complete(
            self.loop.create_connection(Protocol, sock=self.left)
        )
        self.transport = transport

    def pair(self):
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        self.socks += pair
        return pair


class Protocol(asyncio.Protocol):
    """It takes attributes."""


class Owner:
    """Its __del__ does the action that the test chose."""

    def __init__(self, scene):
        self.scene = scene
        self.generation = scene.generation

    def call(self, *args):
        pass

    def __del__(self):
        scene = self.scene
        if self.generation == MOST_GENERATIONS:
            return
        before, scene.generation = scene.generation, self.generation + 1
        try:
            for act in scene.acts:
                act(scene)
        finally:
            scene.generation = before


# -- owners of the loop -----------------------------------------------------------------------


def own_by_callback(scene):
    scene.loop.call_soon(Owner(scene).call)


def own_by_many_arguments(scene):
    scene.loop.call_soon(print, 1, 2, 3, 4, Owner(scene))


def own_by_timer(scene):
    for delay in (60, 1, 120):
        scene.loop.call_later(delay, Owner(scene).call)


def own_by_reader(scene):
    scene.loop.add_reader(scene.pair()[0], Owner(scene).call)


def own_by_writer(scene):
    scene.loop.add_writer(scene.pair()[0], Owner(scene).call)


def own_by_sock_waiter(scene):
    left, _ = scene.pair()

    async def wait(owner):
        await scene.loop.sock_recv(left, 1)

    scene.loop.create_task(wait(Owner(scene)))
    scene.loop.run_until_complete(asyncio.sleep(0))


def own_by_protocol(scene):
    protocol = Protocol()
    protocol.owner = Owner(scene)
    scene.loop.run_until_complete(
        scene.loop.create_connection(lambda: protocol, sock=scene.pair()[0])
    )


def own_by_idle_protocol(scene):
    own_by_protocol(scene)
    own_by_protocol(scene)
    scene.transport.pause_reading()


def own_by_buffer(scene):
    scene.transport.get_protocol().owner = Owner(scene)
    scene.transport.write(b"x" * 4_000_000)


def own_by_watch(scene):
    from mioloop import mio

    registration, scene.readiness = mio.Registration.new2()
    scene.loop.watch(
        registration, mio.Ready.READABLE, mio.PollOpt.EDGE, Owner(scene).call, Owner(scene)
    )


def own_by_signal_handler(scene):
    scene.loop.add_signal_handler(signal.SIGUSR2, Owner(scene).call)


def own_by_process_end(scene):
    scene.loop._watch_process(os.pidfd_open(os.getpid()), Owner(scene).call)


def own_by_server(scene):
    factory = functools.partial(asyncio.Protocol)
    factory.owner = Owner(scene)
    scene.loop.run_until_complete(scene.loop.create_server(factory, "127.0.0.1", 0))


def own_by_context(scene):
    context = contextvars.Context()
    context.run(contextvars.ContextVar("owner").set, Owner(scene))
    scene.loop.call_soon(int, context=context)
    scene.loop.call_later(60, int, context=context)


def own_by_exception_handler(scene):
    scene.loop.set_exception_handler(Owner(scene).call)


OWNERS = [own for name, own in list(globals().items()) if name.startswith("own_by_")]


# -- actions of a finalizer --------------------------------------------------------------------


def act_nothing(scene):
    pass


def act_call_soon(scene):
    scene.loop.call_soon(Owner(scene).call)


def act_call_later(scene):
    scene.loop.call_later(0.5, Owner(scene).call)


def act_call_soon_threadsafe(scene):
    scene.loop.call_soon_threadsafe(Owner(scene).call)


def act_task(scene):
    scene.loop.create_task(asyncio.sleep(0))


def act_write(scene):
    scene.transport.write(b"y" * 100_000)


def act_close_transport(scene):
    scene.transport.close()


def act_abort_transport(scene):
    scene.transport.abort()


def act_pause_and_resume(scene):
    scene.transport.pause_reading()
    scene.transport.resume_reading()


def act_add_reader(scene):
    scene.loop.add_reader(scene.pair()[0], Owner(scene).call)


def act_remove_reader(scene):
    for sock in scene.socks:
        if sock.fileno() >= 0:
            scene.loop.remove_reader(sock)
            scene.loop.remove_writer(sock)


def act_make_transport(scene):
    scene.loop._make_socket_transport(scene.pair()[0], asyncio.Protocol())


def act_sock_recv(scene):
    call = scene.loop.sock_recv(scene.pair()[0], 1)
    try:
        call.send(None)
    finally:
        call.close()


def act_run(scene):
    scene.loop.call_soon(scene.loop.stop)
    scene.loop.run_forever()


def act_run_once(scene):
    scene.loop.call_soon_threadsafe(int)
    scene.loop._run_once()


def act_turn_of_a_closed_loop(scene):
    if scene.loop.is_closed():
        scene.loop._run_once()


def act_close(scene):
    scene.loop.close()


def act_init(scene):
    scene.loop.__init__()
    scene.loop.close()


def act_collect(scene):
    gc.collect()


def act_look(scene):
    loop = scene.loop
    repr(loop), repr(scene.transport), loop.stats(), list(loop._ready), loop._watched_fds()
    loop.poll.reregister(scene.left, 0, None, None)


ACTS = [act for name, act in list(globals().items()) if name.startswith("act_")]


@pytest.fixture
def unraisable(monkeypatch):
    """The exceptions of __del__, without their frames, which may keep an owner alive."""
    found = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda info: found.append(info.exc_value.with_traceback(None))
    )
    return found


@contextlib.contextmanager
def eager_collector():
    """Nearly each new object starts a collection."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def play(own, act, kind, how, unraisable):
    scene = Scene(kind, act)
    own(scene)
    socks, acts = scene.socks, scene.acts
    with eager_collector():
        if how == "close":
            loop = scene.loop
            loop.close()
            gc.collect()
            assert loop.is_closed()
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                loop.call_soon(int)
            assert {loop.stats()[name] for name in ("ready", "timers", "sources")} == {0}
            del loop
        del scene
        gc.collect()
    acts.clear()                            # owners that are still alive do nothing more
    gc.collect()
    for sock in socks:
        sock.close()
    expected = (RuntimeError, ValueError, TypeError, AttributeError, OSError, ResourceWarning)
    assert [exc for exc in unraisable if not isinstance(exc, expected)] == [], act
    unraisable.clear()


@pytest.mark.parametrize("how", ["close", "collect"])
@pytest.mark.parametrize("kind", [MIOLOOP_KINDS[0], MIOLOOP_KINDS[3]], ids=str)
@pytest.mark.parametrize("own", OWNERS, ids=lambda own: own.__name__[7:])
def test_owner_that_goes_with_its_loop_may_do_anything(own, how, kind, unraisable):
    for act in ACTS:
        if how == "close" or own is not own_by_signal_handler:     # which refers to the loop
            play(own, act, kind, how, unraisable)


untrack = ctypes.pythonapi.PyObject_GC_UnTrack
untrack.argtypes, untrack.restype = [ctypes.py_object], None


class Untracked:
    """Unknown to the collector: it goes only when the loop that has it is being cleared.

    The collector knows each object of a Python class, even without attributes, and would finalize
    it while the loop is still whole.
    """

    what = None                             # (address of the loop, act) while the test runs
    next_generation = 0
    first_deaths = 0                        # of generation 0
    taken = 0                               # objects that the loop did not refuse

    def __init__(self):
        self.generation = Untracked.next_generation
        untrack(self)

    def __del__(self):
        if Untracked.what is None or self.generation == MOST_GENERATIONS:
            return
        Untracked.first_deaths += self.generation == 0
        address, act = Untracked.what
        loop = ctypes.cast(address, ctypes.py_object).value
        before, Untracked.next_generation = Untracked.next_generation, self.generation + 1
        try:
            act(loop)
            Untracked.taken += act in ADDING
        finally:
            Untracked.next_generation = before


def late_call_soon(loop):
    loop.call_soon(print, Untracked())


def late_call_later(loop):
    loop.call_later(1, print, Untracked())


def late_call_soon_threadsafe(loop):
    loop.call_soon_threadsafe(print, Untracked())


def late_push(loop):
    loop._call_soon(print, [Untracked()], None)


def late_reader(loop):
    read_end, write_end = os.pipe()
    try:
        loop.add_reader(read_end, print, Untracked())
    finally:
        os.close(read_end)
        os.close(write_end)


ADDING = [act for name, act in list(globals().items()) if name.startswith("late_")]


def late_run(loop):
    loop._run_once()


def late_close(loop):
    loop.close()


def late_native_close(loop):
    loop._close_native()


def late_init(loop):
    loop.__init__()


def late_collect(loop):
    gc.collect()


LATE = [act for name, act in list(globals().items()) if name.startswith("late_")]


@pytest.mark.parametrize("how", ["close", "collect", "clear"])
@pytest.mark.parametrize("act", LATE, ids=lambda act: act.__name__[5:])
def test_loop_that_is_being_dismantled_refuses_a_call_that_would_never_end(
    act, how, mioloop_kind, unraisable, monkeypatch
):
    holder = [mioloop_kind.new()]
    loop = holder[0]
    if how == "clear":                      # the collector clears a loop that is still open
        monkeypatch.setattr(type(loop), "__del__", lambda loop: None)
    left, right = socket.socketpair()
    assert not gc.is_tracked(Untracked())
    Untracked.what = id(loop), act
    Untracked.first_deaths = Untracked.taken = 0
    loop.call_soon(print, Untracked())
    loop.call_soon(print, 1, 2, 3, 4, Untracked())
    loop.call_later(1, print, Untracked())
    loop.add_reader(left, print, Untracked())
    loop.add_writer(right, print, Untracked())
    with eager_collector(), warnings.catch_warnings():
        if how == "close":
            loop.close()
        warnings.simplefilter("ignore")
        del loop
        holder.clear()
        gc.collect()
    Untracked.what = None                   # the loop's address is invalid from now on
    assert (Untracked.first_deaths, Untracked.taken) == (5, 0)
    left.close()
    right.close()
    expected = (RuntimeError, AttributeError, ValueError, ResourceWarning)
    assert [exc for exc in unraisable if not isinstance(exc, expected)] == []


# -- loops that were never made, or made twice ---------------------------------------------------


def test_init_called_twice_begins_anew(mioloop_kind):
    before = len(os.listdir("/proc/self/fd"))
    loop = mioloop_kind.new()
    for _ in range(300):
        loop.call_soon(print, "never")
    loop.call_later(0, print, "never")
    read_end, write_end = os.pipe()
    loop.add_reader(read_end, print, "never")
    loop.__init__(trigger=mioloop_kind.trigger, selector=mioloop_kind.selector)
    assert loop.run_until_complete(asyncio.sleep(0.001, "run")) == "run"
    loop.close()
    loop.__init__()                         # asyncio opens a closed loop again, too
    assert loop.run_until_complete(asyncio.sleep(0.001, "again")) == "again"
    loop.close()
    os.close(read_end)
    os.close(write_end)
    assert len(os.listdir("/proc/self/fd")) == before


def test_init_of_a_running_loop_raises_and_leaves_it_running(mioloop_loop):
    async def main():
        with pytest.raises(RuntimeError, match="running"):
            mioloop_loop.__init__()
        return await asyncio.sleep(0.001, "goes on")

    assert mioloop_loop.run_until_complete(main()) == "goes on"


def arguments(name, sock):
    many = {
        "add_reader": (sock, int),
        "add_writer": (sock, int),
        "_add_reader": (sock.fileno(), int),
        "_add_writer": (sock.fileno(), int),
        "remove_reader": (sock,),
        "remove_writer": (sock,),
        "call_soon": (int,),
        "call_soon_threadsafe": (int,),
        "_call_soon": (int, (), None),
        "call_later": (1, int),
        "call_at": (1, int),
        "sock_recv": (sock, 1),
        "sock_sendall": (sock, b"x"),
        "_poll_by_hand": (0,),
    }
    return many.get(name)


def test_loop_without_init_refuses_every_call():
    import mioloop

    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        for name in dir(mioloop.EventLoop):
            if name in ("__init__", "__class__", "__init_subclass__", "__subclasshook__"):
                continue
            loop = mioloop.EventLoop.__new__(mioloop.EventLoop)
            try:
                method = getattr(loop, name)
            except (RuntimeError, AttributeError):
                continue
            if not callable(method):
                continue
            given = arguments(name, left)
            for args in [given] if given else [(), (left,), (left, 1), (0, int, ())]:
                try:
                    result = method(*args)
                    if hasattr(result, "send"):
                        try:
                            result.send(None)
                        finally:
                            result.close()
                except (StopIteration, GeneratorExit):
                    pass
                except Exception:
                    pass
            assert loop.is_closed() or name == "_open"


def test_init_that_fails_half_way_leaves_nothing_open(mioloop_kind):
    import resource

    import mioloop

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [open(os.devnull)]
    while fillers[-1].fileno() < max(int(fd) for fd in os.listdir("/proc/self/fd")) - 1:
        fillers.append(open(os.devnull))
    before = os.listdir("/proc/self/fd")
    lowest = fillers[-1].fileno() + 1
    failed = 0
    try:
        for room in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
            loop = mioloop.EventLoop.__new__(mioloop.EventLoop)
            try:
                loop.__init__(trigger=mioloop_kind.trigger, selector=mioloop_kind.selector)
            except OSError:
                failed += 1
                assert loop.is_closed()
                loop.close()
                with pytest.raises(RuntimeError):
                    loop.call_soon(int)
            else:
                loop.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(os.listdir("/proc/self/fd")) == len(before)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            filler.close()
    assert failed >= 2
