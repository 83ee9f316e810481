"""The headline: one honest sentence about each loop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.runner import CaseResult
from mioloop.compare.measure.workloads import BY_NAME, Case
from mioloop.compare.report.headline import headline, sentences
from mioloop.compare.report.summary import CaseSummary, summarize
from tests.compare.report.results import (
    FAILED,
    SKIPPED,
    STEADY,
    WIDE,
    WIDE_LESS_CPU,
    case_of,
    result,
)

NAMES = ("sleep-0", "queue", "http", "udp", "import", "executor", "socketpair")


def headline_of(*outcomes: float | str, base: float | str = 1.0, rounds: int = 7) -> str:
    """The headline if mioloop has one of the outcomes against uvloop in each workload."""
    cases = [
        case_of(name, {"uvloop": base, "mioloop": outcome}, rounds=rounds)
        for name, outcome in zip(NAMES, outcomes)
    ]
    return headline(cases, "uvloop")


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ([1.31], "mioloop is faster than uvloop in sleep-0, 1.31 times as fast."),
        ([0.8], "mioloop is slower than uvloop in sleep-0, 0.80 times as fast."),
        ([1.0], "mioloop is as fast as uvloop in sleep-0."),
        ([WIDE], "Whether mioloop is faster than uvloop is undecided in sleep-0."),
        (
            [WIDE_LESS_CPU],
            "Whether mioloop is faster than uvloop is undecided in sleep-0 (less processor"
            " time).",
        ),
        ([FAILED], "mioloop failed in sleep-0."),
        ([SKIPPED], "mioloop is not compared with uvloop in sleep-0: no time was left."),
    ],
)
def test_one_workload_is_named(outcomes: list[float | str], sentence: str) -> None:
    assert headline_of(*outcomes) == sentence


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (
            [1.2, 1.5],
            "mioloop is faster than uvloop in both workloads, 1.35 times as fast in the median"
            " (1.20 to 1.50).",
        ),
        (
            [1.2, 1.2, 1.2],
            "mioloop is faster than uvloop in all 3 workloads, 1.20 times as fast in the median.",
        ),
        (
            [1.05, 1.3, 3.4, WIDE, 0.8],
            "mioloop is faster than uvloop in 3 of 5 workloads, 1.30 times as fast in the median"
            " (1.05 to 3.40); slower in 1 (import, 0.80 times as fast); undecided in 1.",
        ),
        (
            [1.5, 1.0, FAILED, SKIPPED],
            "mioloop is faster than uvloop in 1 of 4 workloads (sleep-0, 1.50 times as fast); as"
            " fast in 1 (queue); failed in 1 (http); not measured in 1.",
        ),
        (
            [1.5, 0.5, 0.8],
            "mioloop is faster than uvloop in 1 of 3 workloads (sleep-0, 1.50 times as fast);"
            " slower in 2 (queue, http), 0.65 times as fast in the median (0.50 to 0.80).",
        ),
        (
            [1.5, 0.5, 0.8, 0.8, 0.8],
            "mioloop is faster than uvloop in 1 of 5 workloads (sleep-0, 1.50 times as fast);"
            " slower in 4, 0.80 times as fast in the median (0.50 to 0.80).",
        ),
        (
            [0.5, 0.8, 1.0],
            "mioloop is slower than uvloop in 2 of 3 workloads, 0.65 times as fast in the median"
            " (0.50 to 0.80); as fast in 1 (http).",
        ),
        (
            [1.0, 1.0, WIDE],
            "mioloop is as fast as uvloop in 2 of 3 workloads; undecided in 1.",
        ),
        (
            [WIDE, WIDE],
            "Whether mioloop is faster than uvloop is undecided in both workloads.",
        ),
        (
            [1.5, WIDE_LESS_CPU, WIDE],
            "mioloop is faster than uvloop in 1 of 3 workloads (sleep-0, 1.50 times as fast);"
            " undecided in 2 (less processor time in 1).",
        ),
        ([FAILED, FAILED], "mioloop failed in both workloads."),
    ],
)
def test_several_workloads_are_counted(outcomes: list[float | str], sentence: str) -> None:
    assert headline_of(*outcomes) == sentence


def test_too_few_rounds_are_the_reason_that_nothing_is_decided() -> None:
    assert headline_of(1.5, 1.5, rounds=2) == (
        "Whether mioloop is faster than uvloop is undecided in both workloads, because fewer than"
        " 6 rounds decide nothing."
    )


def test_interval_of_a_single_ratio_is_given() -> None:
    uneven = summarize(
        CaseResult(
            Case(BY_NAME["sleep-0"]),
            [result("uvloop", STEADY), result("mioloop", [150, 160, 170, 180, 190, 200, 210])],
        ),
        "uvloop",
        0.1,
    )
    assert headline([uneven], "uvloop") == (
        "mioloop is faster than uvloop in sleep-0, 1.75 times as fast (1.50 to 1.98)."
    )


def test_failed_base_leaves_nothing_to_compare_with() -> None:
    assert headline_of(1.5, 1.5, base=FAILED) == (
        "mioloop is not compared with uvloop in both workloads: uvloop has no figure."
    )
    cases = [
        case_of("sleep-0", {"uvloop": FAILED, "mioloop": 1.5}),
        case_of("queue", {"uvloop": 1.0, "mioloop": 1.5}),
    ]
    assert headline(cases, "uvloop") == (
        "mioloop is faster than uvloop in 1 of 2 workloads (queue, 1.50 times as fast); not"
        " compared in 1, where uvloop has no figure."
    )


def test_factor_is_never_shown_as_1_or_0_if_it_is_not() -> None:
    assert ", 1.002 times as fast" in headline_of(1.002)
    assert ", 0.002 times as fast" in headline_of(0.002)
    assert ", 1,500 times as fast" in headline_of(1500.0)


def test_several_cases_of_a_workload_are_called_cases() -> None:
    cases = [
        case_of("http", {"uvloop": 1.0, "mioloop": ratio}, connections=count)
        for ratio, count in ((1.5, 1), (1.5, 64), (0.5, 512))
    ]
    assert headline(cases, "uvloop") == (
        "mioloop is faster than uvloop in 2 of 3 cases, 1.50 times as fast in the median; slower"
        " in 1 (http x 512, 0.50 times as fast)."
    )


def test_memory_is_not_speed() -> None:
    speed = case_of("http", {"uvloop": 1.0, "mioloop": 1.5})
    idle = case_of("idle", {"uvloop": 1.0, "mioloop": 2.0})
    tls = case_of("idle-tls", {"uvloop": 1.0, "mioloop": 0.5})

    assert headline([speed, idle, tls], "uvloop") == (
        "mioloop is faster than uvloop in http, 1.50 times as fast; it takes less"
        " memory than uvloop in 1 of 2 workloads (idle, 0.50 times as much); more memory in 1"
        " (idle-tls, 2.00 times as much)."
    )
    assert headline([idle], "uvloop") == (
        "mioloop takes less memory than uvloop in idle, 0.50 times as much."
    )


def test_family_counts_only_if_nothing_else_was_measured() -> None:
    latency = case_of("ping-pong", {"uvloop": 1.0, "mioloop": 2.0})
    plain = case_of("queue", {"uvloop": 1.0, "mioloop": 0.5})
    quiet = case_of("quiet", {"uvloop": 1.0, "mioloop": 1.0})

    assert "slower than uvloop in queue" in headline([latency, plain, quiet], "uvloop")
    assert "faster than uvloop in ping-pong" in headline([latency, quiet], "uvloop")
    assert headline([quiet], "uvloop") == "uvloop is compared with no other loop."


def alone(outcome: float | str, *more: float | str) -> list[CaseSummary]:
    return [
        case_of(name, {"mioloop": each, BASELINE: 1.5}, base="mioloop")
        for name, each in zip(NAMES, (outcome, *more))
    ]


def test_program_of_the_user_is_called_so() -> None:
    case = case_of("http", {"uvloop": 1.0, "mioloop": 1.5}, connections=64)
    program = replace(case, workload="program", name="program x 64")

    found = headline([program], "uvloop")
    assert found.startswith("mioloop is faster than uvloop in your program, 1.50 times as fast")


def test_one_loop_is_compared_with_no_other() -> None:
    assert headline(alone(1.0), "mioloop") == "mioloop is compared with no other loop."
    assert headline(alone(FAILED), "mioloop") == "mioloop failed, and no other loop was measured."
    assert headline(alone(FAILED, 1.0), "mioloop") == (
        "mioloop is compared with no other loop, and failed in 1 of 2 cases."
    )
    assert headline(alone(SKIPPED), "mioloop") == "Nothing was measured."
    assert headline([], "mioloop") == "Nothing was measured."


def test_every_loop_has_a_sentence_and_mioloop_the_first() -> None:
    case = case_of(
        "http", {"uvloop": 1.0, "asyncio": 0.5, "mioloop": 1.5, "mioloop:level": 1.2, BASELINE: 3.0}
    )
    found = sentences([case], "uvloop")

    assert [text.partition(" ")[0] for text in found] == ["mioloop", "mioloop:level", "asyncio"]
    assert headline([case], "uvloop") == found[0]


def test_mioloop_may_be_the_base() -> None:
    case = case_of("http", {"mioloop": 1.0, "asyncio": 0.5}, base="mioloop")

    assert headline([case], "mioloop").startswith("asyncio is slower than mioloop in http")


def test_loop_that_is_shown_as_a_column_has_no_sentence() -> None:
    off = "mioloop:io_uring=off"
    case = case_of("http", {"uvloop": 1.0, "mioloop": 1.5, off: 1.2}, columns={off: "mioloop"})

    assert len(sentences([case], "uvloop")) == 1
