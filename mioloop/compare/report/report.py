"""The table on the terminal: with rich if it is installed, else in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mioloop.compare.report.spread import Spread
from mioloop.compare.report.summary import OUTCOMES, CellSummary, Line, Standing

if TYPE_CHECKING:
    from mioloop.compare.report.goals import Outcome

STYLES = {
    "faster": "green", "slower": "red", "less CPU": "green", "more CPU": "red",
    "failed": "bold red", "undecided": "yellow",
    "floor": "dim", "skipped": "dim",
}
GOAL_STYLES = {"reached": "green", "missed": "red", "failed": "bold red", "not measured": "dim"}
GOAL_HEADINGS = ("workload", "goal", "measured", "", "best other loop")


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"


def cpu(line: Line) -> str:
    if line.cpu_s is None or line.user_s is None or line.system_s is None:
        return seconds(line.cpu_s)
    share = line.user_s / (line.user_s + line.system_s) if line.cpu_s else 0
    return f"{seconds(line.cpu_s)} ({share:.0%} user)"


def headings(base: str, syscalls: bool) -> list[str]:
    found = ["", "per second", "p50", "p99", "p99.9", "CPU each"]
    if syscalls:
        found.append("system calls")
    return [*found, f"against {base}", "by CPU", ""]


def row(line: Line, base: str, syscalls: bool) -> list[str]:
    if line.failed or line.skipped:
        return [line.loop] + [""] * (7 + syscalls) + [line.verdict]
    found = [line.loop]
    if line.bytes is not None:
        found += [f"{line.bytes:,.0f} B", "", "", "", ""]
    else:
        found.append(number(line.rate))
        found += [seconds(line.latencies_s.get(name)) for name in ("p50_s", "p99_s", "p999_s")]
        found.append(cpu(line))
    if syscalls:
        found.append("-" if line.syscalls is None else f"{line.syscalls:.2f}")
    return [*found, times(line.ratio), times(line.cpu_ratio), verdict(line)]


def verdict(line: Line) -> str:
    """The CPU speaks where the rate, which depends on what else the machine does, cannot."""
    if line.verdict == "undecided" and line.cpu_verdict in ("less", "more"):
        return f"{line.cpu_verdict} CPU"
    return line.verdict


def title(cell: CellSummary) -> str:
    judged = {
        "rate": "", "": "", "p50_s": ", judged by p50", "bytes": ", judged by bytes",
    }
    return f"{cell.name}: {cell.text}{judged[cell.judged_by]}"


def remarks(cells: Sequence[CellSummary]) -> list[str]:
    """Failures, then notes, each with the cells they are of."""
    found: dict[str, list[str]] = {}
    failures = []
    for cell in cells:
        for line in cell.lines:
            if line.failed:
                failures.append(f"FAILED {cell.name}, {line.loop}: {line.failed}")
            elif line.skipped:
                found.setdefault(line.skipped, []).append(cell.name)
            for note in line.notes:
                amount = f" ({note.amount})" if note.amount else ""
                found.setdefault(note.text, []).append(f"{cell.name}, {line.loop}{amount}")
    notes = []
    for text, where in found.items():
        where = list(dict.fromkeys(where))
        more = f" and {len(where) - 3} more" if len(where) > 3 else ""
        notes.append(f"{text}: {'; '.join(where[:3])}{more}")
    return failures + notes


def standing_text(standing: Standing, base: str) -> str:
    parts = [
        f"{count} {name}"
        for name in OUTCOMES
        if (count := getattr(standing, name))
    ]
    text = f"{standing.loop} against {base}: {', '.join(parts) or 'no figures'}"
    if standing.less_cpu or standing.more_cpu:
        text += f"; less CPU in {standing.less_cpu}, more in {standing.more_cpu}"
    if standing.mean_ratio is not None:
        text += f"; {standing.mean_ratio:.2f}x on the whole"
    if standing.mean_cpu_ratio is not None:
        text += f", {standing.mean_cpu_ratio:.2f}x by CPU"
    return text


def goal_rows(goals: Sequence[Outcome]) -> list[list[str]]:
    return [[each.text, each.wanted, each.measured, each.verdict, each.best] for each in goals]


LEGEND = (
    "A ratio above 1 is better than the base: its median over the rounds, pair by pair, and the"
    " interval that holds it at 95 % (of fewer than 6 rounds: all of them). Latencies are of a"
    " client that sends the next request when the last is answered."
)


def show(
    console: Any,
    out: TextIO,
    cells: Sequence[CellSummary],
    standing: Sequence[Standing],
    warnings: Sequence[str],
    base: str,
    goals: Sequence[Outcome] = (),
) -> None:
    """Print it all. `console` is of rich, or None."""
    syscalls = any(line.syscalls is not None for cell in cells for line in cell.lines)
    tail = [standing_text(each, base) for each in standing]
    tail += [f"note: {text}" for text in remarks(cells)]
    tail += [f"warning: {text}" for text in warnings]
    if console is None:
        _plain(out, cells, base, syscalls)
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
    for cell in cells:
        table.add_section()
        table.add_row(Text(cell.name, style="bold"))
        for line in cell.lines:
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


def _plain(out: TextIO, cells: Sequence[CellSummary], base: str, syscalls: bool) -> None:
    rows: list[list[str]] = [headings(base, syscalls)]
    for cell in cells:
        rows += [row(line, base, syscalls) for line in cell.lines]
    widths = [max(len(each[i]) for each in rows) for i in range(len(rows[0]))]

    def text_of(cells_of_row: list[str]) -> str:
        first, *rest = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(cells_of_row, widths))
        )
        return "  ".join([first, *rest]).rstrip()

    print(text_of(rows[0]), file=out)
    following = iter(rows[1:])
    for cell in cells:
        print(f"\n{title(cell)}", file=out)
        for _ in cell.lines:
            print(text_of(next(following)), file=out)
