"""Parts of asyncio above the loop: runners, task groups, timeouts, eager tasks, generators."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading

import pytest

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")
since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")


# -- Runner --------------------------------------------------------------------------------------


@since_3_11
def test_runner_keeps_one_loop_and_one_context(loop_kind, no_leaked_descriptor):
    """R9, R22: several run() calls share both; the end closes the loop."""
    variable = contextvars.ContextVar("variable", default=0)

    async def count():
        variable.set(variable.get() + 1)
        return variable.get(), asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=loop_kind.new) as runner:
        first, loop = runner.run(count())
        second, again = runner.run(count())
        assert (first, second) == (1, 2)
        assert loop is again is runner.get_loop()
        assert runner.run(count(), context=contextvars.copy_context())[0] == 1
    assert loop.is_closed()
    assert variable.get() == 0


@since_3_11
def test_runner_cancels_remaining_tasks_and_finishes_generators(loop_kind, no_leaked_descriptor):
    """R21: stragglers are cancelled, generators closed, the executor shut down."""
    ended = []

    async def straggler():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("straggler")

    async def generate():
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def main():
        tasks.append(asyncio.create_task(straggler()))
        generator = generate()
        generators.append(generator)
        await generator.__anext__()
        await asyncio.to_thread(ended.append, "thread")

    tasks, generators = [], []
    with asyncio.Runner(loop_factory=loop_kind.new) as runner:
        runner.run(main())
    assert sorted(ended) == ["generator", "straggler", "thread"]
    assert tasks[0].cancelled()


@since_3_11
def test_runner_turns_the_first_ctrl_c_into_a_cancellation(loop_kind, no_leaked_descriptor):
    """R86: the main task may clean up; then KeyboardInterrupt leaves run()."""
    cleaned = []

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with asyncio.Runner(loop_factory=loop_kind.new) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert runner.run(asyncio.sleep(0, "again")) == "again"
    assert cleaned == [True]


@since_3_11
@pytest.mark.parametrize("debug", [True, False])
def test_runner_sets_debug_mode(loop_kind, no_leaked_descriptor, debug):
    """R85: Runner(debug=)."""
    with asyncio.Runner(debug=debug, loop_factory=loop_kind.new) as runner:
        assert runner.get_loop().get_debug() is debug


@since_3_12
def test_asyncio_run_takes_a_loop_factory(loop_kind, no_leaked_descriptor):
    """R91: asyncio.run(loop_factory=) needs no policy."""

    async def main():
        return asyncio.get_running_loop()

    loop = asyncio.run(main(), loop_factory=loop_kind.new)
    assert type(loop).__module__.startswith(loop_kind.name)
    assert loop.is_closed()


# -- tasks ---------------------------------------------------------------------------------------


@since_3_11
def test_task_group_ends_its_tasks_together(loop, run):
    """R15: one failure cancels the other tasks; all failures are in the group."""
    cancelled = []

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails(error):
        await asyncio.sleep(0)
        raise error

    async def main():
        first, second = ValueError("first"), KeyError("second")
        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: F821
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                group.create_task(fails(first))
                group.create_task(fails(second))
        assert set(caught.value.exceptions) == {first, second}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001, n)) for n in range(10)]
        assert [task.result() for task in tasks] == list(range(10))

    run(loop, main())
    assert cancelled == [True]


@since_3_11
async def test_timeout_cancels_the_block_that_it_encloses(loop):
    """R3: asyncio.timeout(), timeout_at() and reschedule()."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout_at(loop.time() - 1):
            await asyncio.sleep(10)
    async with asyncio.timeout(0.01) as scope:
        scope.reschedule(loop.time() + 60)
        await asyncio.sleep(0.02)
    assert not scope.expired()
    async with asyncio.timeout(None):
        await asyncio.sleep(0.001)
    assert asyncio.current_task().cancelling() == 0


@since_3_11
async def test_timeout_lets_a_cancellation_from_outside_through(loop):
    """R15: it is no TimeoutError, also if both come in one turn."""

    async def limited():
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(limited())
    await asyncio.sleep(0)
    task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError, match="from outside"):
        await task


