"""Handles, and the loop's part in tasks and futures: R11 to R17."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from asyncio import base_events

import pytest


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


class Argument:
    """Something that can be weakly referred to."""


@pytest.mark.known_difference("uvloop", "has handle types of its own")
def test_handles_have_the_classes_of_asyncio(loop):
    """R11: isinstance of asyncio.Handle and asyncio.TimerHandle."""
    soon = loop.call_soon(print)
    later = loop.call_later(10, print)
    threadsafe = loop.call_soon_threadsafe(print)
    assert isinstance(soon, asyncio.Handle)
    assert isinstance(threadsafe, asyncio.Handle)
    assert isinstance(later, asyncio.TimerHandle)
    assert not isinstance(soon, asyncio.TimerHandle)
    for handle in (soon, later, threadsafe):
        handle.cancel()


def test_handle_knows_whether_it_was_cancelled(loop):
    """R11: cancelled(), on both kinds."""
    for handle in (loop.call_soon(print), loop.call_later(1, print)):
        assert not handle.cancelled()
        handle.cancel()
        assert handle.cancelled()
        handle.cancel()


def test_timer_handle_knows_its_time(loop):
    """R11: when() is the absolute time, in loop.time()'s seconds."""
    handle = loop.call_at(loop.time() + 100, print)
    assert 99 < handle.when() - loop.time() <= 100.000001
    handle.cancel()
    when = loop.time() + 1234.56789
    handle = loop.call_at(when, print)
    assert handle.when() == pytest.approx(when, abs=0.0011)
    handle.cancel()


@pytest.mark.known_difference("uvloop", "timer handles have no order")
def test_timer_handles_are_ordered_by_time(loop):
    """R11: order and equality as asyncio's; hash by time."""
    now = loop.time()
    first, second = loop.call_at(now + 10, print), loop.call_at(now + 20, print)
    same = loop.call_at(now + 10, print)
    assert first < second and first <= second and second > first and second >= first
    assert first == same and first <= same and first >= same
    assert first != second
    assert hash(first) == hash(same)
    assert sorted([second, first]) == [first, second]
    for handle in (first, second, same):
        handle.cancel()
    with pytest.raises(TypeError):
        assert first < 3


@pytest.mark.known_difference("uvloop", "its own repr")
def test_handle_repr_names_the_callback(loop):
    """R11: the repr shows the callback, the time, and whether the handle was cancelled."""
    soon = loop.call_soon(print, 1, 2)
    later = loop.call_later(10, print)
    assert repr(soon).startswith("<Handle ")
    assert "print" in repr(soon)
    assert repr(later).startswith("<TimerHandle ")
    assert "when=" in repr(later)
    soon.cancel()
    later.cancel()
    assert "cancelled" in repr(soon)
    assert "cancelled" in repr(later)


@pytest.mark.known_difference("asyncio", "has it since 3.12", until=(3, 11))
@pytest.mark.known_difference("uvloop", "has no get_context()")
def test_handle_gives_its_context(loop):
    """R11: get_context() on every version."""
    context = contextvars.copy_context()
    handle = loop.call_soon(print, context=context)
    timer = loop.call_later(10, print, context=context)
    assert handle.get_context() is context
    assert timer.get_context() is context
    handle.cancel()
    timer.cancel()
    default = loop.call_soon(print)
    assert isinstance(default.get_context(), contextvars.Context)
    default.cancel()


@pytest.mark.known_difference("uvloop", "may round one of the times up", strict=False)
def test_handle_cancelled_earlier_in_the_turn_does_not_run(loop):
    """R12: among callbacks, and among timers due together."""
    ran = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "soon"))
    turn(loop)

    when = loop.time() + 0.005
    loop.call_at(when, lambda: handles[1].cancel())
    handles.append(loop.call_at(when + 0.0000001, ran.append, "timer"))
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert ran == []


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_cancel_frees_callback_and_arguments_at_once(loop, method):
    """R12: without waiting for the turn, or for the time, in which it would have run."""
    argument = Argument()
    gone = weakref.ref(argument)

    def callback(_):
        pass

    callback_gone = weakref.ref(callback)
    delay = [1000] if method == "call_later" else []
    handle = getattr(loop, method)(*delay, callback, argument)
    del argument, callback
    gc.collect()
    assert gone() is not None
    handle.cancel()
    gc.collect()
    assert gone() is None
    assert callback_gone() is None


def test_finished_callback_frees_its_arguments(loop):
    """R12: a kept handle does not matter for a callback that is dropped after it ran."""
    argument = Argument()
    gone = weakref.ref(argument)
    loop.call_soon(id, argument)
    loop.call_later(0, id, argument)
    del argument
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    gc.collect()
    assert gone() is None


