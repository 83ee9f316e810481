"""Findings: likely faults of a program, as the lints of tokio's console.

Each is a guess with its reason. A single look cannot show how long a task has waited for one
future, how long a transport has been paused, or how the queue of an executor grows: a `Notebook`
remembers that of one loop. The thread of the console looks once in `LOOK_S`, and at each request.
"""

from __future__ import annotations

import itertools
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop.console import tasks as tasks_module
from mioloop.console.recorder import Summing
from mioloop.console.tasks import (
    ONE_REFERENCE,
    await_chain,
    coroutine_of,
    current_task,
    give_back,
    label_of,
)

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

LOOK_S = 60.0
LONG_WAIT_S = 3600.0
PAUSED_S = 60.0
GROWING_LOOKS = 3       # in which the queue of an executor has grown each time
BETWEEN_QUEUES_S = 1.0  # at least, between two such looks
SPINS = 1000            # steps in a row
MOST = 20               # findings of each kind

Finding = dict[str, Any]
# A task with such a frame waits for as long as the program runs.
SERVING = ("serve_forever", "Server.serve_forever")


class Notebook:
    """Remembers facts of one loop between two looks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The task, its future, and since when it waits for it; by the id of the task. The
        # references have no callback: it would run in the thread of the loop.
        self._waits: dict[int, tuple[weakref.ref[Any], weakref.ref[Any], float]] = {}
        self._paused: dict[tuple[Any, ...], float] = {}
        self._queues: list[tuple[float, int]] = []

    def look(self, loop: EventLoop) -> None:
        now = self._clock()
        tasks = tasks_module.tasks_of(loop)
        self._waits = self._waits_of(tasks, now)
        give_back(tasks, loop)
        self._look_at_transports(loop, now)
        self._look_at_executor(loop, now)

    def _waits_of(
        self, tasks: list[Any], now: float
    ) -> dict[int, tuple[weakref.ref[Any], weakref.ref[Any], float]]:
        waits = {}
        for task in tasks:
            waiter = getattr(task, "_fut_waiter", None)
            if waiter is not None:
                known = self._waits.get(id(task))
                if known is None or known[0]() is not task or known[1]() is not waiter:
                    known = (weakref.ref(task), weakref.ref(waiter), now)
                waits[id(task)] = known
        return waits

    def _look_at_transports(self, loop: EventLoop, now: float) -> None:
        paused = {
            (fd, name, protocol, str(peer))
            for name, fd, protocol, peer, is_paused, _ in loop._list_transports()
            if is_paused
        }
        self._paused = {key: self._paused.get(key, now) for key in paused}

    def _look_at_executor(self, loop: EventLoop, now: float) -> None:
        queue = getattr(loop._default_executor, "_work_queue", None)
        if queue is None:
            self._queues.clear()
        elif not self._queues or now - self._queues[-1][0] >= BETWEEN_QUEUES_S:
            self._queues = [*self._queues[-GROWING_LOOKS:], (now, queue.qsize())]

    def findings(self, loop: EventLoop) -> list[Finding]:
        now = self._clock()
        found = []
        for (fd, name, protocol, peer), since in self._paused.items():
            if now - since >= PAUSED_S:
                found.append(finding(
                    "paused transport",
                    f"{name} of {protocol}, fd {fd}, peer {peer}, has not read for"
                    f" {now - since:.0f} s: its data is not consumed",
                ))
        sizes = [size for _, size in self._queues]
        if len(sizes) > GROWING_LOOKS and all(a < b for a, b in itertools.pairwise(sizes)):
            found.append(finding(
                "growing executor",
                f"{sizes[-1]} calls wait for the default executor, and more at each look:"
                " its threads are too few, or they are blocked",
            ))
        tasks = tasks_module.tasks_of(loop)
        found += self._of_waits(tasks, now)
        found += unheld(loop, tasks)
        give_back(tasks, loop)
        return found

    def _of_waits(self, tasks: list[Any], now: float) -> list[Finding]:
        long: Counter[str] = Counter()
        longest: dict[str, float] = {}
        for task in tasks:
            known = self._waits.get(id(task))
            if known is None or now - known[2] < LONG_WAIT_S:
                continue
            known_task: Any = known[0]()
            if known_task is not task:              # another task had the id
                continue
            coroutine = coroutine_of(task)
            if not any(frame["function"] in SERVING for frame in await_chain(coroutine)):
                function = label_of(coroutine)
                long[function] += 1
                longest[function] = max(longest.get(function, 0.0), now - known[2])
        return [
            finding(
                "long wait",
                f"{plural(count, 'task')} of {function}() waited for one future for"
                f" {longest[function] / 3600:.1f} hours, and longer",
            )
            for function, count in long.most_common(MOST)
        ]


def unheld(loop: EventLoop, tasks: list[Any]) -> list[Finding]:
    """Tasks with one reference: that of the future or the handle that wakes them.

    The loop refers to its tasks weakly. If that future is lost, the task is lost with it.
    """
    current = current_task(loop)
    count: Counter[str] = Counter()
    for i in range(len(tasks)):
        # The list refers to it, and so do the variable, the callback that wakes it, and from 3.14
        # on the future that knows it as its awaiter.
        task = tasks[i]
        others = 2 + is_known_awaiter(task)
        if task is not current and sys.getrefcount(task) == ONE_REFERENCE + others:
            count[label_of(coroutine_of(task))] += 1
    return [
        finding(
            "unheld task",
            f"{plural(number, 'task')} of {function}() is held by no part of the program: keep the"
            " result of create_task(), or the task may vanish",
        )
        for function, number in count.most_common(MOST)
    ]


def is_known_awaiter(task: Any) -> bool:
    """Whether the future that *task* waits for refers to it (asyncio.future_add_to_awaited_by)."""
    waiter = getattr(task, "_fut_waiter", None)
    return task in (getattr(waiter, "_asyncio_awaited_by", None) or ())


def of_records(summing: Summing, loop: int, names: dict[int, str]) -> list[Finding]:
    """The findings of a recording: long steps, and tasks that spin. *names*: by id of the task."""
    worst: dict[tuple[str, int], tuple[int, int]] = {}
    places = {}
    for step in summing.long_steps.get(loop, []):
        key = (step["file"], step["line"])
        count, longest = worst.get(key, (0, 0))
        worst[key] = (count + 1, max(longest, step["took_ns"]))
        places[key] = step["function"]
    found = [
        finding(
            "long step",
            f"{plural(count, 'step')} of {places[file, line]}() took up to {longest / 1e6:.0f} ms"
            f" without an await that waits ({file}:{line})",
        )
        for (file, line), (count, longest) in sorted(worst.items(), key=lambda each: -each[1][1])
    ]
    spinning = [
        finding(
            "spinning task",
            f"task {names[task]!r} has run {spins} steps in a row that waited for nothing, as"
            " sleep(0) does: wait for an event, or sleep longer",
        )
        for (number, task), spins in summing.spinning.items()
        if number == loop and spins >= SPINS and task in names
    ]
    return found[:MOST] + spinning[:MOST]


def finding(kind: str, text: str) -> Finding:
    return {"kind": kind, "text": text}


def plural(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"
