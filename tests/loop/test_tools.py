"""Attributes of a loop that tools and subclasses replace take effect, or raise: R100, R6, R14."""

from __future__ import annotations

import asyncio
import functools
import socket
import subprocess
import sys
import time
from unittest import mock

import pytest

pytestmark = pytest.mark.known_difference(
    "uvloop", "is compiled: nothing of it is replaced", run=False)


def subclass(loop, **members):
    """A loop of a class of the program's own, of the same kind."""
    cls = type("Own", (type(loop),), members)
    if hasattr(loop, "trigger"):
        return cls(trigger=loop.trigger, selector=loop.selector)
    return cls()


@pytest.fixture
def derived(loop):
    made = []

    def derive(**members):
        made.append(subclass(loop, **members))
        return made[-1]

    yield derive
    for own in made:
        own.close()


# -- Handle._run ---------------------------------------------------------------------------------


def counting(seen, original):
    def run(self):
        seen.append(self)
        return original(self)

    return run


def test_handle_run_replaced_while_the_loop_runs_sees_the_callbacks(loop, monkeypatch):
    """R14: from the next turn on, and until it is put back."""
    seen = []

    async def main():
        original = asyncio.events.Handle._run
        await asyncio.sleep(0)
        asyncio.events.Handle._run = counting(seen, original)
        for _ in range(10):
            await asyncio.sleep(0)
        asyncio.events.Handle._run = original
        await asyncio.sleep(0)
        before = len(seen)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return before

    before = loop.run_until_complete(main())
    assert len(seen) == before == 10


@pytest.mark.parametrize("name", ["Handle", "TimerHandle"])
def test_run_replaced_on_one_of_the_classes_sees_its_handles(loop, monkeypatch, name):
    """R14: on the base class it sees timers too; on TimerHandle only them."""
    seen = []
    cls = getattr(asyncio, name)
    monkeypatch.setattr(cls, "_run", counting(seen, asyncio.Handle._run))
    loop.call_soon(int)
    loop.call_later(0, str)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    called = {handle._callback for handle in seen}
    assert (int in called) == (name == "Handle")
    assert {str, loop.stop} <= called


def test_handle_run_called_by_hand_is_the_replacement(loop, monkeypatch):
    """R14: a tool that makes its own turns calls handle._run()."""
    seen, ran = [], []
    handle = loop.call_soon(ran.append, 1)
    handle._run()
    monkeypatch.setattr(asyncio.Handle, "_run", counting(seen, asyncio.Handle._run))
    handle._run()
    assert seen == [handle] and ran == [1, 1]
    handle.cancel()


def test_handle_run_replaced_by_a_mock_is_called_as_an_attribute(loop, monkeypatch):
    """R14: a Mock gets no self."""
    replacement = mock.Mock()
    monkeypatch.setattr(asyncio.Handle, "_run", replacement)
    handle = loop.call_soon(int)
    loop.stop()
    loop.run_forever()
    del handle
    replacement.assert_called_once_with()


PATCHED_BEFORE = """
import asyncio
seen = []
original = asyncio.events.Handle._run
def run(self):
    seen.append(self)
    return original(self)
asyncio.events.Handle._run = run
import mioloop
loop = mioloop.new_event_loop()
async def main():
    for _ in range(10):
        await asyncio.sleep(0)
loop.run_until_complete(main())
loop.close()
print(len(seen))
"""