def test_exception_of_a_callback_goes_to_the_handler(loop, reports):
    """R13: message, exception and handle; the loop goes on."""
    ran = []
    error = ZeroDivisionError("the callback's own")

    def callback():
        raise error

    handle = loop.call_soon(callback)
    loop.call_soon(ran.append, "next")
    turn(loop)
    assert ran == ["next"]
    (report,) = reports
    assert report["message"].startswith("Exception in callback")
    assert "callback" in report["message"]
    assert report["exception"] is error
    assert report["handle"] is handle


@pytest.mark.known_difference("uvloop", "its handles are of classes of its own")
@pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, 3, 4, 5)], ids=len)
@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_failure_of_a_callback_whose_handle_was_dropped_names_it(loop, how, arguments):
    """R13: the report has a handle, with the callback and how it was scheduled."""
    reports = []
    context = contextvars.copy_context()

    def fails(*args):
        loop.call_soon(int)  # the report must not name this handle
        raise ZeroDivisionError(args)

    loop.set_exception_handler(lambda loop, report: reports.append(report))
    delay = (0.001,) if how == "call_later" else ()
    getattr(loop, how)(*delay, fails, *arguments, context=context)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    (report,) = reports
    handle = report["handle"]
    assert isinstance(handle, asyncio.TimerHandle if delay else asyncio.Handle)
    assert not handle.cancelled()
    assert "fails(" in repr(handle) and "fails(" in report["message"]
    assert report["exception"].args == (arguments,)
    if isinstance(loop, asyncio.SelectorEventLoop):
        assert handle._args == arguments and handle._context is context
        assert handle._callback is fails


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_interrupt_leaves_the_run_and_keeps_the_rest_queued(loop, error, method):
    """R13: KeyboardInterrupt and SystemExit leave run_forever(); the loop can run again."""
    ran = []

    def callback():
        raise error

    if method == "call_soon":
        loop.call_soon(callback)
        loop.call_soon(ran.append, "rest")
    else:
        loop.call_later(0.001, callback)
        loop.call_later(0.02, ran.append, "rest")
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert ran == ["rest"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task_leaves_run_until_complete(loop, error):
    """R13: and the task holds the exception."""

    async def main():
        raise error("why")

    with pytest.raises(error, match="why"):
        loop.run_until_complete(main())
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


def test_exception_handler_that_fails_does_not_end_the_loop(loop, caplog):
    """R13: a broken exception handler is logged."""

    def broken(loop, context):
        raise RuntimeError("the handler itself")

    loop.set_exception_handler(broken)
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    assert any("handler" in record.getMessage() for record in caplog.records)


def test_default_exception_handler_logs(loop, caplog):
    """R13: without a handler the logger `asyncio` gets it, with the traceback."""
    loop.set_exception_handler(None)
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    (record,) = [r for r in caplog.records if r.name == "asyncio"]
    assert record.levelname == "ERROR"
    assert "Exception in callback" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


def test_tasks_and_futures_have_the_classes_of_asyncio(loop):
    """R15: asyncio's own types, looked up when they are made."""
    assert type(loop.create_future()) is asyncio.Future

    async def main():
        return asyncio.current_task()

    task = loop.create_task(main())
    assert type(task) is asyncio.Task
    assert loop.run_until_complete(task) is task
    assert task.get_loop() is loop


@pytest.mark.known_difference("uvloop", "keeps the class that it was compiled with")
def test_replaced_task_class_is_used(loop, monkeypatch):
    """R15: tools replace asyncio.tasks.Task."""

    class Task(asyncio.tasks._PyTask):
        pass

    async def main():
        return "done"

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    task = loop.create_task(main())
    assert type(task) is Task
    assert loop.run_until_complete(task) == "done"


@pytest.mark.known_difference("uvloop", "keeps the class that it was compiled with")
def test_futures_are_made_by_the_current_class_at_asyncio_futures_future(loop, monkeypatch):
    """R15: tools replace asyncio.futures.Future."""

    class Future(asyncio.Future):
        pass

    assert type(loop.create_future()) is asyncio.Future
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    assert type(loop.create_future()) is Future


def test_create_task_by_keyword_and_with_a_mistake(loop):
    """R15: every way to call it, and the errors of a wrong one."""

    async def main():
        return asyncio.current_task().get_name()

    assert loop.run_until_complete(loop.create_task(coro=main(), name="mine")) == "mine"
    assert loop.run_until_complete(loop.create_task(main(), name=None)).startswith("Task-")
    with pytest.raises(TypeError, match="a coroutine was expected, got 3"):
        loop.create_task(3)
    for args, keywords in ([], {}), ([1, 2], {}), ([], {"nmae": "mine"}):
        with pytest.raises(TypeError):
            loop.create_task(*args, **keywords)


@pytest.mark.known_difference("uvloop", "adds eager_start=None", since=(3, 13))
def test_task_factory_makes_the_tasks(loop):
    """R16: a factory (loop, coro, **kwargs) gets the coroutine; the name is set either way."""
    calls = []

    def factory(loop, coro, **kwargs):
        calls.append(kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main():
        return asyncio.current_task().get_name()

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert loop.run_until_complete(loop.create_task(main(), name="mine")) == "mine"
    assert len(calls) == 1
    assert not set(calls[0]) - {"name", "context"}
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@pytest.mark.known_difference("uvloop", "adds context= and eager_start=None", since=(3, 11))
def test_task_factory_that_takes_no_keywords_works(loop):
    """R16: the caller's own keywords are passed on, and none is added."""

    def factory(loop, coro):
        return asyncio.Task(coro, loop=loop)

    async def main():
        return "ran"

    loop.set_task_factory(factory)
    assert loop.run_until_complete(loop.create_task(main())) == "ran"


CREATE_TASK_KEYWORDS = [
    {},
    {"name": "mine"},
    {"context": contextvars.copy_context()},
    {"name": "mine", "context": contextvars.copy_context()},
    {"name": "mine", "eager_start": False},
]


@pytest.mark.known_difference("uvloop", "adds eager_start=None", since=(3, 13))
@pytest.mark.known_difference(
    "uvloop", "adds context=None, takes eager_start=", since=(3, 11), until=(3, 12),
    but=("context",))
@pytest.mark.known_difference(
    "uvloop", "takes context= and eager_start=", until=(3, 10), only=("context", "eager_start"))
@pytest.mark.parametrize(
    "keywords", CREATE_TASK_KEYWORDS, ids=lambda keywords: "-".join(keywords) or "none"
)
def test_task_factory_gets_the_keywords_of_this_python_s_asyncio(loop, keywords):
    """R16: the keywords, and the side that sets the name, differ even between micro releases."""

    async def main():
        return asyncio.current_task().get_name() == "mine"

    def outcome(loop):
        """The factory's arguments and whether the task has the name; or the refusal."""
        given = []

        def factory(loop, coroutine, **kwargs):
            given.append(kwargs)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        coroutine = main()
        try:
            task = loop.create_task(coroutine, **keywords)
        except TypeError:
            coroutine.close()
            return "TypeError"
        return given, loop.run_until_complete(task)

    reference = asyncio.SelectorEventLoop()
    try:
        expected = outcome(reference)
    finally:
        reference.close()
    assert outcome(loop) == expected


def test_task_factory_that_is_not_callable_is_refused(loop):
    """R16: TypeError, and the old one stays."""
    with pytest.raises(TypeError):
        loop.set_task_factory(3)
    assert loop.get_task_factory() is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
def test_task_runs_in_the_given_context(loop):
    """R16: create_task(context=)."""
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()

    async def main():
        variable.set(variable.get() + 1)

    loop.run_until_complete(loop.create_task(main(), context=context))
    loop.run_until_complete(loop.create_task(main(), context=context))
    assert context[variable] == 2


@pytest.mark.known_difference("uvloop", "adds eager_start=None", since=(3, 13))
@pytest.mark.skipif(sys.version_info < (3, 12), reason="since 3.12")
def test_eager_task_factory_runs_the_first_step_at_once(loop):
    """R16: asyncio.eager_task_factory."""
    loop.set_task_factory(asyncio.eager_task_factory)
    order = []

    async def child():
        order.append("child")
        return "result"

    async def main():
        task = asyncio.ensure_future(child())
        order.append("main")
        assert task.done()
        return await task

    assert loop.run_until_complete(main()) == "result"
    assert order == ["child", "main"]


@pytest.mark.known_difference("uvloop", "adds a callback of its own")
def test_run_until_complete_marks_its_task_as_the_root(loop):
    """R17: anyio looks for base_events._run_until_complete_cb among the callbacks."""

    async def main():
        task = asyncio.current_task()
        return [callback for callback, _ in task._callbacks or ()]

    assert base_events._run_until_complete_cb in loop.run_until_complete(main())


def test_run_until_complete_of_a_stopped_loop_says_so(loop):
    """Section 4: 'Event loop stopped before Future completed.'"""
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(future)
    future.cancel()


def test_task_steps_hold_no_reference_to_the_task(loop):
    """A finished task is freed without the cycle collector, and so is its coroutine's frame."""
    gc.collect()
    gc.disable()
    try:

        async def main():
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)

        task = loop.create_task(main())
        gone = weakref.ref(task)
        loop.run_until_complete(task)
        del task
        turn(loop)
        assert gone() is None
    finally:
        gc.enable()


def test_asynchronous_generator_is_finalised_by_the_loop(loop):
    """R21: the loop's hooks close a generator that was dropped."""
    closed = []

    async def generate():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        async for _ in generate():
            break
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == [True]


@pytest.mark.known_difference("uvloop", "takes any callback")
def test_coroutine_functions_are_refused_as_callbacks_in_debug(loop):
    """R85: only in debug mode is a callback checked."""

    async def coroutine_function():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.call_soon(coroutine_function)
    with pytest.raises(TypeError):
        loop.call_soon(None)
