"""The answers to the requests of `mioloop.console`. The thread of the console calls them."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mioloop.arguments import unknown
from mioloop.console import findings, tasks
from mioloop.console.recorder import (
    LOOK_S,
    Record,
    Recorder,
    Subscriber,
    Summing,
    Tracing,
    place_of,
)

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

Answer = dict[str, Any]
Memory = dict[str, Any]
S = TypeVar("S", bound=Subscriber)

MOST_SHOWN = 50         # functions, and transports, of each loop
# Of one answer: making its JSON holds the GIL, for about 10 ms.
MOST_RECORDS = 5000
MOST_TASKS = 2000


class Answers:
    """Answers requests about the loops that *loops()* returns by number."""

    def __init__(self, loops: Callable[[], dict[int, EventLoop]]) -> None:
        self._loops = loops
        self._recorder = Recorder(loops)
        self._notebooks: dict[int, findings.Notebook] = {}
        self._noted_at = 0.0
        self._asks: dict[str, Callable[[Answer, Memory], Answer]] = {
            "loops": self._ask_loops,
            "tasks": self._ask_tasks,
            "stack": self._ask_stack,
            "top": self._ask_top,
            "records": self._ask_records,
        }

    def answer(self, request: dict[str, Any], memory: Memory) -> Answer:
        ask = request.get("ask")
        method = self._asks.get(ask) if isinstance(ask, str) else None
        if method is None:
            return {"error": unknown("request", str(ask), list(self._asks))}
        return method(request, memory)

    def client_left(self, memory: Memory) -> None:
        for each in memory.values():
            if isinstance(each, Subscriber):
                self._recorder.unsubscribe(each)
        memory.clear()

    def pause_s(self) -> float | None:
        """The time until look() is due; None: never."""
        return LOOK_S if self._recorder.is_on else findings.LOOK_S

    def look(self) -> None:
        """Called after each pause, and after requests."""
        self._recorder.look()
        if time.monotonic() - self._noted_at >= findings.LOOK_S:
            self._note()

    def _note(self) -> None:
        """Remember the facts that findings need later."""
        self._noted_at = time.monotonic()
        loops = self._loops()
        self._notebooks = {
            number: self._notebooks.get(number) or findings.Notebook() for number in loops
        }
        for number, loop in loops.items():
            self._notebooks[number].look(loop)

    def _findings(
        self, number: int, loop: EventLoop, summing: Summing | None
    ) -> list[findings.Finding]:
        self._note()
        found = self._notebooks[number].findings(loop) if number in self._notebooks else []
        if summing is None:
            return found
        return findings.of_records(summing, number, tasks.names_by_id(loop)) + found

    def _ask_loops(self, request: Answer, memory: Memory) -> Answer:
        return {
            "program": program(),
            "python": platform.python_version(),
            "now_ns": time.monotonic_ns(),
            "loops": [figures_of(number, loop) for number, loop in self._loops().items()],
        }

    def _ask_tasks(self, request: Answer, memory: Memory) -> Answer:
        found = [
            head_of(number, loop) | {
                "tasks": tasks.describe_tasks(loop, MOST_TASKS),
                "count": len(asyncio.all_tasks(loop)),
                "findings": self._findings(number, loop, None),
            }
            for number, loop in self._loops().items()
        ]
        return {"program": program(), "loops": found}

    def _ask_stack(self, request: Answer, memory: Memory) -> Answer:
        found = []
        for number, loop in self._loops().items():
            task = tasks.current_task(loop)
            found.append(
                head_of(number, loop) | {
                    "task": None if task is None else task.get_name(),
                    "waits": is_waiting(loop),
                    "stack": tasks.stack_of(loop),
                }
            )
            del task
        return {"program": program(), "loops": found}

    # -- answers from records ----------------------------------------------------------

    def _subscriber(self, kind: type[S], memory: Memory) -> S:
        """The subscription of this client: the first request of a connection begins it."""
        subscriber = memory.get(kind.__name__)
        if not isinstance(subscriber, kind):
            subscriber = memory[kind.__name__] = kind()
        subscriber.asked_at = time.monotonic()
        if subscriber not in self._recorder:
            self._recorder.subscribe(subscriber)
        self._recorder.look()
        return subscriber

    def _ask_top(self, request: Answer, memory: Memory) -> Answer:
        summing = self._subscriber(Summing, memory)
        found = []
        for number, loop in self._loops().items():
            under_way = loop._under_way()
            found.append(
                figures_of(number, loop) | {
                    "functions": summing.functions_of(number)[:MOST_SHOWN],
                    "long_steps": summing.long_steps.get(number, []),
                    "under_way": None if under_way is None else describe_under_way(*under_way),
                    "stack": tasks.stack_of(loop),
                    "transports": transports_of(loop)[:MOST_SHOWN],
                    "findings": self._findings(number, loop, summing),
                }
            )
        lost, summing.lost = summing.lost, 0
        return {
            "program": program(), "now_ns": time.monotonic_ns(), "loops": found, "lost": lost,
        }

    def _ask_records(self, request: Answer, memory: Memory) -> Answer:
        tracing = self._subscriber(Tracing, memory)
        taken, tracing.records = tracing.records[:MOST_RECORDS], tracing.records[MOST_RECORDS:]
        lost, tracing.lost = tracing.lost, 0
        return {
            "program": program(),
            "now_ns": time.monotonic_ns(),
            "loops": [head_of(number, loop) for number, loop in self._loops().items()],
            "fields": ["loop", *Record._fields],
            "records": [
                [number, *record[:-2], place_of(record.name), record.detail]
                for number, record in taken
            ],
            "lost": lost,
            "more": bool(tracing.records),
        }


def describe_under_way(began_ns: int, name: Any, detail: str | None) -> dict[str, Any]:
    function, file, line = place_of(name)
    return {
        "function": function, "file": file, "line": line, "detail": detail,
        "since_ns": time.monotonic_ns() - began_ns,
    }


def transports_of(loop: EventLoop) -> list[dict[str, Any]]:
    """The transports of *loop*, the one with the most bytes that wait to be sent first."""
    found = [
        {
            "class": name, "fd": fd, "protocol": protocol,
            "peer": None if peer is None else str(peer),
            "paused": paused, "buffered_bytes": buffered,
        }
        for name, fd, protocol, peer, paused, buffered in loop._list_transports()
    ]
    return sorted(found, key=lambda each: (-each["buffered_bytes"], not each["paused"]))


def program() -> str:
    """The command line without the interpreter, as ps(1) would show it."""
    arguments = sys.orig_argv[1:]
    return " ".join(arguments) or os.path.basename(sys.executable)


def head_of(number: int, loop: EventLoop) -> dict[str, Any]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        "loop": number,
        "class": type(loop).__name__,
        "running": loop.is_running(),
        "thread": names.get(loop._thread_id, None),
    }


def is_waiting(loop: EventLoop) -> bool:
    """Whether the loop waits in a poll: the idle time grows while it does."""
    before = loop.utilization()
    return loop.is_running() and loop.utilization(before).idle > 0


def figures_of(number: int, loop: EventLoop) -> dict[str, Any]:
    latency = loop.latency()
    return head_of(number, loop) | {
        "stats": loop.stats(),
        "turns": latency.turns.buckets(),
        "timers": latency.timers.buckets(),
        "tasks": len(asyncio.all_tasks(loop)),
    }
