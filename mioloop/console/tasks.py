"""The tasks of a loop: where each one is suspended, and which tasks wait for it.

All functions may be called by another thread than the loop's. They run no code of the program,
except where the program has overridden a method of asyncio.Task.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import traceback
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mioloop.loop.stall import _callback_stack

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

Task = asyncio.Task[Any]

LONGEST_CHAIN = 1000
MOST_FUTURES = 100      # that are followed from one task to the tasks that wait for it
STEPPED = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)

# asyncio's types that stand for a coroutine or a generator, and do not show it
_WRAPPERS = (
    "coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable",
)


def current_task(loop: EventLoop) -> Task | None:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def tasks_of(loop: EventLoop) -> list[Task]:
    """The tasks that are not done, the oldest name first."""
    try:
        return sorted(asyncio.all_tasks(loop), key=_by_name)
    except RuntimeError:        # the set of tasks has changed at each attempt
        return []


def _by_name(task: Task) -> tuple[int, str]:
    name = task.get_name()
    digits = name.removeprefix("Task-")
    return (int(digits), "") if digits.isdecimal() else (sys.maxsize, name)


def give_back(tasks: list[Task], loop: EventLoop) -> None:
    """Drop the references of this thread. The last reference to a task is dropped by the loop.

    The end of a task closes its coroutine, and that may run code of the program.
    """
    while tasks:
        task = tasks.pop()
        if sys.getrefcount(task) <= ONE_REFERENCE:
            try:
                loop.call_soon_threadsafe(_nothing, task)
            except RuntimeError:                    # the loop is closed, and will not run again
                pass


def _nothing(task: object) -> None:
    pass


def _count_one_reference() -> int:
    """The result of sys.getrefcount() for an object that one local variable refers to."""
    list_of_one = [object()]
    only = list_of_one.pop()
    return sys.getrefcount(only)


ONE_REFERENCE = _count_one_reference()

# -- where a task is suspended -------------------------------------------------------------------


def coroutine_of(task: Task) -> Any:
    return task.get_coro()


def label_of(coroutine: Any) -> str:
    """The qualified name of the function that has made *coroutine*."""
    name = getattr(coroutine, "__qualname__", None) if _is_stepped(coroutine) else None
    return name if isinstance(name, str) else type(coroutine).__qualname__


def _is_stepped(thing: Any) -> bool:
    """Whether *thing* is a coroutine or a generator, of Python's own or of Cython's types."""
    return isinstance(thing, STEPPED) or type(thing).__module__.startswith("_cython_")


def await_chain(coroutine: Any) -> Iterator[dict[str, Any]]:
    """The place where *coroutine* is suspended, then of the one it waits for, and so on."""
    for _ in range(LONGEST_CHAIN):
        if type(coroutine).__name__ in _WRAPPERS:
            inner = [each for each in gc.get_referents(coroutine) if _is_stepped(each)]
            coroutine = inner[0] if inner else None
        if coroutine is None or not _is_stepped(coroutine):
            return
        prefix, following = _ATTRIBUTES.get(type(coroutine), ("cr", "cr_await"))
        code = getattr(coroutine, f"{prefix}_code", None)
        frame = getattr(coroutine, f"{prefix}_frame", None)
        yield {
            "function": label_of(coroutine),
            "file": getattr(code, "co_filename", "?"),
            "line": getattr(frame, "f_lineno", None) or getattr(code, "co_firstlineno", 0),
        }
        coroutine = getattr(coroutine, following, None)


_ATTRIBUTES: dict[type, tuple[str, str]] = {
    types.CoroutineType: ("cr", "cr_await"),
    types.GeneratorType: ("gi", "gi_yieldfrom"),
    types.AsyncGeneratorType: ("ag", "ag_await"),
}

# -- which task waits for which ------------------------------------------------------------------


def awaiters_of(task: Task, waiting: dict[int, Task]) -> list[Task]:
    """The tasks that wait for *task*, directly or by gather(), wait(), shield() or a TaskGroup.

    *waiting*: each waiting task by the id of the future that it waits for. The callbacks of *task*
    lead to these futures, sometimes through other futures.
    """
    found: list[Task] = []
    futures: list[Any] = [task]
    seen = {id(task)}
    while futures:
        future = futures.pop()
        waiter = waiting.get(id(future))
        if waiter is not None and waiter is not task and waiter not in found:
            found.append(waiter)
        if len(seen) > MOST_FUTURES:
            continue
        for entry in getattr(future, "_callbacks", None) or ():
            for thing in _held_by(entry[0] if isinstance(entry, tuple) else entry):
                if _is_group(thing):
                    parent = thing._parent_task
                    if parent is not None and parent is not task and parent not in found:
                        found.append(parent)
                elif isinstance(thing, asyncio.Future) and id(thing) not in seen:
                    seen.add(id(thing))
                    if not isinstance(thing, asyncio.Task):
                        futures.append(thing)
    return found


def _held_by(callback: Any) -> Iterator[Any]:
    """The objects that *callback* has: its `self`, its arguments, the variables it encloses."""
    for _ in range(4):
        if isinstance(callback, functools.partial):
            yield from callback.args
            callback = callback.func
        elif isinstance(callback, types.MethodType):
            yield callback.__self__
            callback = callback.__func__
        else:
            break
    if isinstance(callback, types.FunctionType):
        for cell in callback.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:                      # the cell is empty
                pass


def _is_group(thing: Any) -> bool:
    group = getattr(asyncio, "TaskGroup", None)     # from 3.11 on
    return group is not None and isinstance(thing, group)


def waiting_tasks(tasks: list[Task]) -> dict[int, Task]:
    return {
        id(waiter): task
        for task in tasks
        if (waiter := getattr(task, "_fut_waiter", None)) is not None
    }


# -- for the answers -----------------------------------------------------------------------------


def describe_tasks(loop: EventLoop, most: int = sys.maxsize) -> list[dict[str, Any]]:
    tasks = tasks_of(loop)
    try:
        current = current_task(loop)
        waiting = waiting_tasks(tasks)
        return [_describe(loop, task, task is current, waiting) for task in tasks[:most]]
    finally:
        waiting = {}
        current = None
        give_back(tasks, loop)


def names_by_id(loop: EventLoop) -> dict[int, str]:
    tasks = tasks_of(loop)
    names = {id(task): task.get_name() for task in tasks}
    give_back(tasks, loop)
    return names


def _describe(
    loop: EventLoop, task: Task, runs: bool, waiting: dict[int, Task]
) -> dict[str, Any]:
    coroutine = coroutine_of(task)
    waiter = getattr(task, "_fut_waiter", None)
    return {
        "id": id(task),
        "name": task.get_name(),
        "coroutine": label_of(coroutine),
        "state": "running" if runs else "ready" if waiter is None else "waiting",
        "waits_for": None if waiter is None else type(waiter).__name__,
        "stack": stack_of(loop) if runs else list(await_chain(coroutine)),
        "awaited_by": [id(other) for other in awaiters_of(task, waiting)],
    }


def stack_of(loop: EventLoop) -> list[dict[str, Any]]:
    """The frames that the loop's thread executes inside the loop, outermost first."""
    if loop._thread_id is None:
        return []
    frame = sys._current_frames().get(loop._thread_id)
    return [place_of(each) for each in _callback_stack(frame)]


def place_of(summary: traceback.FrameSummary) -> dict[str, Any]:
    return {
        "function": summary.name,
        "file": os.path.abspath(summary.filename),
        "line": summary.lineno or 0,
    }
