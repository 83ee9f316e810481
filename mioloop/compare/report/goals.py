"""Goals: the results that one loop should reach against a base, read from a file.

The file is in INI format. A section ``[goals]`` names the two loops, and every other section is
one goal, with its title as the name of the section::

    [goals]
    loop = mioloop
    base = uvloop

    [TLS echo]
    workload = tls
    size = 1024
    connections = 64
    ratio = 3.0

The keys of a goal are the fields of `Goal`.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from mioloop.arguments import unknown
from mioloop.compare.measure.workloads import BY_NAME, KIB
from mioloop.compare.report.figures import Outcome, seconds, times
from mioloop.compare.report.statistics import Spread
from mioloop.compare.report.summary import CaseSummary, Line

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Goal:
    """One goal, for one case. It is reached if every limit that it sets is kept."""

    text: str
    workload: str
    size: int = 0
    connections: int = 0
    ratio: float | None = None              # to the base; the narrower of rate and CPU decides
    over_baseline: float | None = None      # CPU above that of the C baseline, at most, as a share
    kib: float | None = None                # memory of one connection, at most
    late_us: float | None = None            # a timer is later than this never, and never early
    best: str = ""                          # the best result of another loop, as text

    def wanted(self, base: str) -> str:
        parts = []
        if self.ratio is not None:
            if self.ratio == 1 and BY_NAME[self.workload].judged_by == "bytes":
                parts.append(f"at most {base}'s")
            else:
                parts.append(f"{self.ratio:.2f}x")
        if self.over_baseline is not None:
            parts.append(f"CPU within {self.over_baseline:.0%} of the C baseline")
        if self.kib is not None:
            parts.append(f"at most {self.kib:g} KiB")
        if self.late_us is not None:
            parts.append(f"never early, less than {self.late_us:g} us late")
        return ", ".join(parts)


@dataclass(frozen=True)
class Goals:
    loop: str
    base: str
    goals: Sequence[Goal]


_KINDS: dict[str, Any] = {"workload": str, "size": int, "connections": int, "best": str}


def read(path: Path) -> Goals:
    """Read the goals from a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the contents are wrong; the message names the section and the key.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        loop, base = parser["goals"]["loop"], parser["goals"]["base"]
    except (configparser.Error, KeyError) as exc:
        raise ValueError(f"{path}: {exc}") from None
    rows = [
        _goal(f"{path}: [{name}]", name, parser[name])
        for name in parser.sections()
        if name != "goals"
    ]
    return Goals(loop, base, rows)


def _goal(place: str, text: str, section: configparser.SectionProxy) -> Goal:
    known = [each.name for each in fields(Goal) if each.name != "text"]
    values: dict[str, Any] = {}
    for key, value in section.items():
        if key not in known:
            raise ValueError(f"{place} {unknown('key', key, known)}")
        try:
            values[key] = _KINDS.get(key, float)(value)
        except ValueError:
            raise ValueError(f"{place} {key} = {value} is not a number") from None
    for each in fields(Goal):
        if each.name not in ("text", *values) and each.default is MISSING:
            raise ValueError(f"{place} has no {each.name}")
    if not {"ratio", "over_baseline", "kib", "late_us"} & set(values):
        raise ValueError(f"{place} sets no limit")
    if values["workload"] not in BY_NAME:
        raise ValueError(f"{place} {unknown('workload', values['workload'], list(BY_NAME))}")
    return Goal(text, **values)


def _narrowest_ratio(line: Line) -> Spread | None:
    measured = [ratio for ratio in (line.ratio, line.cpu_ratio) if ratio is not None]
    return min(measured, key=lambda ratio: ratio.width, default=None)


def _judge(goal: Goal, line: Line, base: str) -> tuple[str, bool]:
    """The measured result in words, and whether it reaches the goal."""
    parts, reached = [], []
    if goal.ratio is not None:
        narrowest = _narrowest_ratio(line)
        if narrowest is None:
            return f"no ratio: {base} has no figure", False
        reached.append(narrowest.median >= goal.ratio)
        if line.bytes is not None:
            parts.append(f"{line.bytes / KIB:.1f} KiB, {times(line.ratio)}")
        else:
            parts.append(f"{times(line.ratio)} by rate, {times(line.cpu_ratio) or '-'} by CPU")
    if goal.over_baseline is not None:
        if line.over_baseline is None:
            parts.append("no C baseline")
            reached.append(False)
        else:
            parts.append(f"CPU {line.over_baseline.median - 1:+.0%} against the C baseline")
            reached.append(line.over_baseline.median <= 1 + goal.over_baseline)
    if goal.kib is not None and line.bytes is not None:
        parts.append(f"{line.bytes / KIB:.1f} KiB")
        reached.append(line.bytes <= goal.kib * KIB)
    if goal.late_us is not None:
        late_s = line.latencies_s["p50_s"]
        parts.append(f"{line.early or 0:.0%} early, {seconds(late_s)} late (p50)")
        reached.append(not line.early and late_s < goal.late_us * 1e-6)
    return "; ".join(parts), all(reached)


def compare(table: Goals, cases: Iterable[CaseSummary]) -> list[Outcome]:
    """Every goal of the table beside the result, where the base is the one of the table."""
    lines = {
        (case.workload, case.size, case.connections): {line.loop: line for line in case.lines}
        for case in cases
    }
    outcomes = []
    for goal in table.goals:
        line = lines.get((goal.workload, goal.size, goal.connections), {}).get(table.loop)
        if line is None or line.skipped or not (line.rounds or line.failed):
            measured, verdict = "", NOT_MEASURED
        elif line.failed:
            measured, verdict = line.failed, "failed"
        else:
            measured, reached = _judge(goal, line, table.base)
            verdict = "reached" if reached else "missed"
        outcomes.append(Outcome(goal.text, goal.wanted(table.base), measured, verdict, goal.best))
    return outcomes
