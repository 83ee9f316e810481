"""Goals: when one is reached, and what is said of it."""

from __future__ import annotations

import pytest

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.runner import CaseResult, Result
from mioloop.compare.measure.workloads import BY_NAME, KIB, Case, cases_of
from mioloop.compare.report import goals
from mioloop.compare.report.summary import CaseSummary, summarize

ROUNDS = 7


def case_of(
    workload: str, size: int, connections: int, **of_loop: dict[str, float]
) -> CaseSummary:
    """The same sample in every round of a loop; `baseline` is the baseline's."""
    results = [
        Result(BASELINE if loop == "baseline" else loop, [{"requests": 1, **sample}] * ROUNDS)
        for loop, sample in of_loop.items()
    ]
    case = Case(BY_NAME[workload], size, connections)
    return summarize(CaseResult(case, results), "uvloop", 0.1)


def outcome_of(case: CaseSummary) -> goals.Outcome:
    (found,) = (each for each in goals.compare([case]) if each.verdict != "not measured")
    return found


def test_every_goal_is_of_a_cell_that_a_full_run_measures() -> None:
    for goal in goals.GOALS:
        cases = cases_of(BY_NAME[goal.workload])
        assert goal.case in [(case.size, case.connections) for case in cases], goal.text


def test_goals_are_those_of_mioloop_against_uvloop() -> None:
    case = case_of("sleep-0", 0, 0, uvloop={"rate": 1.0}, mioloop={"rate": 3.0})

    assert goals.are_comparable("uvloop", [case])
    assert not goals.are_comparable("asyncio", [case])
    assert not goals.are_comparable("uvloop", [case_of("sleep-0", 0, 0, uvloop={"rate": 1.0})])


@pytest.mark.parametrize(("rate", "verdict"), [(2.5, "reached"), (2.49, "missed")])
def test_ratio_decides(rate: float, verdict: str) -> None:
    found = outcome_of(
        case_of(
            "sleep-0", 0, 0,
            uvloop={"rate": 1.0, "cpu_s": 1.0}, mioloop={"rate": rate, "cpu_s": 1 / rate},
        )
    )

    assert (found.verdict, found.wanted) == (verdict, "2.50x")
    assert f"{rate:.2f}x" in found.measured and "by rate" in found.measured


def test_steadier_of_rate_and_cpu_decides_and_both_are_quoted() -> None:
    rates = [1.0, 2.0, 3.0, 1.5, 2.5, 3.5, 2.2]
    base = Result("uvloop", [{"requests": 1, "rate": 1.0, "cpu_s": 1.0}] * 7)
    ours = Result("mioloop", [{"requests": 1, "rate": rate, "cpu_s": 0.25} for rate in rates])
    found = outcome_of(
        summarize(CaseResult(Case(BY_NAME["sleep-0"]), [base, ours]), "uvloop", 0.1)
    )

    assert found.verdict == "reached"
    assert "2.20x (1.00-3.50) by rate, 4.00x (4.00-4.00) by CPU" in found.measured


@pytest.mark.parametrize(
    ("baseline_s", "verdict", "said"), [(0.96, "reached", "+4%"), (0.9, "missed", "+11%")]
)
def test_distance_to_the_baseline_counts_too(baseline_s: float, verdict: str, said: str) -> None:
    found = outcome_of(
        case_of(
            "echo-protocol", KIB, 64,
            uvloop={"rate": 1.0, "cpu_s": 2.0}, mioloop={"rate": 2.0, "cpu_s": 1.0},
            baseline={"rate": 2.0, "cpu_s": baseline_s},
        )
    )

    assert found.verdict == verdict
    assert f"CPU {said} against the baseline" in found.measured


@pytest.mark.parametrize(
    ("workload", "ours", "verdict"),
    [
        ("idle", 1000.0, "reached"), ("idle", 1300.0, "missed"),
        ("idle-tls", 25 * 1024.0, "reached"), ("idle-tls", 26 * 1024.0, "missed"),
    ],
)
def test_memory_is_bounded(workload: str, ours: float, verdict: str) -> None:
    base = 1200.0 if workload == "idle" else 25_600.0
    found = outcome_of(
        case_of(workload, KIB, 10_000, uvloop={"bytes": base}, mioloop={"bytes": ours})
    )

    assert found.verdict == verdict
    assert f"{ours / 1024:.1f} KiB" in found.measured


@pytest.mark.parametrize(
    ("late_s", "early", "verdict"),
    [(60e-6, 0.0, "reached"), (60e-6, 0.01, "missed"), (150e-6, 0.0, "missed")],
)
def test_timers_are_never_early_and_hardly_late(late_s: float, early: float, verdict: str) -> None:
    found = outcome_of(
        case_of(
            "timer-accuracy", 0, 0,
            uvloop={"p50_s": 1e-5, "early": 1.0}, mioloop={"p50_s": late_s, "early": early},
        )
    )

    assert found.verdict == verdict


def test_failure_is_no_figure() -> None:
    base = Result("uvloop", [{"requests": 1, "rate": 1.0}] * 7)
    failed = Result("mioloop", failed="1 of 9 requests failed")
    case = summarize(CaseResult(Case(BY_NAME["sleep-0"]), [base, failed]), "uvloop", 0.1)

    assert outcome_of(case).verdict == "failed"
    assert outcome_of(case).measured == "1 of 9 requests failed"
