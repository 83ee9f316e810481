"""Sets the rows that decide nothing apart, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.report.figures import verdict
from mioloop.compare.report.summary import MIN_ROUNDS, CaseSummary, Line

DECIDED = "decided"
UNDECIDED = "undecided"
TOO_FEW = "too-few"
NO_RATIO = "no-ratio"
UNJUDGED = "unjudged"
SKIPPED = "skipped"
BASELINES = "baseline"


@dataclass
class Group:
    """Rows of a table or a chart that are shown together."""

    kind: str
    title: str = ""
    reason: str = ""
    cases: list[tuple[CaseSummary, list[Line]]] = field(default_factory=list)


def group(cases: Sequence[CaseSummary], base: str, by_rate: bool = False) -> list[Group]:
    """The rows in groups, the decided ones first. A group without rows is left out.

    With *by_rate*, a row that only the processor time decides is undecided: a chart shows rates.
    In each case of a group, the line of the base stands before the lines that are compared to it.
    A failure is no small matter, so it stays among the decided rows.
    """
    groups = {
        each.kind: each
        for each in (
            Group(DECIDED),
            Group(
                UNDECIDED, "Undecided",
                "The interval holds 1: the loops are equally fast, or the machine was too noisy.",
            ),
            Group(TOO_FEW, "Too few rounds", f"Fewer than {MIN_ROUNDS} rounds decide nothing."),
            Group(
                NO_RATIO, "No ratio", f"{base} has no figure, so there is nothing to compare with."
            ),
            Group(
                UNJUDGED, "Not judged",
                "These figures are for information. No ratio is made of them.",
            ),
            Group(SKIPPED, "Not measured"),
            Group(
                BASELINES, "For scale",
                "A plain C server or client does the work that every loop has to do.",
            ),
        )
    }
    for case in cases:
        rows: dict[str, list[Line]] = {}
        for line in case.rows:
            if line.verdict != "base":
                rows.setdefault(_kind(case, line, by_rate), []).append(line)
        of_base = [line for line in case.rows if line.verdict == "base"]
        if of_base and not set(rows) & {DECIDED, UNDECIDED, TOO_FEW, UNJUDGED}:
            rows[DECIDED] = []
        for kind, lines in rows.items():
            with_base = of_base if kind not in (SKIPPED, BASELINES) else []
            groups[kind].cases.append((case, with_base + lines))
    return [each for each in groups.values() if each.cases]


def _kind(case: CaseSummary, line: Line, by_rate: bool) -> str:
    if line.skipped:
        return SKIPPED
    if line.failed:
        return DECIDED
    if line.loop == BASELINE:
        return BASELINES
    if not line.verdict:
        return NO_RATIO if case.judged_by else UNJUDGED
    if (line.verdict if by_rate else verdict(line)) != "undecided":
        return DECIDED
    return TOO_FEW if line.rounds < MIN_ROUNDS else UNDECIDED
