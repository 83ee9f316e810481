"""The contexts of callbacks that are scheduled without `context=`: R9.

mioloop makes a copy of the current context only where a program could notice one that is missing.
"""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref

import pytest

number = contextvars.ContextVar("number", default=0)


class Value:
    """Something that can be weakly referred to."""


def schedule(loop, how, callback, *args):
    """Call *callback*: all callbacks of one *how* in the order of their making."""
    if how == "call_later":
        return loop.call_later(0.001, callback, *args)
    return getattr(loop, how)(callback, *args)


def run(loop):
    loop.call_later(0.02, loop.stop)
    loop.run_forever()


HOW = pytest.mark.parametrize("how", ["call_soon", "call_later", "call_soon_threadsafe"])


@HOW
def test_callback_does_not_see_what_an_earlier_one_has_set(loop, how):
    """R9: callbacks that were scheduled in one context."""
    seen = []

    def look_and_set(value):
        seen.append(number.get())
        number.set(value)

    for value in range(1, 6):
        schedule(loop, how, look_and_set, value)
    run(loop)
    assert seen == [0] * 5
    assert number.get() == 0


@HOW
def test_callback_sees_the_variables_of_the_moment_when_it_was_scheduled(loop, how):
    """R9: one variable that changes between and after the calls."""
    seen = []
    context = contextvars.copy_context()

    def schedule_all():
        for value in (1, 1, 2, 3, 1):
            number.set(value)
            schedule(loop, how, lambda: seen.append(number.get()))
            schedule(loop, how, lambda: seen.append(number.get()))
        number.set(99)

    context.run(schedule_all)
    run(loop)
    assert seen == [1, 1, 1, 1, 2, 2, 3, 3, 1, 1]


def test_chain_of_callbacks_inherits_the_variables(loop):
    """R9: each link sets a value, which the next link sees."""
    seen = []

    def link(left):
        seen.append(number.get())
        if left % 2:
            number.set(left)
        if left:
            loop.call_soon(link, left - 1)

    loop.call_soon(link, 6)
    run(loop)
    assert seen == [0, 0, 5, 5, 3, 3, 1]


def test_value_set_and_reset_by_a_callback_is_gone(loop):
    """R9: with a token that belongs to the callback's context alone."""
    seen = []
    tokens = []

    def set_it():
        tokens.append(number.set(1))

    def reset_it():
        with pytest.raises(ValueError, match="different Context"):
            number.reset(tokens[0])
        token = number.set(2)
        number.reset(token)
        seen.append(number.get())

    loop.call_soon(set_it)
    loop.call_soon(reset_it)
    loop.call_soon(lambda: seen.append(number.get()))
    run(loop)
    assert seen == [0, 0]


def test_callbacks_of_two_threads_have_the_variables_of_their_own(loop):
    """R9: scheduled in turn by the loop's thread and by another one."""
    seen = []

    def schedule_both():
        number.set(1)
        thread.start()
        thread.join()
        loop.call_soon(lambda: seen.append(number.get()))

    def other():
        number.set(2)
        loop.call_soon_threadsafe(lambda: seen.append(number.get()))

    thread = threading.Thread(target=other)
    contextvars.copy_context().run(schedule_both)
    loop.call_soon(lambda: seen.append(number.get()))
    run(loop)
    assert seen == [2, 1, 0]


@pytest.mark.known_difference("asyncio", "has it since 3.12", until=(3, 11))
@pytest.mark.known_difference("uvloop", "has no get_context()")
@HOW
def test_handles_have_contexts_of_their_own(loop, how):
    """R9: get_context() gives the context in which the callback will run."""
    handles = [schedule(loop, how, number.set, value) for value in (1, 2, 3)]
    contexts = [handle.get_context() for handle in handles]
    assert len({id(context) for context in contexts}) == 3
    assert [handle.get_context() for handle in handles] == contexts
    contexts[1].run(number.set, 7)
    assert [context.get(number) for context in contexts] == [None, 7, None]
    run(loop)
    assert [context[number] for context in contexts] == [1, 2, 3]
    assert all(handle.get_context() is context
               for handle, context in zip(handles, contexts, strict=True))


@pytest.mark.known_difference("asyncio", "has it since 3.12", until=(3, 11))
@pytest.mark.known_difference("uvloop", "has no get_context()")
def test_running_callback_cannot_enter_the_context_of_its_handle(loop):
    """R9: it is entered already."""
    errors = []

    def enter():
        try:
            handles[0].get_context().run(int)
        except RuntimeError as exc:
            errors.append(str(exc))

    handles = [loop.call_soon(enter), loop.call_soon(int)]
    run(loop)
    assert len(errors) == 1
    assert "already entered" in errors[0]


@HOW
def test_values_of_variables_are_freed_with_the_callback(loop, how):
    """R9: the loop keeps no context, and so no value of a variable."""
    variable = contextvars.ContextVar("variable")

    def schedule_with_value():
        value = Value()
        variable.set(value)
        schedule(loop, how, int)
        schedule(loop, how, int)
        return weakref.ref(value)

    reference = contextvars.copy_context().run(schedule_with_value)
    run(loop)
    gc.collect()
    assert reference() is None


def test_value_set_by_a_callback_is_freed_with_it(loop):
    """R9: also while other callbacks keep the loop busy."""
    variable = contextvars.ContextVar("variable")
    references = []
    alive = []

    def set_it():
        value = Value()
        variable.set(value)
        references.append(weakref.ref(value))

    def link(left):
        if left:
            loop.call_soon(link, left - 1)
        else:
            alive.append(references[0]() is not None)

    loop.call_soon(set_it)
    loop.call_soon(link, 0)
    loop.call_soon(link, 3)
    run(loop)
    assert alive == [False, False]


def test_closed_loop_keeps_no_value_of_a_variable(loop_kind):
    """R9: nor does a value keep alive a loop that it refers to."""
    variable = contextvars.ContextVar("variable")
    loop = loop_kind.new()
    value = Value()
    value.loop = loop
    reference = weakref.ref(value)

    def schedule_with(value):
        variable.set(value)
        value.loop.call_soon(int)

    contextvars.copy_context().run(schedule_with, value)
    loop.close()
    del value, loop
    gc.collect()
    assert reference() is None
