"""Supervisor: starts the workers, watches them, starts them again, and stops them.

It lives in a loop of its own, in the thread that called `LoopGroup.run`. Other threads use `call`,
`figures`, `queue` and `ask_to_stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mioloop.factory import Options
from mioloop.group.calls import GroupStopping, WorkerFailed, check, dump, settle
from mioloop.group.channel import Queue
from mioloop.group.listening import Listening
from mioloop.group.process_worker import ProcessWorker, pickled_main
from mioloop.group.report import Figures
from mioloop.group.run import ABORT_S, Main
from mioloop.group.thread_worker import ThreadWorker

logger = logging.getLogger("mioloop.group")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
KILL_S = 3 * ABORT_S            # after the grace: cancelling and closing take their own time
FIRST_DELAY_S = 0.1             # before a worker is started again; doubled for each failure
LONGEST_DELAY_S = 30.0
GOOD_RUN_S = 60.0               # after such a run a failure counts as the first one


@dataclass(frozen=True)
class Settings:
    """The arguments of a `LoopGroup`, which documents them."""

    workers: int
    kind: str
    grace: float
    on_failure: str
    restarts: int
    balance: str
    options: Options


@dataclass
class Slot:
    """The place of one worker, which several workers may have in turn."""

    index: int
    worker: ProcessWorker | ThreadWorker | None = None
    task: asyncio.Task[None] | None = None
    result: Any = None
    figures: Figures = field(default_factory=Figures)
    failures: int = 0           # since the last good run
    done: bool = False


class Supervisor:
    """One run of a group."""

    def __init__(
        self,
        settings: Settings,
        main: Main,
        queues: dict[int, Queue],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.settings, self.main = settings, main
        self.blob = pickled_main(main) if settings.kind == "process" else b""
        self.stopping = False
        self.stopped_by: int | None = None
        self.listening = Listening(settings.balance, loop)
        self._loop = loop
        self._wake = asyncio.Event()        # the group stops: no worker is started any more
        self._queues = queues
        self._slots = [Slot(index) for index in range(settings.workers)]
        self._failure: BaseException | None = None
        self._lock = threading.Lock()       # of the next two, and of Slot.worker
        self._waiting_calls: list[tuple[int, Callable[[Any], None], Future[Any]]] = []
        self._over = False

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    async def run(self) -> list[Any]:
        """Run the group. Returns the result of each worker, or raises the first failure."""
        try:
            with self._signals():
                tasks = [self._loop.create_task(self._keep(slot)) for slot in self._slots]
                try:
                    await asyncio.gather(*tasks)
                except BaseException:       # a fault of this package: leave no worker behind
                    self.abort()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    raise
        finally:
            self.listening.close()
            self._fail_waiting()
        if self._failure is not None:
            raise self._failure
        return [slot.result for slot in self._slots]

    # -- one worker --------------------------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        try:
            await self._run_until_done(slot)
        finally:
            with self._lock:
                slot.done = True
                calls = [each for each in self._waiting_calls if each[0] == slot.index]
            for _, _, answer in calls:
                settle(answer, None, WorkerFailed(f"worker {slot.index} has ended"))

    async def _run_until_done(self, slot: Slot) -> None:
        """Run the worker of *slot*, again and again if it fails and the user wants that."""
        while not self._wake.is_set():
            began = time.monotonic()
            result, exc = await self._run_once(slot)
            if exc is None or (self.stopping and isinstance(exc, GroupStopping)):
                slot.result = result
                return
            if time.monotonic() - began >= GOOD_RUN_S:
                slot.failures = 0
            slot.failures += 1
            restart = self.settings.on_failure == "restart" and isinstance(exc, Exception)
            if self.stopping or not restart or slot.failures > self.settings.restarts:
                self._fail(slot, exc)
                return
            delay = min(FIRST_DELAY_S * 2 ** (slot.failures - 1), LONGEST_DELAY_S)
            logger.error(
                "worker %d has failed; it is started again in %.1f s (%d of %d)",
                slot.index, delay, slot.failures, self.settings.restarts, exc_info=exc,
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)

    async def _run_once(self, slot: Slot) -> tuple[Any, BaseException | None]:
        kind = ProcessWorker if self.settings.kind == "process" else ThreadWorker
        try:
            worker = kind(self, slot.index)
            self._set_worker(slot, worker)
            outcome = await worker.live()
        except Exception as exc:            # no process, no thread, no descriptor
            return None, exc
        finally:
            self._set_worker(slot, None)
            self.listening.forget(slot.index)
        slot.figures = slot.figures.plus(outcome.figures)
        return outcome.result, outcome.exception

    def _set_worker(self, slot: Slot, worker: ProcessWorker | ThreadWorker | None) -> None:
        with self._lock:
            slot.worker = worker
            calls = []
            if worker is not None:
                calls = [each for each in self._waiting_calls if each[0] == slot.index]
                self._waiting_calls = [e for e in self._waiting_calls if e[0] != slot.index]
        for _, begin, _ in calls:
            begin(worker)

    def _fail(self, slot: Slot, exc: BaseException) -> None:
        """*exc* ends the group. The group raises the first such exception, and logs the others."""
        if self._failure is None:
            self._failure = exc
        elif (type(exc), str(exc)) != (type(self._failure), str(self._failure)):
            logger.error("worker %d has failed, too", slot.index, exc_info=exc)
        self.stop()

    # -- the end -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the group, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number in SIGNALS:
                self._loop.add_signal_handler(number, self._signalled, number)
            yield
        finally:
            for number, handler in before.items():
                self._loop.remove_signal_handler(number)
                if handler is not None:     # None: it was not installed by Python
                    signal.signal(number, handler)

    def _signalled(self, number: int) -> None:
        if self.stopped_by is not None or self.stopping:
            self.abort()
            return
        self.stopped_by = number
        self.stop()

    def stop(self) -> None:
        """No new connections; the workers end within the grace."""
        if not self.stopping:
            self.stopping = True
            self._wake.set()
            self.listening.stop()
            self._end_workers(self.settings.grace)

    def abort(self) -> None:
        """The workers cancel their tasks and abort their connections now."""
        self.stopping = True
        self._wake.set()
        self.listening.stop()
        self._end_workers(0.0)

    def _end_workers(self, grace: float) -> None:
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.stop(grace)
        self._loop.call_later(grace + KILL_S, self._kill)

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.worker is not None:
                logger.error("%s does not end: it is given up", slot.worker)
                slot.worker.kill()

    def ask_to_stop(self, grace: float | None = None) -> None:
        """Stop the group; abort it if *grace* is 0. Any thread."""
        with self._lock:
            if not self._over:
                self._loop.call_soon_threadsafe(self.abort if grace == 0 else self.stop)

    def _fail_waiting(self) -> None:
        with self._lock:
            self._over = True
            calls, self._waiting_calls = self._waiting_calls, []
        for _, _, answer in calls:
            settle(answer, None, WorkerFailed("the group has ended"))

    # -- any thread --------------------------------------------------------------------------------

    def queue(self, number: int) -> Queue:
        return self._queues[number]

    def call(self, index: int, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """See `LoopGroup.call`."""
        check(index, self.settings.workers, function)
        if self.settings.kind == "thread":
            return self._when_there(index, lambda worker: worker.call(function, args), None)
        blob = dump((function, args), "a function of call(), with its arguments,")
        return self._when_there(index, lambda worker: worker.call(blob), pickle.loads)

    def call_pickled(self, index: int, blob: bytes) -> Future[Any]:
        """Pass on the call of a worker process, which has checked it; the result stays pickled."""
        return self._when_there(index, lambda worker: worker.call(blob), None)

    def figures(self) -> list[Future[Figures]]:
        """The figures of each worker until now."""
        load = pickle.loads if self.settings.kind == "process" else None
        found: list[Future[Figures]] = []
        for slot in self._slots:
            before, answer = slot.figures, Future[Figures]()
            found.append(answer)
            with self._lock:
                worker = slot.worker
            if worker is None:
                answer.set_result(before)
                continue

            def answered(
                asked: Future[Any], before: Figures = before, answer: Future[Figures] = answer
            ) -> None:
                if asked.exception() is not None:       # the worker has ended meanwhile
                    settle(answer, before, None)
                else:
                    now = load(asked.result()) if load else asked.result()
                    settle(answer, before.plus(Figures(*now)), None)

            worker.figures().add_done_callback(answered)
        return found

    def final_figures(self) -> list[Figures]:
        return [slot.figures for slot in self._slots]

    def _when_there(
        self,
        index: int,
        ask: Callable[[Any], Future[Any]],
        load: Callable[[bytes], Any] | None,
    ) -> Future[Any]:
        """Ask the worker when it is there: it may be between two starts."""
        answer: Future[Any] = Future()

        def answered(asked: Future[Any]) -> None:
            exc = asked.exception()
            try:
                result = None if exc else asked.result()
                if load is not None and result is not None:
                    result = load(result)
                settle(answer, result, exc)
            except Exception as failure:        # the result cannot be unpickled
                settle(answer, None, failure)

        def begin(worker: Any) -> None:
            ask(worker).add_done_callback(answered)

        with self._lock:
            if self._over:
                raise RuntimeError("the group is not running")
            worker = self._slots[index].worker
            if worker is None and not self._slots[index].done:
                self._waiting_calls.append((index, begin, answer))
        if worker is not None:
            begin(worker)
        elif self._slots[index].done:
            settle(answer, None, WorkerFailed(f"worker {index} has ended"))
        return answer

