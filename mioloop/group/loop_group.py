"""LoopGroup: the public face of a group."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mioloop import stdlib
from mioloop.arguments import unknown
from mioloop.factory import Options, new_event_loop, takes_options
from mioloop.group.channel import Channel, Queue
from mioloop.group.listening import BALANCES, REUSE
from mioloop.group.report import Figures, table
from mioloop.group.run import Main
from mioloop.group.supervisor import Settings, Supervisor

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

KINDS = ("process", "thread")
ON_FAILURE = ("stop", "restart")
FIGURES_S = 5.0             # for the workers to answer


def default_workers() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_kind() -> str:
    """"thread" where threads run in parallel, in a Python without the GIL, else "process"."""
    gil_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return "process" if gil_enabled() else "thread"


def checked(name: str, value: str | None, valid: tuple[str, ...], default: str) -> str:
    if value is None:
        return default
    if value not in valid:
        raise ValueError(unknown(name, str(value), valid).replace("\n", "; "))
    return value


class LoopGroup:
    """Several loops of mioloop, each in a process or thread of its own, that share their ports.

    ::

        async def main(worker):
            sock = worker.listen("127.0.0.1", 8000)
            server = await asyncio.start_server(handle, sock=sock)
            await server.serve_forever()

        if __name__ == "__main__":
            with mioloop.LoopGroup(workers=4) as group:
                group.run(main)

    SIGINT (Ctrl-C) and SIGTERM stop the group: the workers accept no new connection, those that are
    open have *grace* seconds to finish, and the rest is aborted; a second signal aborts at once.

    Args:
        workers: the number of loops; None: one for each core that this process may use.
        kind: "process" or "thread"; None: threads where the GIL is off, else processes.
        grace: seconds, at least 0, for open connections to finish when the group stops.
        on_failure: "stop": a worker that fails stops the group, and `run` raises its exception.
            "restart": it is started again, after a delay that begins at 0.1 s and doubles.
        restarts: how many failures of one worker may follow each other, each within a minute,
            until the group stops nevertheless.
        balance: "kernel": the system shares connections out (SO_REUSEPORT). "handover": the parent
            accepts, and hands them over in turn, which is even but slower. None: "kernel" where the
            system can (Linux, FreeBSD), else "handover".
        report: True: print the figures of the workers to stderr when the group was stopped.
        **options: for the loops, see `new_event_loop`; backend "mio" only.

    Raises:
        ValueError: a value out of its range; the message names the valid ones.
    """

    @takes_options
    def __init__(
        self,
        workers: int | None = None,
        *,
        kind: str | None = None,
        grace: float = 10.0,
        on_failure: str = "stop",
        restarts: int = 5,
        balance: str | None = None,
        report: bool = True,
        **options: Unpack[Options],
    ) -> None:
        if workers is None:
            workers = default_workers()
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers must be a number of at least 1, not {workers!r}")
        if isinstance(grace, bool) or not isinstance(grace, (int, float)) or not grace >= 0:
            raise ValueError(f"grace must be a number of seconds of at least 0, not {grace!r}")
        if isinstance(restarts, bool) or not isinstance(restarts, int) or restarts < 0:
            raise ValueError(f"restarts must be a number of at least 0, not {restarts!r}")
        balance = checked("balance", balance, BALANCES, "handover" if REUSE is None else "kernel")
        if balance == "kernel" and REUSE is None:
            raise ValueError("balance 'kernel' is not possible on this system: use 'handover'")
        if options.setdefault("backend", "mio") not in (None, "mio"):
            raise ValueError(f"backend must be 'mio' for a group, not {options['backend']!r}")
        options["backend"] = "mio"
        new_event_loop(**options).close()       # a wrong option is an error here
        self._settings = Settings(
            workers, checked("kind", kind, KINDS, default_kind()), float(grace),
            checked("on_failure", on_failure, ON_FAILURE, "stop"), restarts, balance, options,
        )
        self._report = report
        self._numbers = itertools.count()
        self._queues: dict[int, Queue] = {}
        self._lock = threading.Lock()       # of the two above and the two below
        self._supervisor: Supervisor | None = None
        self._closed = False
        self._ended = threading.Event()     # no run is under way
        self._ended.set()
        self._figures = [Figures()] * workers

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self._settings.workers

    @property
    def kind(self) -> str:
        """"process" or "thread"."""
        return self._settings.kind

    def __repr__(self) -> str:
        return f"<LoopGroup workers={self.workers} kind={self.kind}>"

    # -- running -----------------------------------------------------------------------------------

    def run(self, main: Main) -> list[Any]:
        """Run ``main(worker)``, with a `Worker`, in each loop, until all of them have ended.

        In the main thread, SIGINT and SIGTERM stop the group; its signal handlers are restored
        afterwards. In another thread, `stop` does. For processes *main*, its result and its
        exceptions are pickled.

        Returns:
            The result of each *main*; None for one that was stopped.

        Raises:
            TypeError: *main* is no function, or cannot be pickled for a process, or its result
                cannot be.
            RuntimeError: a loop runs in this thread, the group is running or closed, or this is a
                worker process that imports the main module.
            WorkerFailed: a process was killed, or a thread does not end.
            Exception: the first exception of a *main*.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "a worker process imports the main module, and must not start a group: write"
                " `if __name__ == \"__main__\":` before the lines that run the group"
            )
        if stdlib.get_running_loop() is not None:
            raise RuntimeError("LoopGroup.run() cannot be called from a running event loop")
        if not callable(main):
            raise TypeError(f"main must be a function that takes a worker, not {main!r}")
        loop = new_event_loop(backend="mio")
        try:
            supervisor = Supervisor(self._settings, main, self._queues, loop)
            with self._lock:
                if self._closed or self._supervisor is not None:
                    raise RuntimeError(f"the group is {'closed' if self._closed else 'running'}")
                self._supervisor = supervisor
                self._ended.clear()
            return self._run(supervisor, loop)
        finally:
            loop.close()

    def _run(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> list[Any]:
        try:
            results: list[Any] = loop.run_until_complete(supervisor.run())
        finally:
            self._figures = supervisor.final_figures()
            with self._lock:
                self._supervisor = None
            self._ended.set()
            # A group that has failed before its first connection has nothing to show.
            used = any(each.accepted for each in self._figures)
            if self._report and supervisor.stopping and (used or not supervisor.has_failed):
                print(table(self._figures), file=sys.stderr, flush=True)
        return results

    def stop(self, *, abort: bool = False) -> None:
        """Stop the group as SIGTERM does, or at once with *abort*. Any thread may call this.

        It does not wait. Nothing happens if the group is not running.
        """
        with self._lock:
            supervisor = self._supervisor
        if supervisor is not None:
            supervisor.ask_to_stop(0 if abort else None)

    def close(self) -> None:
        """End the group: abort a run in another thread and wait for it, and close the channels."""
        with self._lock:
            self._closed = True
        self.stop(abort=True)
        self._ended.wait()
        with self._lock:
            queues = list(self._queues.values())
        for queue in queues:
            queue.close(RuntimeError("the group of this channel has ended"))

    def __enter__(self) -> LoopGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- between loops: any thread -----------------------------------------------------------------

    def call(self, index: int, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` in the loop of worker *index*; a coroutine is awaited there.

        Any thread of this process may call this, and so may any loop; `Worker.call` is for a
        worker. For processes function, arguments, result and exceptions are pickled.

        Returns:
            A future of the result, which raises an exception of the function, or WorkerFailed if
            the worker ends before. `asyncio.wrap_future` makes it one of asyncio.

        Raises:
            ValueError: there is no worker *index*.
            TypeError: *function* cannot be called, or cannot be pickled with its arguments.
            RuntimeError: the group is not running.
        """
        return self._running().call(index, function, *args)

    def channel(self, capacity: int = 64) -> Channel:
        """Make a `Channel` that holds *capacity* items, at least 1. Raises ValueError for less."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"capacity must be a number of at least 1, not {capacity!r}")
        queue = Queue(capacity)
        with self._lock:
            number = next(self._numbers)
            self._queues[number] = queue
        return Channel(queue, number, capacity, self.kind == "process")

    def figures(self) -> list[Figures]:
        """The `Figures` of each worker: of the run under way, else of the last one.

        Waits for the workers; not to be called in one of their loops. Raises TimeoutError if one
        does not answer within 5 seconds.
        """
        with self._lock:
            supervisor = self._supervisor
        if supervisor is None:
            return self._figures
        return [each.result(FIGURES_S) for each in supervisor.figures()]

    def _running(self) -> Supervisor:
        with self._lock:
            if self._supervisor is None:
                raise RuntimeError("the group is not running")
            return self._supervisor
