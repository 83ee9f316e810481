"""Medians, their intervals, and ratios."""

from __future__ import annotations

import random

import pytest

from mioloop.compare.report.statistics import ratios, spread


@pytest.mark.parametrize(
    ("count", "dropped"), [(1, 0), (3, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3)]
)
def test_interval_leaves_out_as_many_at_each_end_as_95_percent_allow(
    count: int, dropped: int
) -> None:
    found = spread(range(count, 0, -1))

    assert (found.low, found.high) == (1 + dropped, count - dropped)
    assert found.median == (count + 1) / 2


@pytest.mark.parametrize("count", [7, 12, 20])
def test_interval_holds_the_true_median_at_least_95_times_in_100(count: int) -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(2000):
        found = spread([chance.expovariate(1) for _ in range(count)])
        held += found.low <= 0.6931 <= found.high

    assert held >= 2000 * 0.94


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="no median of nothing"):
        spread([])


def test_ratios_are_taken_pair_by_pair_and_skip_missing_values() -> None:
    assert ratios([2, 9, None, 8], [1, 3, 5, 0]) == [2, 3]
