"""Computes figures from samples: medians, ratios to the base pair by pair, and verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import exp, log
from statistics import median
from typing import Any

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.runner import CaseResult, Result
from mioloop.compare.measure.samplers import Sample
from mioloop.compare.report.statistics import Spread, ratios, spread

LATENCIES = ("p50_s", "p99_s", "p999_s", "max_s")
DISTURBANCES = ("waited", "client_waited", "stolen")
OUTCOMES = ("faster", "even", "slower", "undecided", "failed")
BUSY_SHARE = 0.95       # of a processor: a process that uses this much is at its limit
MIN_ROUNDS = 6          # least number with which the interval of a ratio reaches 95 %
MIN_CPU_S_TO_DIVIDE = 0.2   # least processor time that ticks of 10 ms can divide by mode
DISTURBED_SHARE = 0.05  # share of a round in which another process had the processor


@dataclass(frozen=True)
class Note:
    """A remark about a figure. Notes with equal text are shown together with their amounts."""

    text: str
    amount: str = ""


@dataclass
class Line:
    """One loop in one case. A ratio above 1 is better than the base."""

    loop: str
    rounds: int = 0
    rate: float | None = None
    latencies_s: dict[str, float] = field(default_factory=dict)
    cpu_s: float | None = None              # per request; the sum of user_s and system_s
    user_s: float | None = None
    system_s: float | None = None
    bytes: float | None = None              # per connection
    syscalls: float | None = None           # per request
    ratio: Spread | None = None             # of the field that the workload is judged by
    cpu_ratio: Spread | None = None
    over_baseline: Spread | None = None     # ratio of the CPU per request to the C baseline
    early: float | None = None              # share of timers that fired early
    verdict: str = ""           # faster, slower, even, undecided, base, baseline, failed, skipped
    cpu_verdict: str = ""                   # less, more, even, undecided
    failed: str = ""
    skipped: str = ""
    io_uring_off_of: str = ""   # the loop that this one is, with io_uring off; shown as its column
    notes: list[Note] = field(default_factory=list)


@dataclass
class CaseSummary:
    name: str
    workload: str
    text: str
    size: int
    connections: int
    timers: int
    family: str
    unit: str
    judged_by: str
    lines: list[Line]

    @property
    def rows(self) -> list[Line]:
        """The lines of the compared loops, without the loops that are shown as a column."""
        return [line for line in self.lines if not line.io_uring_off_of]

    def without_io_uring(self, loop: str) -> Line | None:
        return next((line for line in self.lines if line.io_uring_off_of == loop), None)


def _values(samples: Sequence[Sample], name: str) -> list[float | None]:
    return [sample.get(name) for sample in samples]


def _median(samples: Sequence[Sample], name: str) -> float | None:
    present = [value for value in _values(samples, name) if value is not None]
    return median(present) if present else None


def _user_share(samples: Sequence[Sample]) -> float | None:
    """Share of user time in all rounds; None if ticks are too coarse for so little time."""
    split = [
        (sample["user_s"] * sample["requests"], sample["system_s"] * sample["requests"])
        for sample in samples
        if sample.get("user_s") is not None and sample.get("system_s") is not None
    ]
    user_s, both_s = sum(user for user, _ in split), sum(map(sum, split))
    return user_s / both_s if both_s >= MIN_CPU_S_TO_DIVIDE else None


def _ratio(result: Result, base: Result, name: str) -> Spread | None:
    """The ratio to the base, round by round. A figure that is better if smaller is inverted."""
    a, b = _values(result.samples, name), _values(base.samples, name)
    quotients = ratios(a, b) if name == "rate" else ratios(b, a)
    return spread(quotients) if quotients else None


def _find(results: Sequence[Result], loop: str) -> Result | None:
    """The result of a loop; None if the loop failed or did not run."""
    return next((each for each in results if each.loop == loop and not each.failed), None)


def summarize(
    measured: CaseResult, base: str, max_spread: float, columns: Mapping[str, str] = {}
) -> CaseSummary:
    """The figures of a case.

    An interval of a ratio that is wider than *max_spread*, as a share of the ratio, gets a note.
    *columns* maps each loop that is shown as a column to the loop that it is with io_uring off.
    """
    case, workload = measured.case, measured.case.workload
    base_result, baseline = _find(measured.results, base), _find(measured.results, BASELINE)
    lines = []
    for result in measured.results:
        line = Line(
            result.loop,
            rounds=len(result.samples),
            syscalls=result.syscalls,
            failed=result.failed,
            skipped=result.skipped,
            io_uring_off_of=columns.get(result.loop, ""),
            notes=[Note(text) for text in result.notes],
        )
        lines.append(line)
        if result.failed or not result.samples:
            line.verdict = "failed" if result.failed else "skipped"
            continue
        samples = result.samples
        line.rate = _median(samples, "rate") if workload.judged_by else None
        line.cpu_s = _median(samples, "cpu_s")
        if line.cpu_s is not None and (share := _user_share(samples)) is not None:
            line.user_s, line.system_s = line.cpu_s * share, line.cpu_s * (1 - share)
        line.bytes = _median(samples, "bytes")
        for name in LATENCIES:
            if (value := _median(samples, name)) is not None:
                line.latencies_s[name] = value
        line.early = _median(samples, "early")
        if base_result is not None and result is not base_result and workload.judged_by:
            line.ratio = _ratio(result, base_result, workload.judged_by)
            if workload.judged_by == "rate":
                line.cpu_ratio = _ratio(result, base_result, "cpu_s")
        if baseline is not None and result is not baseline:
            line.over_baseline = _ratio(baseline, result, "cpu_s")
        if result.loop in (base, BASELINE):
            line.verdict = "base" if result.loop == base else "baseline"
        else:
            line.verdict = _verdict(line.ratio, line.rounds, max_spread, "faster", "slower")
            line.cpu_verdict = _verdict(line.cpu_ratio, line.rounds, max_spread, "less", "more")
        line.notes += _notes(line, samples, max_spread)
    return CaseSummary(
        case.name, workload.name, workload.text, case.size, case.connections,
        case.timers, workload.family, workload.unit, workload.judged_by, lines,
    )


def _verdict(ratio: Spread | None, rounds: int, max_spread: float, better: str, worse: str) -> str:
    """An interval of any width on one side of 1 decides. One that contains 1 is even if narrow."""
    if ratio is None:
        return ""
    if rounds < MIN_ROUNDS:
        return "undecided"
    if ratio.low > 1:
        return better
    if ratio.high < 1:
        return worse
    return "even" if ratio.width <= max_spread else "undecided"


def _notes(line: Line, samples: Sequence[Sample], max_spread: float) -> list[Note]:
    notes = []
    if line.ratio is not None and line.verdict not in ("base", "baseline"):
        if line.rounds < MIN_ROUNDS:
            notes.append(Note(f"fewer than {MIN_ROUNDS} rounds decide nothing"))
        if line.ratio.width > max_spread:
            text = (
                f"the spread is wider than {max_spread:.0%}, so the size of the difference is not"
                " known; measure longer, or on a quieter machine"
            )
            notes.append(Note(text, f"{line.ratio.width:.0%}"))
    client, server = _median(samples, "client_busy"), _median(samples, "busy")
    if client is not None and client > BUSY_SHARE and (server is None or server < BUSY_SHARE):
        notes.append(Note("the load generator limits the rate: compare the CPU instead"))
    disturbed = sum(
        max(sample.get(name) or 0 for name in DISTURBANCES) > DISTURBED_SHARE for sample in samples
    )
    if disturbed:
        amount = f"{disturbed} of {len(samples)} rounds"
        notes.append(Note("the processor was used by another process or the host", amount))
    if line.early:
        notes.append(Note("timers fired early", f"{line.early:.0%}"))
    return notes


@dataclass
class Standing:
    """The results of one loop in all cases."""

    loop: str
    faster: int = 0
    even: int = 0
    slower: int = 0
    undecided: int = 0
    failed: int = 0
    less_cpu: int = 0
    more_cpu: int = 0
    mean_ratio: float | None = None         # geometric mean
    mean_cpu_ratio: float | None = None


def standings(cases: Iterable[CaseSummary], base: str) -> list[Standing]:
    """How often each loop is better than the base, and by how much on average.

    Cases of a family (scaling, latency) are left out, because they answer other questions.
    """
    by_loop: dict[str, Standing] = {}
    rates: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    for case in cases:
        for line in case.rows if not case.family else ():
            if line.loop in (base, BASELINE):
                continue
            standing = by_loop.setdefault(line.loop, Standing(line.loop))
            if line.verdict in OUTCOMES:
                setattr(standing, line.verdict, getattr(standing, line.verdict) + 1)
            standing.less_cpu += line.cpu_verdict == "less"
            standing.more_cpu += line.cpu_verdict == "more"
            for into, ratio in ((rates, line.ratio), (cpus, line.cpu_ratio)):
                if ratio is not None and ratio.median > 0:
                    into.setdefault(line.loop, []).append(ratio.median)
    for loop, standing in by_loop.items():
        standing.mean_ratio = _geometric_mean(rates.get(loop, []))
        standing.mean_cpu_ratio = _geometric_mean(cpus.get(loop, []))
    return list(by_loop.values())


def _geometric_mean(values: Sequence[float]) -> float | None:
    return exp(sum(map(log, values)) / len(values)) if values else None


def _rounded(value: Any) -> Any:
    """Round to six digits. The measurements are not more precise than that."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def as_json(
    environment: dict[str, Any],
    options: dict[str, Any],
    cases: Sequence[tuple[CaseResult, CaseSummary]],
    standing: Sequence[Standing],
    warnings: Sequence[str],
    goals: Sequence[Any] = (),
) -> dict[str, Any]:
    """The whole run: the figures, and the samples from which they were computed."""
    made = []
    for measured, summary in cases:
        case = _rounded(asdict(summary))
        for line, result in zip(case["lines"], measured.results):
            line["samples"] = _rounded(result.samples)
            line["syscall_counts"] = _rounded(result.syscall_counts)
        made.append(case)
    return {
        "version": 2,
        "environment": environment,
        "options": options,
        "cases": made,
        "standings": [_rounded(asdict(each)) for each in standing],
        "goals": [asdict(each) for each in goals],
        "warnings": list(warnings),
    }


def from_json(document: dict[str, Any]) -> list[CaseSummary]:
    """The cases of a document that as_json() made."""
    return [
        CaseSummary(**{**case, "lines": [_line_of(line) for line in case["lines"]]})
        for case in document["cases"]
    ]


def _line_of(made: dict[str, Any]) -> Line:
    values = {each.name: made[each.name] for each in fields(Line) if each.name in made}
    for name in ("ratio", "cpu_ratio", "over_baseline"):
        if values[name] is not None:
            values[name] = Spread(**values[name])
    return Line(**{**values, "notes": [Note(**note) for note in made["notes"]]})


def dump(document: dict[str, Any]) -> str:
    """JSON text with one line for each loop of a case, so that a diff is readable."""
    cases = []
    for case in document["cases"]:
        head = json.dumps({name: value for name, value in case.items() if name != "lines"})
        lines = ",\n   ".join(map(json.dumps, case["lines"]))
        cases.append(f'{head[:-1]}, "lines": [\n   {lines}\n  ]}}')
    rest = {name: value for name, value in document.items() if name != "cases"}
    text = ",\n  ".join(cases)
    return f'{json.dumps(rest, indent=1)[:-2]},\n "cases": [\n  {text}\n ]\n}}\n'
