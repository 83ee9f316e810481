"""A progress bar with the estimated remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from mioloop.compare.measure.runner import expected_s, turns_of
from mioloop.compare.measure.samplers import Options
from mioloop.compare.measure.workloads import Case


class Progress:
    """A bar on standard error.

    It is drawn between samples only, because drawing takes processor time. Without rich or
    without a terminal, nothing is drawn.
    """

    def __init__(self, console: Any, cases: Iterable[tuple[Case, int]], options: Options) -> None:
        """*cases*: pairs of a case and its number of samplers."""
        self._bar: Any = None
        self._task: Any = None
        self._total_s = sum(
            samplers * expected_s(case, options, seconds)
            for case, samplers in cases
            for seconds in turns_of(case, options)
        )
        if console is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"),
            TimeRemainingColumn(), TextColumn("to go"),
            console=Console(stderr=True), auto_refresh=False, transient=True,
            speed_estimate_period=120,
        )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total_s)
        return self

    def step(self, text: str, seconds: float) -> None:
        """Begin a step that is expected to take *seconds* seconds."""
        if self._bar is not None:
            self._bar.update(self._task, advance=seconds, description=text, refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
