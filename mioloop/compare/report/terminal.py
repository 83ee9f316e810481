"""The table on the terminal: by rich if it is installed, else as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from mioloop.compare.report.figures import (
    GOAL_HEADINGS,
    Columns,
    Outcome,
    goal_rows,
    legend,
    remarks,
    row,
    standing_text,
    title,
    verdict,
)
from mioloop.compare.report.headline import headline
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
    columns = Columns.of(cases, base)
    first = headline(cases, base)
    tail = [standing_text(each, base) for each in standing]
    tail += [f"note: {text}" for text in remarks(cases)]
    tail += [f"warning: {text}" for text in warnings]
    if console is None:
        _plain(out, cases, columns)
        if goals:
            print("\nGoals\n", file=out)
            for texts in goal_rows(goals):
                print("  ".join(texts), file=out)
        print("\n".join(["", legend(columns), "", first, "", *tail]), file=out, flush=True)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in enumerate(columns.headings):
        table.add_column(heading, justify="right" if 0 < index else "left", no_wrap=True)
    for case in cases:
        table.add_section()
        table.add_row(Text(case.name, style="bold"))
        for line in case.rows:
            cells_of_row = [Text(text) for text in row(case, line, columns)]
            table.add_row(*cells_of_row, style=STYLES.get(verdict(line)))
    console.print(table)
    if goals:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in GOAL_HEADINGS:
            table.add_column(heading)
        for texts, goal in zip(goal_rows(goals), goals):
            table.add_row(*[Text(text) for text in texts], style=GOAL_STYLES[goal.verdict])
        console.print(table)
    console.print(legend(columns), style="dim", highlight=False)
    console.print(Text(f"\n{first}\n", style="bold"))
    for text in tail:
        bad = text.startswith(("note: FAILED", "warning"))
        console.print(Text(text, style="red" if bad else ""))


def _plain(out: TextIO, cases: Sequence[CaseSummary], columns: Columns) -> None:
    rows: list[list[str]] = [columns.headings]
    for case in cases:
        rows += [row(case, line, columns) for line in case.rows]
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
        for _ in case.rows:
            print(text_of(next(following)), file=out)