def test_handle_run_replaced_before_mioloop_is_imported_is_seen():
    """R14: a tool that comes first."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED_BEFORE], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 11


# -- call_soon() and related methods -------------------------------------------------------------


def names(calls):
    return [getattr(callback, "__name__", None) for callback in calls]


def use_transports(loop):
    async def main():
        left, right = socket.socketpair()
        with right:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            transport.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_overridden_call_soon_gets_the_callbacks_of_transports(derived):
    """R100: in a subclass, keywords or not."""
    calls = []

    def call_soon(self, callback, *args, **keywords):
        calls.append(callback)
        return super(type(self), self).call_soon(callback, *args, **keywords)

    loop = derived(call_soon=call_soon)
    use_transports(loop)
    assert {"connection_made", "_call_connection_lost"} <= set(names(calls))
    loop.set_debug(True)
    use_transports(loop)


def test_call_soon_set_on_the_loop_gets_the_callbacks_of_transports(loop):
    """R100: on the instance, and until it is deleted."""
    calls = []
    original = loop.call_soon

    def call_soon(callback, *args, **keywords):
        calls.append(callback)
        return original(callback, *args, **keywords)

    loop.call_soon = call_soon
    use_transports(loop)
    assert {"connection_made", "_call_connection_lost"} <= set(names(calls))
    del loop.call_soon, calls[:]
    use_transports(loop)
    assert calls == []


def test_call_soon_replaced_on_the_class_gets_the_callbacks_of_transports(loop):
    """R100: as mock.patch.object() does it, while a loop exists."""
    cls = type(loop)
    calls = []
    original = cls.call_soon

    def call_soon(self, callback, *args, **keywords):
        calls.append(callback)
        return original(self, callback, *args, **keywords)

    with mock.patch.object(cls, "call_soon", call_soon):
        use_transports(loop)
    assert {"connection_made", "_call_connection_lost"} <= set(names(calls))


@pytest.mark.parametrize("where", ["subclass", "instance"])
def test_call_later_goes_by_an_overridden_call_at(loop, derived, where):
    """R100: asyncio's call_later() calls call_at()."""
    calls = []

    def call_at(self, when, callback, *args, **keywords):
        calls.append(when)
        return super(type(self), self).call_at(when, callback, *args, **keywords)

    if where == "subclass":
        own = derived(call_at=call_at)
    else:
        own = derived()
        own.call_at = functools.partial(call_at, own)
    for debug in (False, True):
        own.set_debug(debug)
        now = own.time()
        own.call_later(10, print).cancel()
        assert calls and 9.9 < calls.pop() - now < 11 and not calls


# -- the clock -----------------------------------------------------------------------------------


def fast_clock():
    """Ten seconds later each time it is looked at."""
    ahead_s = 0.0

    def now(self=None):
        nonlocal ahead_s
        ahead_s += 10
        return time.monotonic() + ahead_s

    return now


def sleeps_in_no_time(loop):
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(9))
    return time.monotonic() - began < 5


@pytest.mark.parametrize("where", ["class", "base class", "instance", "__class__", "subclass"])
def test_a_clock_replaced_at_any_time_moves_the_timers(loop, derived, where):
    """R6: wherever it is put, before the run or after the loop was made."""
    clock = fast_clock()
    if where == "class":
        with mock.patch.object(type(loop), "time", clock):
            assert sleeps_in_no_time(loop)
    elif where == "base class":
        with mock.patch.object(asyncio.BaseEventLoop, "time", clock):
            assert sleeps_in_no_time(loop)
    elif where == "instance":
        loop.time = clock
        assert sleeps_in_no_time(loop)
        del loop.time
    elif where == "__class__":
        own = derived()
        own.__class__ = type("Fast", (type(own),), {"time": clock})
        assert sleeps_in_no_time(own)
    else:
        own = derived()
        type(own).time = clock
        assert sleeps_in_no_time(own)
    assert abs(loop.time() - time.monotonic()) < 1
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("where", ["instance", "subclass"])
def test_time_monotonic_as_the_clock_is_the_clock(loop, derived, where):
    """R100: Home Assistant sets loop.time = time.monotonic."""
    own = derived() if where == "instance" else derived(time=staticmethod(time.monotonic))
    if where == "instance":
        own.time = time.monotonic
    began = time.monotonic()
    own.run_until_complete(asyncio.sleep(0.01))
    assert 0.009 < time.monotonic() - began < 5
    assert abs(own.call_later(10, print).when() - time.monotonic() - 10) < 1


ADDS_AN_ULP = pytest.mark.known_difference(
    "asyncio", "adds the infinite ulp of the time, and then all timers are due", since=(3, 15)
)


@pytest.mark.parametrize(
    "now",
    [-1e300, 1e300, pytest.param(-float("inf"), marks=ADDS_AN_ULP), 2**80, -(2**80), 0, -1],
)
def test_a_clock_at_an_end_of_the_range_freezes_nothing(loop, now):
    """R4: timers that are due run, and timers that are not due do not."""
    ran = []
    loop.time = lambda: now
    loop.call_at(now, ran.append, "due") if now != -float("inf") else None
    later = loop.call_at(float("inf"), ran.append, "never")
    loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
    loop.run_forever()
    assert ran in (["due"], [])
    later.cancel()
    del loop.time
