"""Handles that own handles, and handles with fields that a program has set."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import weakref

import pytest

from tests.support.waiting import run_until

LONG = 100_000
SMALL_STACK = 256 * 1024


def ignore(*_):
    pass


def as_argument(schedule, previous):
    return schedule(ignore, previous)


def among_many_arguments(schedule, previous):
    return schedule(ignore, 1, 2, 3, previous)


def in_the_callback(schedule, previous):
    return schedule(functools.partial(ignore, previous))


variable = contextvars.ContextVar("variable")


def in_the_context(schedule, previous):
    context = contextvars.Context()
    context.run(variable.set, previous)
    return schedule(ignore, context=context)


def scheduler(loop, how):
    if how == "timer":
        return functools.partial(loop.call_later, 1000)
    return getattr(loop, how)


@pytest.mark.known_difference("uvloop", "frees them recursively: a stack overflow", run=False)
@pytest.mark.parametrize("how", ["timer", "call_soon", "call_soon_threadsafe"])
@pytest.mark.parametrize(
    "link", [as_argument, among_many_arguments, in_the_callback, in_the_context],
    ids=lambda link: link.__name__,
)
def test_a_long_chain_of_handles_is_freed(loop, how, link):
    """R12: each handle owns the one before it; freeing the last one overflows no stack."""
    schedule = scheduler(loop, how)
    handle = schedule(ignore)
    for _ in range(LONG):
        handle = link(schedule, handle)
    loop.close()
    del handle
    gc.collect()


@pytest.mark.known_difference("asyncio", "nests 50 destructors: too many", run=False)
@pytest.mark.known_difference("uvloop", "frees them recursively: a stack overflow", run=False)
@pytest.mark.parametrize("how", ["timer", "call_soon"])
def test_a_chain_of_handles_is_freed_in_a_thread_with_a_small_stack(loop, how):
    """R12: 2000 nested calls of a destructor would overflow it."""
    schedule = scheduler(loop, how)
    chain = [schedule(ignore)]
    for _ in range(20_000):
        chain = [as_argument(schedule, chain.pop())]
    loop.close()
    before = threading.stack_size(SMALL_STACK)
    try:
        thread = threading.Thread(target=chain.clear)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert chain == []


def test_a_chain_that_is_garbage_is_collected(loop):
    """R12: the collector clears a handle in the middle of a cycle."""
    handle = first = loop.call_later(1000, ignore)
    for _ in range(20_000):
        handle = loop.call_later(1000, ignore, handle)
    holder = [handle]
    gone = weakref.ref(first) if not isinstance(loop, asyncio.SelectorEventLoop) else None
    holder.append(holder)
    loop.close()
    del handle, first, holder
    gc.collect()
    assert gone is None or gone() is None


@pytest.mark.known_difference("uvloop", "its handles have no such fields")
@pytest.mark.parametrize(
    "field, value",
    [("_callback", None), ("_args", None), ("_context", None), ("_context", 3), ("_callback", 3)],
)
def test_handle_with_a_field_set_to_nonsense_is_reported(loop, reports, field, value):
    """R13: a callback that is not callable is an exception in a callback."""
    ran = []
    handle = loop.call_soon(ran.append, "first")
    setattr(handle, field, value)
    del handle
    loop.call_soon(ran.append, "second")
    timer = loop.call_later(0, ran.append, "third")
    setattr(timer, field, value)
    run_until(loop, lambda: len(reports) == 2)
    assert ran == ["second"]
    assert all(isinstance(r["exception"], (TypeError, AttributeError)) for r in reports)


@pytest.mark.known_difference("uvloop", "its handles have no such fields")
def test_fields_of_a_handle_can_be_set_before_it_runs(loop):
    """R11: a tool wraps the callback, or gives it other arguments."""
    ran = []
    handle = loop.call_soon(ignore)
    handle._callback, handle._args = ran.append, ("set",)
    skipped = loop.call_soon(ran.append, "skipped")
    skipped._cancelled = True
    run_until(loop, lambda: ran)
    assert ran == ["set"]
    assert handle._args == ("set",) and handle._callback == ran.append


@pytest.mark.parametrize("how", ["timer", "call_soon", "call_soon_threadsafe"])
def test_weak_reference_to_a_handle_ends_with_it(mioloop_loop, how):
    """R11: also where the object's memory is used again for the next handle."""
    told = []
    handle = scheduler(mioloop_loop, how)(ignore)
    gone = weakref.ref(handle, told.append)
    handle.cancel()
    del handle
    mioloop_loop.close()
    assert gone() is None and told == [gone]


def test_handle_kept_by_the_destructor_of_its_argument_is_whole(loop):
    """R12: an argument's __del__ that keeps the handle, or cancels and schedules."""
    kept = []

    class Argument:
        def __del__(self):
            kept.append(self.handle())
            loop.call_soon(ignore).cancel()

    argument = Argument()
    handle = loop.call_soon(ignore, argument)
    argument.handle = weakref.ref(handle) if hasattr(handle, "__weakref__") else lambda: handle
    del argument
    handle.cancel()
    assert kept and kept[0] in (None, handle)
    assert handle.cancelled()
    loop.call_soon(kept.append, "ran")
    run_until(loop, lambda: kept[-1] == "ran")


def test_handles_survive_a_collection_at_every_allocation(loop):
    """R12: the collector sees a handle in each of its states."""
    before = gc.get_threshold()
    ran = []
    gc.set_threshold(1)
    try:
        handles = [loop.call_soon(ran.append, i) for i in range(50)]
        handles += [loop.call_later(0, ran.append, i) for i in range(50)]
        handles[3].cancel()
        handles[-3].cancel()
        run_until(loop, lambda: len(ran) == 98)
    finally:
        gc.set_threshold(*before)
    assert sys.getrefcount(handles[0]) < 10
