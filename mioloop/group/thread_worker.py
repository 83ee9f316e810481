"""ThreadWorker: a worker in a thread of this process, as the parent sees it.

The worker's loop is reached by `WorkerRun.post` only. Shared between threads are the table of calls
that wait for their end, which has a lock, and objects that have their own.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mioloop.group.calls import WorkerFailed, perform, settle
from mioloop.group.report import Figures
from mioloop.group.run import Outcome, WorkerRun
from mioloop.group.worker import Worker
from mioloop.loop import threads

if TYPE_CHECKING:
    from mioloop.group.supervisor import Supervisor


class ThreadWorker:
    """One thread with a loop, from its start to its end. Any thread uses `call` and `figures`."""

    def __init__(self, supervisor: Supervisor, index: int) -> None:
        self.index = index
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Outcome] = self._loop.create_future()
        self._lock = threading.Lock()           # of the next two
        self._over = False
        self._calls: set[Future[Any]] = set()
        settings = supervisor.settings
        worker = Worker(index, settings.workers, "thread", self._open_port, supervisor.call)
        self._run = WorkerRun(worker, supervisor.main, settings.options)
        # A daemon, so that a thread that cannot be ended does not hold up the end of the program.
        self._thread = threading.Thread(
            target=self._work, name=f"mioloop worker {index}", daemon=True
        )

    def __str__(self) -> str:
        return f"worker {self.index}"

    async def live(self) -> Outcome:
        """Start the thread, and return when it has ended."""
        self._thread.start()
        try:
            outcome = await self._ended
            if not self._run.is_over:           # it was given up, see kill()
                return outcome
            threads.join(self._thread)
            return outcome
        finally:
            with self._lock:
                self._over = True
                calls = list(self._calls)
                self._calls.clear()
            for call in calls:
                settle(call, None, WorkerFailed(f"{self} has ended before it answered"))

    def stop(self, grace: float) -> None:
        self._run.post(self._run.stop, grace)

    def kill(self) -> bool:
        """No thread can be ended from outside: give it up, and say in which line it is."""
        if self._ended.done():
            return True
        frame = sys._current_frames().get(self._thread.ident or 0)
        place = "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        exc = WorkerFailed(f"{self} does not end: its thread is at {place}")
        self._ended.set_result(Outcome(None, exc, Figures()))
        return False

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        outcome = self._run.execute()
        try:
            self._loop.call_soon_threadsafe(self._has_ended, outcome)
        except RuntimeError:        # the worker was given up, and the group has ended
            return

    def _has_ended(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)

    def _open_port(self, host: str | None, port: int, number: int) -> tuple[int, Any]:
        return self._supervisor.listening.open(self.index, host, port, number)

    # -- any thread --------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        answer: Future[Any] = Future()

        def done(result: Any, exc: BaseException | None) -> None:
            with self._lock:
                self._calls.discard(answer)
            settle(answer, result, exc)

        with self._lock:
            over = self._over
            if not over:
                self._calls.add(answer)
        if over or not self._run.post(perform, function, args, done):
            done(None, WorkerFailed(f"{self} has ended"))
        return answer

    def figures(self) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(self._run.figures())
        return answer
