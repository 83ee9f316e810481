"""The parts that every program of this directory has: a choice of selector, and a time limit."""

from __future__ import annotations

import argparse
import time

from mioloop import mio


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--selector``, described by the program's own docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--selector",
        choices=mio.selectors(),
        default=mio.selectors()[0],
        help="the system call that waits (default: %(default)s)",
    )
    return parser


class TimeLimit:
    """A total for all the waits of a program.

    A poll may end early with no event at all, so one poll's timeout bounds nothing. The timeout
    of each poll is the rest of the limit; if no time is left, `left` raises.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s

    def left(self) -> float:
        """Seconds left.

        Raises:
            TimeoutError: there are none.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"not finished after {self._limit_s} s")
        return left_s
