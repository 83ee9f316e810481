"""The figures of a group's workers, and the table in which they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

UNITS = ("B", "kB", "MB", "GB", "TB")


class Figures(NamedTuple):
    """The figures of one worker, added up if it was started again.

    Attributes:
        accepted: connections.
        bytes_in: received by transports.
        bytes_out: sent by transports.
        idle: seconds that the loop waited for events.
        active: seconds that it worked.
    """

    accepted: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    idle: float = 0.0
    active: float = 0.0

    @classmethod
    def of(cls, loop: Any, fetched: int = 0) -> Figures:
        """The figures of *loop*, which knows nothing of the *fetched* connections."""
        stats = loop.stats()
        return cls(
            stats["accepted"] + fetched, stats["bytes_in"], stats["bytes_out"],
            stats["idle_ns"] / 1e9, stats["active_ns"] / 1e9,
        )

    @property
    def utilization(self) -> float:
        """The part of its time in which the loop worked, from 0 to 1."""
        both = self.idle + self.active
        return self.active / both if both > 0 else 0.0

    def plus(self, other: Figures) -> Figures:
        return Figures(
            self.accepted + other.accepted, self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out, self.idle + other.idle, self.active + other.active,
        )


def unevenness(figures: Sequence[Figures]) -> float | None:
    """Connections of the worker with the most, as a ratio to the worker with the fewest.

    None if there was no connection; infinite if a worker had none.
    """
    counts = [each.accepted for each in figures]
    if not any(counts):
        return None
    return max(counts) / min(counts) if min(counts) else float("inf")


def table(figures: Sequence[Figures]) -> str:
    """The lines that are printed when a group stops."""
    lines = [f"{'worker':>8} {'accepted':>10} {'received':>10} {'sent':>10} {'busy':>6}"]
    for index, each in enumerate(figures):
        lines.append(
            f"{index:>8} {each.accepted:>10} {size(each.bytes_in):>10}"
            f" {size(each.bytes_out):>10} {each.utilization:>6.1%}"
        )
    ratio = unevenness(figures)
    if ratio is not None and len(figures) > 1:
        shown = f"{ratio:.2f}" if ratio < float("inf") else "infinite (a worker had none)"
        lines.append(f"accepted, most to least: {shown}")
    return "\n".join(lines)


def size(count: int) -> str:
    amount, unit = float(count), UNITS[0]
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
