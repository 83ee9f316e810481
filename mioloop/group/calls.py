"""Functions, results and exceptions on their way to another loop, in this process or another."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Done = Callable[[Any, "BaseException | None"], object]


class WorkerFailed(RuntimeError):
    """A worker has ended without a result, e.g. because its process was killed."""


class GroupStopping(WorkerFailed):
    """A worker wanted to listen when the group was stopping already. It does not fail the group."""


class RequestCancelled(WorkerFailed):
    """The answer to a request that was cancelled in time."""


class RemoteTraceback(Exception):
    """The cause of an exception that another process has raised: its text is the traceback."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


# -- pickling ------------------------------------------------------------------------------------


def dump(value: Any, what: str) -> bytes:
    """Pickle *value* for another process. Raises TypeError, with the name *what*, on failure."""
    try:
        return pickle.dumps(value)
    except Exception as exc:
        raise TypeError(
            f"{what} must be picklable to reach a worker process, such as a function at the top"
            f" level of a module: {exc}; workers of kind 'thread' take any"
        ) from exc


def dump_exception(exc: BaseException) -> bytes:
    """Pickle *exc* with its traceback; a WorkerFailed stands for one that cannot be pickled."""
    text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    try:
        blob = pickle.dumps((exc, text))
        pickle.loads(blob)              # some exceptions refuse the arguments of their pickle
    except Exception:
        blob = pickle.dumps((WorkerFailed(f"{type(exc).__qualname__}: {exc}"), text))
    return blob


def load_exception(blob: bytes) -> BaseException:
    """The exception of `dump_exception`, with a `RemoteTraceback` as its cause."""
    try:
        exc, text = pickle.loads(blob)
    except Exception as failure:        # its class exists in the worker only
        return failure
    exc.__cause__ = RemoteTraceback(text)
    error: BaseException = exc
    return error


# -- a call --------------------------------------------------------------------------------------


def check(index: int, count: int, function: Callable[..., Any]) -> None:
    """Raises ValueError if there is no worker *index*, TypeError if *function* is no function."""
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(f"index must be the number of a worker, 0 to {count - 1}, not {index!r}")
    if not callable(function):
        raise TypeError(f"function must be callable, not {function!r}")


def perform(function: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
    """Call ``function(*args)`` in the running loop, and await the result if it can be awaited.

    done(result, None) or done(None, exception) is called at the end. The loop goes on after
    SystemExit and KeyboardInterrupt as well: these belong to the caller.
    """
    try:
        result = function(*args)
        if not inspect.isawaitable(result):
            done(result, None)
            return
        task = asyncio.ensure_future(result)
    except BaseException as exc:
        done(None, exc)
        return
    running: set[asyncio.Future[Any]] = vars(_of_thread).setdefault("running", set())
    running.add(task)
    task.add_done_callback(running.discard)
    task.add_done_callback(lambda task: _task_ended(task, done))


_of_thread = threading.local()      # `running`: a loop has only weak references to its tasks


def _task_ended(task: asyncio.Future[Any], done: Done) -> None:
    if task.cancelled():
        done(None, WorkerFailed("the call was cancelled, because its worker has ended"))
        return
    exc = task.exception()
    done(None if exc else task.result(), exc)


def settle(future: Future[Any], result: Any, exc: BaseException | None) -> bool:
    """Give *future* its end. Returns False if its owner has cancelled it before."""
    if future.done() or not future.set_running_or_notify_cancel():
        return False
    if exc is not None:
        future.set_exception(exc)
    else:
        future.set_result(result)
    return True
