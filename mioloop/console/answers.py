"""The answers to the requests of `mioloop.console`. The thread of the console calls them."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop.arguments import unknown
from mioloop.console import tasks

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

Answer = dict[str, Any]
Memory = dict[str, Any]


class Answers:
    """Answers requests about the loops that *loops()* returns by number."""

    def __init__(self, loops: Callable[[], dict[int, EventLoop]]) -> None:
        self._loops = loops
        self._asks: dict[str, Callable[[Answer, Memory], Answer]] = {
            "loops": self._ask_loops,
            "tasks": self._ask_tasks,
            "stack": self._ask_stack,
        }

    def answer(self, request: dict[str, Any], memory: Memory) -> Answer:
        ask = request.get("ask")
        method = self._asks.get(ask) if isinstance(ask, str) else None
        if method is None:
            return {"error": unknown("request", str(ask), list(self._asks))}
        return method(request, memory)

    def client_left(self, memory: Memory) -> None:
        memory.clear()

    def pause_s(self) -> float | None:
        """The time until look() is due; None: never."""
        return None

    def look(self) -> None:
        """Called after each pause, and after requests."""

    def _ask_loops(self, request: Answer, memory: Memory) -> Answer:
        return {
            "program": program(),
            "python": platform.python_version(),
            "now_ns": time.monotonic_ns(),
            "loops": [figures_of(number, loop) for number, loop in self._loops().items()],
        }

    def _ask_tasks(self, request: Answer, memory: Memory) -> Answer:
        found = [
            head_of(number, loop) | {"tasks": tasks.describe_tasks(loop)}
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
