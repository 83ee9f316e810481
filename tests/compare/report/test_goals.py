"""Goals: the file, the verdicts, and their texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.runner import CaseResult, Result
from mioloop.compare.measure.workloads import BY_NAME, KIB, Case, cases_of
from mioloop.compare.report import goals, markdown
from mioloop.compare.report.figures import Outcome
from mioloop.compare.report.summary import CaseSummary, summarize

ROUNDS = 7


def case_of(
    workload: str, size: int, connections: int, **of_loop: dict[str, float]
) -> CaseSummary:
    """A case with equal samples in every round; `baseline` stands for the C baseline."""
    results = [
        Result(BASELINE if loop == "baseline" else loop, [{"requests": 1, **sample}] * ROUNDS)
        for loop, sample in of_loop.items()
    ]
    case = Case(BY_NAME[workload], size, connections)
    return summarize(CaseResult(case, results), "uvloop", 0.1)


def outcome_of(case: CaseSummary) -> Outcome:
    table = goals.Goals(
        "mioloop",
        "uvloop",
        [
            goals.Goal("sleep", "sleep-0", ratio=2.5),
            goals.Goal("echo", "echo-protocol", KIB, 64, ratio=1.2, over_baseline=0.05),
            goals.Goal("memory", "idle", KIB, 10_000, ratio=1.0),
            goals.Goal("memory under TLS", "idle-tls", KIB, 10_000, kib=25),
            goals.Goal("timers", "timer-accuracy", late_us=100),
        ],
    )
    (found,) = (each for each in goals.compare(table, [case]) if each.verdict != "not measured")
    return found


# -- the file ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project() -> goals.Goals:
    return markdown.goals_of(Path(__file__).parents[3] / "docs" / "performance.md")


def test_every_goal_of_the_project_is_measured_by_a_full_run(project: goals.Goals) -> None:
    assert project.goals
    for goal in project.goals:
        cases = cases_of(BY_NAME[goal.workload])
        measured = [(case.size, case.connections) for case in cases]
        assert (goal.size, goal.connections) in measured, goal.text


def test_limits_of_a_goal_are_put_into_words(project: goals.Goals) -> None:
    wanted = {goal.text: goal.wanted(project.base) for goal in project.goals}

    assert wanted["Protocol echo 1 KiB"] == "1.20x, CPU within 5% of the C baseline"
    assert wanted["memory per idle connection"] == "at most uvloop's"
    assert wanted["memory per idle TLS connection"] == "at most 25 KiB"
    assert wanted["timers of 100 us"] == "never early, less than 100 us late"


LOOPS = "[goals]\nloop = a\nbase = b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "goals"),
        ("[goals]\nloop = mioloop\n", "base"),
        ("no section\n", "no section"),
        (LOOPS + "[x]\nratio = 2\n", "[x] has no workload"),
        (LOOPS + "[x]\nworkload = tls\n", "[x] sets no limit"),
        (LOOPS + "[x]\nworkload = tsl\nratio = 2\n", "did you mean tls?"),
        (LOOPS + "[x]\nworkload = tls\nrato = 2\n", "did you mean ratio?"),
        (LOOPS + "[x]\nworkload = tls\nratio = two\n", "ratio = two is not a number"),
    ],
)
def test_wrong_file_of_goals_is_refused_with_the_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "goals.ini"
    path.write_text(text)

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        goals.read(path)
    assert str(path) in str(caught.value)


# -- verdicts ---------------------------------------------------------------------------------


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
    assert f"CPU {said} against the C baseline" in found.measured


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


def test_failed_case_has_its_failure_as_result() -> None:
    base = Result("uvloop", [{"requests": 1, "rate": 1.0}] * 7)
    failed = Result("mioloop", failed="1 of 9 requests failed")
    case = summarize(CaseResult(Case(BY_NAME["sleep-0"]), [base, failed]), "uvloop", 0.1)

    assert outcome_of(case).verdict == "failed"
    assert outcome_of(case).measured == "1 of 9 requests failed"
