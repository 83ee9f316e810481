"""The results of EventLoop.utilization(), latency() and durations()."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mioloop.reactor.histogram import Histogram


class Utilization(NamedTuple):
    """Seconds that a loop was idle and active; `utilization` is the active part, from 0 to 1."""

    idle: float
    active: float
    utilization: float

    @classmethod
    def of(cls, idle: float, active: float) -> Utilization:
        both = idle + active
        return cls(idle, active, active / both if both > 0 else 0.0)


class Latency(NamedTuple):
    """How late a loop was, see `EventLoop.latency`."""

    turns: Histogram
    timers: Histogram


class Durations(NamedTuple):
    """How long the callbacks and events of a loop took, see `EventLoop.durations`."""

    callbacks: Histogram
    events: Histogram