@since_3_12
@pytest.mark.known_difference("uvloop", "adds eager_start=None", since=(3, 13))
async def test_eager_tasks_are_current_and_have_a_context_of_their_own(loop):
    """R16: the first step runs inside create_task(), as the task; a waiting task goes on later."""
    variable = contextvars.ContextVar("variable", default="outer")
    seen = []

    async def child(event):
        seen.append((asyncio.current_task(), variable.get()))
        variable.set("child's own")
        if event is not None:
            await event.wait()
            seen.append(variable.get())
        return "done"

    loop.set_task_factory(asyncio.eager_task_factory)
    parent = asyncio.current_task()
    variable.set("parent's")
    event = asyncio.Event()
    at_once = asyncio.create_task(child(None))
    assert at_once.done() and asyncio.current_task() is parent
    waiting = asyncio.create_task(child(event))
    assert not waiting.done() and waiting in asyncio.all_tasks()
    assert variable.get() == "parent's"
    event.set()
    assert await asyncio.gather(at_once, waiting) == ["done", "done"]
    assert seen == [(at_once, "parent's"), (waiting, "parent's"), "child's own"]
    loop.set_task_factory(None)


@since_3_12
@pytest.mark.known_difference(
    "uvloop", "adds eager_start=None", since=(3, 13), until=(3, 13, 0))
@pytest.mark.known_difference(
    "uvloop", "adds eager_start=None, which some releases refuse", since=(3, 13, 1), until=(3, 13),
    strict=False)
async def test_eager_task_that_fails_or_is_cancelled_at_once(loop):
    """R16: the exception is the task's, not create_task()'s."""

    async def fails():
        raise ValueError("at once")

    loop.set_task_factory(asyncio.eager_task_factory)
    task = asyncio.create_task(fails())
    with pytest.raises(ValueError, match="at once"):
        await task
    sleeping = asyncio.create_task(asyncio.sleep(60))
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping


def test_context_follows_tasks_callbacks_and_threads(loop, run):
    """R9: each task has a copy; to_thread() takes it along; a future's callback has its own."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = {}

    async def child():
        seen["task"] = variable.get()
        variable.set("child's own")

    def in_a_thread():
        seen["thread"] = variable.get(), threading.current_thread() is threading.main_thread()

    async def main():
        variable.set("main's")
        await asyncio.create_task(child())
        assert variable.get() == "main's"
        await asyncio.to_thread(in_a_thread)
        future = loop.create_future()
        context = contextvars.copy_context()
        context.run(variable.set, "callback's")
        future.add_done_callback(lambda _: seen.update(callback=variable.get()), context=context)
        future.set_result(None)
        await asyncio.sleep(0)

    run(loop, main())
    assert seen == {"task": "main's", "thread": ("main's", False), "callback": "callback's"}


# -- generators and handlers ---------------------------------------------------------------------


def test_shutdown_asyncgens_closes_every_generator(loop, reports):
    """R21: a failing generator is reported; one that starts afterwards causes a warning."""
    closed = []

    async def generate(name):
        try:
            while True:
                yield name
        finally:
            await asyncio.sleep(0)
            closed.append(name)
            if name == "fails":
                raise ValueError("while closing")

    async def main():
        for name in ("first", "second", "fails"):
            generators.append(generate(name))
            assert await generators[-1].__anext__() == name
        await loop.shutdown_asyncgens()
        with pytest.warns(ResourceWarning, match="after loop.shutdown_asyncgens"):
            late = generate("late")
            await late.__anext__()
        await late.aclose()

    generators = []
    loop.run_until_complete(main())
    assert sorted(closed) == ["fails", "first", "late", "second"]
    (report,) = reports
    assert isinstance(report["exception"], ValueError)
    assert report["asyncgen"] is generators[2]


def test_exception_handler_is_called_with_loop_and_context(loop):
    """R13: set, get, call, and back to the default by None."""
    calls = []

    def handler(*args):
        calls.append(args)

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    context = {"message": "of my own"}
    loop.call_exception_handler(context)
    assert calls == [(loop, context)]
    with pytest.raises(TypeError):
        loop.set_exception_handler("no handler")
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exception_handler_may_end_the_run(loop, error):
    """R13: KeyboardInterrupt and SystemExit of the handler itself leave run_forever()."""

    def handler(loop, context):
        raise error

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(error):
        loop.run_forever()
    loop.set_exception_handler(None)
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


@since_3_12
def test_exception_handler_runs_in_the_context_of_the_failure(loop):
    """R13: the handler runs in the context of the callback that failed."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))

    def failing():
        raise ValueError

    context = contextvars.copy_context()
    context.run(variable.set, "the callback's")
    loop.call_soon(failing, context=context)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.set_exception_handler(None)
    assert seen == ["the callback's"]
