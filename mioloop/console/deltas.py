"""Differences between two answers: of counts, times and histograms."""

from __future__ import annotations

import math
from typing import Any

Buckets = list[list[float]]             # [limit in seconds, count]

SIZES = (                               # of a moment, not totals
    "ready", "most_ready", "timers", "sources", "streams", "datagrams", "pipes", "listeners",
    "paused", "buffered_bytes",
)


def since(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """The figures of one loop between two answers; since its beginning without *before*."""
    if before is None:
        return {name: now[name] for name in ("stats", "turns", "timers")}
    old = before["stats"]
    stats = {
        name: value if name in SIZES else value - old.get(name, 0)
        for name, value in now["stats"].items()
    }
    return {
        "stats": stats,
        "turns": difference(before["turns"], now["turns"]),
        "timers": difference(before["timers"], now["timers"]),
    }


def difference(before: Buckets, now: Buckets) -> Buckets:
    """Also if the program has called reset() between: then all that is there is new."""
    old = dict(_pairs(before))
    new = dict(_pairs(now))
    if any(new.get(limit, 0) < count for limit, count in old.items()):
        return now
    return [[limit, count - old.get(limit, 0)] for limit, count in now if count > old.get(limit, 0)]


def _pairs(buckets: Buckets) -> list[tuple[float, float]]:
    return [(limit, count) for limit, count in buckets]


def percentile(buckets: Buckets, percent: float) -> float:
    """The limit of the bucket that *percent* of the durations do not exceed; 0.0 without any."""
    rank = max(1, math.ceil(percent / 100 * sum(count for _, count in buckets)))
    seen = 0.0
    for limit, count in buckets:
        seen += count
        if seen >= rank:
            return limit
    return 0.0


def utilization(change: dict[str, Any]) -> float:
    """The active part of the time that the loop ran, from 0 to 1."""
    idle, active = change["stats"]["idle_ns"], change["stats"]["active_ns"]
    return float(active / (idle + active)) if idle + active > 0 else 0.0
