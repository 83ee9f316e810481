"""Figures as text: the parts that the terminal, Markdown and the HTML page share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mioloop.compare.report.statistics import Spread
from mioloop.compare.report.summary import OUTCOMES, CaseSummary, Line, Standing

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


@dataclass(frozen=True)
class Columns:
    """The columns of a table of results: a column without any figure is left out."""

    base: str
    syscalls: bool
    io_uring: bool          # mioloop is measured without io_uring as well

    @classmethod
    def of(cls, cases: Sequence[CaseSummary], base: str) -> Columns:
        lines = [line for case in cases for line in case.lines]
        return cls(
            base,
            any(line.syscalls is not None for line in lines),
            any(line.io_uring_off_of for line in lines),
        )

    @property
    def headings(self) -> list[str]:
        names = ["", "per second", "p50", "p99", "p99.9", "CPU each"]
        names += ["system calls"] * self.syscalls + [f"against {self.base}"]
        return [*names, *["without io_uring"] * self.io_uring, "by CPU", ""]


def without_io_uring(case: CaseSummary, line: Line) -> str:
    """The ratio to the base that this loop has with io_uring off."""
    other = case.without_io_uring(line.loop)
    if other is None:
        return ""
    if other.failed:
        return "failed"
    return times(other.ratio) or number(other.rate)


def row(case: CaseSummary, line: Line, columns: Columns) -> list[str]:
    if line.failed or line.skipped:
        return [line.loop] + [""] * (len(columns.headings) - 2) + [line.verdict]
    cells = [line.loop]
    if line.bytes is not None:
        cells += [f"{line.bytes:,.0f} B", "", "", "", ""]
    else:
        cells.append(number(line.rate))
        cells += [seconds(line.latencies_s.get(name)) for name in ("p50_s", "p99_s", "p999_s")]
        cells.append(cpu(line))
    if columns.syscalls:
        cells.append("-" if line.syscalls is None else f"{line.syscalls:.2f}")
    cells.append(times(line.ratio))
    if columns.io_uring:
        cells.append(without_io_uring(case, line))
    return [*cells, times(line.cpu_ratio), verdict(line)]


def verdict(line: Line) -> str:
    """The verdict by rate; if that is undecided, by CPU, which depends less on the machine."""
    if line.verdict == "undecided" and line.cpu_verdict in ("less", "more"):
        return f"{line.cpu_verdict} CPU"
    return line.verdict


def title(case: CaseSummary) -> str:
    judged = {
        "rate": "", "": "", "p50_s": ", judged by p50", "bytes": ", judged by bytes",
    }
    return f"{case.name}: {case.text}{judged[case.judged_by]}"


def remarks(cases: Sequence[CaseSummary]) -> list[str]:
    """Failures, then notes, each with its cases."""
    of_remark: dict[str, list[str]] = {}
    failures = []
    for case in cases:
        for line in case.lines:
            if line.failed:
                failures.append(f"FAILED {case.name}, {line.loop}: {line.failed}")
            elif line.skipped:
                of_remark.setdefault(line.skipped, []).append(case.name)
            for note in line.notes:
                amount = f" ({note.amount})" if note.amount else ""
                of_remark.setdefault(note.text, []).append(f"{case.name}, {line.loop}{amount}")
    notes = []
    for text, names in of_remark.items():
        names = list(dict.fromkeys(names))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"{text}: {'; '.join(names[:3])}{more}")
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
        text += f"; {standing.mean_ratio:.2f}x on average"
    if standing.mean_cpu_ratio is not None:
        text += f", {standing.mean_cpu_ratio:.2f}x by CPU"
    return text


@dataclass
class Outcome:
    """A goal and its measured result."""

    text: str
    wanted: str
    measured: str
    verdict: str        # reached, missed, failed or "not measured"
    best: str


def goal_rows(goals: Sequence[Outcome]) -> list[list[str]]:
    return [[each.text, each.wanted, each.measured, each.verdict, each.best] for each in goals]


LEGEND = (
    "A ratio above 1 is better than the base. It is the median over the rounds, pair by pair, with"
    " its 95 % interval (with fewer than 6 rounds: the whole range). Latencies are seen by a client"
    " that sends the next request when the last one is answered."
)
IO_URING_LEGEND = (
    ' The column "without io_uring" is the ratio to the base that the loop has with io_uring off.'
)


def legend(columns: Columns) -> str:
    return LEGEND + IO_URING_LEGEND * columns.io_uring
