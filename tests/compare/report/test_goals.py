"""Goals: when one is reached, and what is said of it."""

from __future__ import annotations

import pytest

from mioloop.compare.measure.loops import FLOOR
from mioloop.compare.measure.runner import CellResult, Result
from mioloop.compare.measure.workloads import BY_NAME, KIB, Cell, cells_of
from mioloop.compare.report import goals
from mioloop.compare.report.summary import CellSummary, summarize

ROUNDS = 7


def cell_of(
    workload: str, size: int, connections: int, **of_loop: dict[str, float]
) -> CellSummary:
    """The same sample in every round of a loop; `floor` is the floor's."""
    results = [
        Result(FLOOR if loop == "floor" else loop, [{"requests": 1, **sample}] * ROUNDS)
        for loop, sample in of_loop.items()
    ]
    cell = Cell(BY_NAME[workload], size, connections)
    return summarize(CellResult(cell, results), "uvloop", 0.1)


def outcome_of(cell: CellSummary) -> goals.Outcome:
    (found,) = (each for each in goals.compare([cell]) if each.verdict != "not measured")
    return found


def test_every_goal_is_of_a_cell_that_a_full_run_measures() -> None:
    for goal in goals.GOALS:
        cells = cells_of(BY_NAME[goal.workload])
        assert goal.cell in [(cell.size, cell.connections) for cell in cells], goal.text


def test_goals_are_those_of_mioloop_against_uvloop() -> None:
    cell = cell_of("sleep-0", 0, 0, uvloop={"rate": 1.0}, mioloop={"rate": 3.0})

    assert goals.are_comparable("uvloop", [cell])
    assert not goals.are_comparable("asyncio", [cell])
    assert not goals.are_comparable("uvloop", [cell_of("sleep-0", 0, 0, uvloop={"rate": 1.0})])


@pytest.mark.parametrize(("rate", "verdict"), [(2.5, "reached"), (2.49, "missed")])
def test_ratio_decides(rate: float, verdict: str) -> None:
    found = outcome_of(
        cell_of(
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
        summarize(CellResult(Cell(BY_NAME["sleep-0"]), [base, ours]), "uvloop", 0.1)
    )

    assert found.verdict == "reached"
    assert "2.20x (1.00-3.50) by rate, 4.00x (4.00-4.00) by CPU" in found.measured


@pytest.mark.parametrize(
    ("floor_s", "verdict", "said"), [(0.96, "reached", "+4%"), (0.9, "missed", "+11%")]
)
def test_distance_to_the_floor_counts_too(floor_s: float, verdict: str, said: str) -> None:
    found = outcome_of(
        cell_of(
            "echo-protocol", KIB, 64,
            uvloop={"rate": 1.0, "cpu_s": 2.0}, mioloop={"rate": 2.0, "cpu_s": 1.0},
            floor={"rate": 2.0, "cpu_s": floor_s},
        )
    )

    assert found.verdict == verdict
    assert f"CPU {said} against the floor" in found.measured


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
        cell_of(workload, KIB, 10_000, uvloop={"bytes": base}, mioloop={"bytes": ours})
    )

    assert found.verdict == verdict
    assert f"{ours / 1024:.1f} KiB" in found.measured


@pytest.mark.parametrize(
    ("late_s", "early", "verdict"),
    [(60e-6, 0.0, "reached"), (60e-6, 0.01, "missed"), (150e-6, 0.0, "missed")],
)
def test_timers_are_never_early_and_hardly_late(late_s: float, early: float, verdict: str) -> None:
    found = outcome_of(
        cell_of(
            "timer-accuracy", 0, 0,
            uvloop={"p50_s": 1e-5, "early": 1.0}, mioloop={"p50_s": late_s, "early": early},
        )
    )

    assert found.verdict == verdict


def test_failure_is_no_figure() -> None:
    base = Result("uvloop", [{"requests": 1, "rate": 1.0}] * 7)
    failed = Result("mioloop", failed="1 of 9 requests failed")
    cell = summarize(CellResult(Cell(BY_NAME["sleep-0"]), [base, failed]), "uvloop", 0.1)

    assert outcome_of(cell).verdict == "failed"
    assert outcome_of(cell).measured == "1 of 9 requests failed"
