"""The data of `top`: how each loop of a process went between two answers, and before."""

from __future__ import annotations

from collections import deque
from typing import Any

from mioloop.console.client import Answer
from mioloop.console.deltas import percentile, since, utilization

HISTORY = 60            # points of a sparkline
BARS = " ▁▂▃▄▅▆▇█"

# The key, the title of its column, and the figure that it sorts by.
ORDERS = {
    "t": ("time", lambda each: each["total_ns"]),
    "n": ("steps", lambda each: each["count"]),
    "l": ("longest", lambda each: each["longest_ns"]),
    "r": ("ready to run", lambda each: each["late_ns"] / each["count"]),
}


class Watch:
    """One process, as `top` has seen it. `add` each answer to "top"."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._before_ns = 0
        self.histories: dict[int, dict[str, deque[float]]] = {}

    def add(self, answer: Answer) -> dict[str, Any]:
        """Return the figures between the answer before and this one, for scripts and the screen."""
        seconds = (answer["now_ns"] - self._before_ns) / 1e9 if self._before_ns else 0.0
        loops = [self._figures(loop, seconds) for loop in answer["loops"]]
        self._before = {loop["loop"]: loop for loop in answer["loops"]}
        self._before_ns = answer["now_ns"]
        return {
            "pid": answer["pid"], "program": answer["program"], "seconds": seconds,
            "lost_records": answer["lost"], "loops": loops,
        }

    def _figures(self, loop: dict[str, Any], seconds: float) -> dict[str, Any]:
        before = self._before.get(loop["loop"])
        change = since(before, loop)
        stats = change["stats"]
        blocked = (
            before is not None and loop["running"] and stats["active_ns"] > 0
            and stats["turns"] == stats["callbacks"] == stats["events"] == 0
        )
        figures = {
            "loop": loop["loop"], "thread": loop["thread"], "running": loop["running"],
            "utilization": utilization(change),
            "late_p50_s": percentile(change["turns"], 50),
            "late_p99_s": percentile(change["turns"], 99),
            "timers_late_p99_s": percentile(change["timers"], 99),
            "blocked": blocked, "tasks": loop["tasks"],
        }
        history = self.histories.setdefault(
            loop["loop"], {name: deque(maxlen=HISTORY) for name in figures if name in KEPT}
        )
        for name, points in history.items():
            points.append(figures[name])
        return figures | {
            "stats": stats,
            "per_second": {
                name: stats[name] / seconds if seconds else 0.0
                for name in ("turns", "callbacks", "events", "bytes_in", "bytes_out", "accepted")
            },
            "functions": loop["functions"], "long_steps": loop["long_steps"],
            "transports": loop["transports"], "under_way": loop["under_way"],
            "stack": loop["stack"], "findings": loop["findings"],
        }


KEPT = ("utilization", "late_p50_s", "late_p99_s")


def sparkline(values: deque[float] | list[float], most: float) -> str:
    """A bar for each value, of *most* at full height. A value above zero has a visible bar."""
    last = len(BARS) - 1
    return "".join(
        BARS[0 if value <= 0 or most <= 0 else max(1, min(last, round(value / most * last)))]
        for value in values
    )
