"""The table on the terminal: by rich if it is installed, else as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from mioloop.compare.report.figures import (
    GOAL_HEADINGS,
    LEGEND,
    Outcome,
    goal_rows,
    headings,
    remarks,
    row,
    standing_text,
    title,
    verdict,
)
from mioloop.compare.report.summary import CaseSummary, Standing

STYLES = {
    "faster": "green", "slower": "red", "less CPU": "green", "more CPU": "red",
    "failed": "bold red", "undecided": "yellow",
    "baseline": "dim", "skipped": "dim",
}
GOAL_STYLES = {"reached": "green", "missed": "red", "failed": "bold red", "not measured": "dim"}
def show(
    console: Any,
    out: TextIO,
    cases: Sequence[CaseSummary],
    standing: Sequence[Standing],
    warnings: Sequence[str],
    base: str,
    goals: Sequence[Outcome] = (),
) -> None:
    """Print all results. `console` is a Console of rich, or None for plain text."""
    syscalls = any(line.syscalls is not None for case in cases for line in case.lines)
    tail = [standing_text(each, base) for each in standing]
    tail += [f"note: {text}" for text in remarks(cases)]
    tail += [f"warning: {text}" for text in warnings]
    if console is None:
        _plain(out, cases, base, syscalls)
        if goals:
            print("\nGoals\n", file=out)
            for texts in goal_rows(goals):
                print("  ".join(texts), file=out)
        print("\n".join(["", LEGEND, "", *tail]), file=out, flush=True)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings(base, syscalls)):
        table.add_column(heading, justify="right" if 0 < index else "left", no_wrap=True)
    for case in cases:
        table.add_section()
        table.add_row(Text(case.name, style="bold"))
        for line in case.lines:
            cells_of_row = [Text(text) for text in row(line, base, syscalls)]
            table.add_row(*cells_of_row, style=STYLES.get(verdict(line)))
    console.print(table)
    if goals:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in GOAL_HEADINGS:
            table.add_column(heading)
        for texts, goal in zip(goal_rows(goals), goals):
            table.add_row(*[Text(text) for text in texts], style=GOAL_STYLES[goal.verdict])
        console.print(table)
    console.print(LEGEND, style="dim", highlight=False)
    for text in tail:
        bad = text.startswith(("note: FAILED", "warning"))
        console.print(Text(text, style="red" if bad else ""))


def _plain(out: TextIO, cases: Sequence[CaseSummary], base: str, syscalls: bool) -> None:
    rows: list[list[str]] = [headings(base, syscalls)]
    for case in cases:
        rows += [row(line, base, syscalls) for line in case.lines]
    widths = [max(len(each[i]) for each in rows) for i in range(len(rows[0]))]

    def text_of(cells_of_row: list[str]) -> str:
        first, *rest = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(cells_of_row, widths))
        )
        return "  ".join([first, *rest]).rstrip()

    print(text_of(rows[0]), file=out)
    following = iter(rows[1:])
    for case in cases:
        print(f"\n{title(case)}", file=out)
        for _ in case.lines:
            print(text_of(next(following)), file=out)
