"""Summaries: the verdict of each line, its notes, and the standings over all cases."""

from __future__ import annotations

import json
from statistics import median

import pytest

from mioloop.compare.measure.runner import CaseResult, Result
from mioloop.compare.measure.workloads import BY_NAME, Case
from mioloop.compare.report.summary import as_json, dump, from_json, standings, summarize
from tests.compare.report.results import FAILED, STEADY, WIDE, case_of, measured, result


def summary_of(*results: Result, workload: str = "echo-protocol", base: str = "base"):
    return summarize(CaseResult(Case(BY_NAME[workload], 1024, 1), list(results)), base, 0.1)


@pytest.mark.parametrize(
    ("rates", "verdict", "cpu_verdict"),
    [
        pytest.param([rate * 1.5 for rate in STEADY], "faster", "less", id="faster"),
        pytest.param([rate / 1.5 for rate in STEADY], "slower", "more", id="slower"),
        pytest.param([99.0, 102, 101, 104, 103, 106, 105], "even", "even", id="even"),
        pytest.param([50.0, 202, 90, 130, 70, 190, 80], "undecided", "undecided", id="wide"),
        pytest.param([150.0, 160, 170], "undecided", "undecided", id="few"),
        pytest.param([150.0, 402, 190, 230, 270, 190, 180], "faster", "less", id="wide-but-better"),
    ],
)
def test_verdict_needs_an_interval_on_one_side_of_the_base(
    rates: list[float], verdict: str, cpu_verdict: str
) -> None:
    line = summary_of(result("base", STEADY), result("loop", rates)).lines[1]

    assert (line.verdict, line.cpu_verdict) == (verdict, cpu_verdict)


def notes_of(line) -> str:
    return "; ".join(note.text for note in line.notes)


def test_wide_spread_is_noted() -> None:
    wide = result("wide", [150, 402, 190, 230, 270, 190, 180])
    narrow = result("narrow", STEADY)
    _, one, other = summary_of(result("base", STEADY), wide, narrow).lines

    assert "the spread is wider than 10%" in notes_of(one)
    assert notes_of(other) == ""


def test_too_few_rounds_are_noted() -> None:
    line = summary_of(result("base", STEADY), result("loop", STEADY[:3])).lines[1]

    assert "fewer than 6 rounds decide nothing" in notes_of(line)


def test_busy_load_generator_and_shared_processor_are_noted() -> None:
    line = summary_of(result("base", STEADY, client_busy=0.99, busy=0.5, waited=0.2)).lines[0]

    assert "the load generator limits the rate" in notes_of(line)
    assert "the processor was used by another process or the host" in notes_of(line)
    assert line.notes[-1].amount == "7 of 7 rounds"


def test_disturbance_of_the_client_or_by_the_host_counts_too() -> None:
    samples = [{"client_waited": 0.2}, {"stolen": 0.2}, {"waited": 0.01, "client_waited": 0.01}]
    base = Result("base", [{"requests": 1, "rate": 1.0} | more for more in samples])

    assert summary_of(base).lines[0].notes[-1].amount == "2 of 3 rounds"


def test_processor_time_is_divided_by_mode_only_if_ticks_can_divide_it() -> None:
    split = {"user_s": 0.03, "system_s": 0.01}
    (short,) = summary_of(result("base", STEADY[:2], **split)).lines
    (long,) = summary_of(result("base", STEADY, **split)).lines

    assert short.user_s is None
    assert long.user_s == pytest.approx(long.cpu_s * 0.75)


@pytest.mark.parametrize("workload", ["idle", "timer-accuracy"])
def test_ratio_of_a_figure_that_is_better_if_smaller_is_inverted(workload: str) -> None:
    field = BY_NAME[workload].judged_by
    base = Result("base", [{"requests": 1, field: 200.0}] * 7)
    loop = Result("loop", [{"requests": 1, field: 100.0}] * 7)
    line = summary_of(base, loop, workload=workload).lines[1]

    assert line.ratio is not None
    assert line.ratio.median == 2
    assert line.verdict == "faster"


def test_failed_base_leaves_the_other_loops_without_a_ratio() -> None:
    base = Result("base", failed="it broke")
    summary = summary_of(base, result("loop", STEADY))

    assert [line.verdict for line in summary.lines] == ["failed", ""]
    assert summary.lines[1].rate == median(STEADY)


def test_standings_count_the_verdicts_and_average_the_ratios() -> None:
    twice = summary_of(result("base", STEADY), result("loop", [rate * 2 for rate in STEADY]))
    half = summary_of(result("base", STEADY), result("loop", [rate / 2 for rate in STEADY]))
    (standing,) = standings([twice, half], "base")

    assert (standing.loop, standing.faster, standing.slower) == ("loop", 1, 1)
    assert standing.mean_ratio == pytest.approx(1)


def test_loop_that_is_shown_as_a_column_has_no_standing() -> None:
    off = "mioloop:io_uring=off"
    case = case_of("http", {"uvloop": 1.0, "mioloop": 1.5, off: 1.2}, columns={off: "mioloop"})

    assert [line.loop for line in case.rows] == ["uvloop", "mioloop"]
    assert [each.loop for each in standings([case], "uvloop")] == ["mioloop"]
    column = case.without_io_uring("mioloop")
    assert column is not None and column.ratio is not None
    assert column.ratio.median == pytest.approx(1.2)


def test_summaries_are_read_back_from_the_json_text() -> None:
    runs = [
        measured("http", {"uvloop": 1.0, "asyncio": WIDE, "mioloop": 1.5}, connections=64),
        measured("idle", {"uvloop": 1.0, "asyncio": FAILED, "mioloop": 2.0}),
    ]
    cases = [summarize(run, "uvloop", 0.1) for run in runs]
    text = dump(as_json({}, {}, list(zip(runs, cases)), [], []))
    found = from_json(json.loads(text))

    assert [case.name for case in found] == ["http x 64", "idle"]
    for one, other in zip(found, cases):
        assert [line.verdict for line in one.lines] == [line.verdict for line in other.lines]
        assert [line.notes for line in one.lines] == [line.notes for line in other.lines]
        for line, original in zip(one.lines, other.lines):
            if original.ratio is not None:
                assert line.ratio is not None
                assert line.ratio.median == pytest.approx(original.ratio.median)
