"""Made-up results, so that a report can be tested without a measurement."""

from __future__ import annotations

from collections.abc import Mapping

from mioloop.compare.measure.runner import CaseResult, Result
from mioloop.compare.measure.workloads import BY_NAME, Case
from mioloop.compare.report.summary import CaseSummary, summarize

STEADY = [100.0, 101, 102, 103, 104, 105, 106]
NOISY = [50.0, 202, 90, 130, 70, 190, 80]

WIDE = "the interval holds 1"
WIDE_LESS_CPU = "the interval holds 1, and the processor time decides"
FAILED = "wrong bytes in the answer"
SKIPPED = "no time was left"


def result(loop: str, rates: list[float], **more: float) -> Result:
    return Result(loop, [{"requests": 1, "rate": rate, "cpu_s": 1 / rate} | more for rate in rates])


def result_of(loop: str, outcome: float | str, field: str, rounds: int) -> Result:
    """A number is the ratio to a loop with the outcome 1."""
    if outcome == FAILED:
        return Result(loop, failed=FAILED)
    if outcome == SKIPPED:
        return Result(loop, skipped=SKIPPED)
    if isinstance(outcome, str):
        made = result(loop, NOISY[:rounds])
        if outcome == WIDE_LESS_CPU:
            for sample in made.samples:
                sample["cpu_s"] = 0.001
        return made
    if field != "rate":     # better if smaller
        return Result(loop, [{"requests": 1, field: 100.0 / outcome}] * rounds)
    return result(loop, [rate * outcome for rate in STEADY[:rounds]])


def measured(
    workload: str, of_loop: Mapping[str, float | str], connections: int = 0, rounds: int = 7
) -> CaseResult:
    named = BY_NAME[workload]
    field = named.judged_by or "rate"
    results = [result_of(loop, each, field, rounds) for loop, each in of_loop.items()]
    return CaseResult(Case(named, 0, connections), results)


def case_of(
    workload: str,
    of_loop: Mapping[str, float | str],
    connections: int = 0,
    rounds: int = 7,
    base: str = "uvloop",
    columns: Mapping[str, str] = {},
) -> CaseSummary:
    return summarize(measured(workload, of_loop, connections, rounds), base, 0.1, columns)
