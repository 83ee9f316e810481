"""Medians and their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A median, and an interval that contains the true median."""

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Width of the interval as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """The median of *values* with its 95 % interval.

    The interval is determined by rank, and so assumes no distribution of the values. With five or
    fewer values, no interval is that certain; the whole range is returned.

    Raises ValueError if there are no values.
    """
    if not values:
        raise ValueError("there is no median of nothing")
    ordered = sorted(values)
    count = len(ordered)
    dropped = 0         # values that the interval leaves out on each side
    outside = 2 / 2**count
    while (outside := outside + 2 * comb(count, dropped + 1) / 2**count) <= 1 - CONFIDENCE:
        dropped += 1
    return Spread(median(ordered), ordered[dropped], ordered[count - 1 - dropped])


def ratios(values: Sequence[float | None], base: Sequence[float | None]) -> list[float]:
    """The ratio of each pair in which both values are known."""
    return [a / b for a, b in zip(values, base) if a is not None and b]
