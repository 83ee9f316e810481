"""Histogram: percentiles of durations within 6.25 %, in fixed memory, from any thread."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mioloop.reactor.histogram import Histogram

DURATIONS_S = st.lists(st.floats(0, 10_000), min_size=1, max_size=200)


def histogram_of(durations: list[float]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


@given(DURATIONS_S, st.floats(0, 100))
def test_percentile_is_at_most_a_sixteenth_above_the_true_one(durations, percent):
    rank = max(1, math.ceil(percent / 100 * len(durations)))
    true = sorted(durations)[rank - 1]
    assert true - 1e-9 <= histogram_of(durations).percentile(percent) <= true * 1.0626 + 2e-9


@given(DURATIONS_S)
def test_count_sum_mean_and_max_are_those_of_the_durations(durations):
    histogram = histogram_of(durations)
    assert histogram.count == len(durations)
    assert histogram.sum == pytest.approx(sum(durations), abs=1e-9 * len(durations))
    assert histogram.mean == pytest.approx(histogram.sum / len(durations))
    assert histogram.max == pytest.approx(max(durations), abs=1e-9)
    assert sum(count for _, count in histogram.buckets()) == len(durations)


@given(DURATIONS_S, DURATIONS_S)
def test_merged_histogram_has_the_durations_of_both(some, others):
    merged = histogram_of(some)
    merged.merge(histogram_of(others))
    both = histogram_of(some + others)
    assert merged.buckets() == both.buckets()
    assert (merged.count, merged.max) == (both.count, both.max)


def test_copy_does_not_change_with_the_original():
    histogram = histogram_of([0.5])
    copied = histogram.copy()
    histogram.add(1.0)
    assert (copied.count, histogram.count) == (1, 2)


def test_reset_forgets_all_durations():
    histogram = histogram_of([0.5, 2])
    histogram.reset()
    assert (histogram.count, histogram.max, histogram.mean, histogram.buckets()) == (0, 0, 0, [])
    assert histogram.percentile(50) == 0.0


@pytest.mark.parametrize("percent", [-1, 100.5, math.nan])
def test_percent_out_of_range_is_named(percent):
    with pytest.raises(ValueError, match=f"percent must be from 0 to 100, not {percent}"):
        Histogram().percentile(percent)


def test_durations_of_any_size_are_counted():
    histogram = histogram_of([-1.0, math.inf, 1e300])
    assert histogram.count == 3
    assert histogram.max == pytest.approx(2**44 / 1e9)
    with pytest.raises(ValueError, match="not NaN"):
        histogram.add(math.nan)
