"""Medians, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A median, and an interval that the true median lies in."""

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the interval, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """The median of *values* with its 95 % interval, by rank: nothing is assumed about how the
    values are distributed. Five or fewer cannot be that sure: then it is all of them.

    Raises ValueError if there are none.
    """
    if not values:
        raise ValueError("there is no median of nothing")
    ordered = sorted(values)
    count = len(ordered)
    dropped = 0         # on each side
    outside = 2 / 2**count
    while (outside := outside + 2 * comb(count, dropped + 1) / 2**count) <= 1 - CONFIDENCE:
        dropped += 1
    return Spread(median(ordered), ordered[dropped], ordered[count - 1 - dropped])


def ratios(ours: Sequence[float | None], base: Sequence[float | None]) -> list[float]:
    """Ours by the base's, pair by pair, where both have a figure."""
    return [a / b for a, b in zip(ours, base) if a is not None and b]
