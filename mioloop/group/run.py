"""The life of one worker in its own thread: make a loop, run `main`, wind down, close."""

from __future__ import annotations

import asyncio
import inspect
import select
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mioloop.factory import Options, new_event_loop
from mioloop.group import worker as worker_module
from mioloop.group.calls import WorkerFailed
from mioloop.group.report import Figures
from mioloop.group.worker import Worker

POLL_S = 0.01           # between two looks whether the last connection is gone
ABORT_S = 3.0           # for tasks to end after they were cancelled

Main = Callable[[Worker], Any]


class Outcome(NamedTuple):
    """How a worker has ended: with the result of `main`, or with an exception; and its figures."""

    result: Any
    exception: BaseException | None
    figures: Figures


class WorkerRun:
    """Runs *main* for one worker. `execute` is for the thread of the worker, `post` for any.

    Args:
        opened: awaited in the new loop, before `main` is called.
        closing: awaited after `main` and all other tasks have ended.
    """

    def __init__(
        self,
        worker: Worker,
        main: Main,
        options: Options,
        opened: Callable[[], Awaitable[object]] | None = None,
        closing: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._worker, self._main, self._options = worker, main, options
        self._opened, self._closing = opened, closing
        self._lock = threading.Lock()       # of the next three
        self._loop: Any = None
        self._posted: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._over = False
        self._asked: asyncio.Event | None = None    # to stop; it is made in the loop
        self._grace_ends: float | None = None       # time of the loop

    # -- any thread --------------------------------------------------------------------------

    def post(self, callback: Callable[..., object], *args: Any) -> bool:
        """Call ``callback(*args)`` in the loop, as soon as there is one. False: it is closed."""
        with self._lock:
            if self._over:
                return False
            if self._loop is None:
                self._posted.append((callback, args))
            else:
                self._loop.call_soon_threadsafe(callback, *args)
            return True

    @property
    def is_over(self) -> bool:
        return self._over

    def figures(self) -> Figures:
        with self._lock:
            if self._loop is None or self._over:
                return Figures()
            return Figures.of(self._loop, self._worker._fetched_connections())

    # -- the loop ----------------------------------------------------------------------------

    def is_asked(self) -> bool:
        """Whether the worker shall stop."""
        return self._grace_ends is not None

    def stop(self, grace: float) -> None:
        """Wind down within *grace* seconds. A second call can only shorten that."""
        ends = self._loop.time() + grace
        self._grace_ends = ends if self._grace_ends is None else min(ends, self._grace_ends)
        if self._asked is not None:
            self._asked.set()

    # -- the thread --------------------------------------------------------------------------

    def execute(self) -> Outcome:
        """Run the worker from its beginning to its end."""
        result, exception = None, None
        try:
            loop: Any = new_event_loop(**self._options)
        except BaseException as exc:
            with self._lock:
                self._over = True
            return Outcome(None, exc, Figures())
        worker_module._current.worker = self._worker
        try:
            asyncio.set_event_loop(loop)
            with self._lock:
                self._loop = loop
                for callback, args in self._posted:
                    loop.call_soon_threadsafe(callback, *args)
                self._posted.clear()
            try:
                result = loop.run_until_complete(self._live())
            except BaseException as exc:
                exception = exc
            try:
                self._close_down(loop)
            except BaseException as exc:
                exception = exception or exc
            figures = Figures.of(loop, self._worker._fetched_connections())
        finally:
            with self._lock:
                self._over = True
            worker_module._current.worker = None
            asyncio.set_event_loop(None)
            loop.close()
            for sock in self._worker._listeners:
                sock.close()
        return Outcome(result, exception, figures)

    async def _live(self) -> Any:
        self._asked = asyncio.Event()
        if self._opened is not None:
            await self._opened()
        if self.is_asked():             # to stop, before main was called
            return None
        coroutine = self._main(self._worker)
        if not inspect.isawaitable(coroutine):
            raise TypeError(f"main must return a coroutine, not {coroutine!r}")
        main: asyncio.Future[Any] = asyncio.ensure_future(coroutine)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((main, asked), return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                await self._wind_down(main)
        finally:
            asked.cancel()
        if main.done() and not main.cancelled():
            return main.result()
        if not self.is_asked():
            raise WorkerFailed(f"main of worker {self._worker.index} has cancelled itself")
        return None

    # -- winding down --------------------------------------------------------------------------

    async def _wind_down(self, main: asyncio.Future[Any]) -> None:
        """No new connections; wait for the open ones, at most for the grace; end `main`."""
        await self._close_listeners()
        self._worker._begin_stop()
        while self._loop.time() < self._grace_ends:
            if not self._loop._served_transports() and (
                main.done() or not self._worker._ends_by_itself
            ):
                break
            await asyncio.sleep(POLL_S)
        if not main.done():
            main.cancel()
            await asyncio.wait((main,), timeout=ABORT_S)

    async def _close_listeners(self) -> None:
        listeners = [each for each in self._worker._listeners if each.fileno() >= 0]
        poll = select.poll()
        for sock in listeners:
            poll.register(sock, select.POLLIN)
        give_up = self._loop.time() + POLL_S
        while poll.poll(0) and self._loop.time() < min(give_up, self._grace_ends or 0.0):
            await asyncio.sleep(0)      # a client that is connected already is accepted
        for sock in listeners:
            self._loop._stop_serving(sock)

    def _close_down(self, loop: Any) -> None:
        """End all tasks and connections, as at the end of asyncio.run(), in bounded time."""
        loop.run_until_complete(self._end_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        if self._closing is not None:
            loop.run_until_complete(self._closing())

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ABORT_S)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self._loop.call_exception_handler({
                    "message": "a task has failed while its worker ended",
                    "exception": task.exception(), "task": task,
                })
        for transport in self._loop._served_transports():
            transport.abort()
        give_up = self._loop.time() + ABORT_S
        while self._loop._served_transports() and self._loop.time() < give_up:
            await asyncio.sleep(0)      # until each connection_lost() was called
