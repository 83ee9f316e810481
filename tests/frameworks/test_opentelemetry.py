"""mioloop.opentelemetry with OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from mioloop.loop.event_loop import EventLoop
from mioloop.reactor.histogram import Histogram

pytest.importorskip("opentelemetry.sdk.metrics")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mioloop.opentelemetry import NAME, PREFIX, STATE, Delays, instrument

LIMIT_S = 20.0

# Of https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/, and one of mioloop's own.
CONVENTIONS = {
    "delay.min": ("s", "Event loop minimum delay."),
    "delay.max": ("s", "Event loop maximum delay."),
    "delay.mean": ("s", "Event loop mean delay."),
    "delay.stddev": ("s", "Event loop standard deviation delay."),
    "delay.p50": ("s", "Event loop 50 percentile delay."),
    "delay.p90": ("s", "Event loop 90 percentile delay."),
    "delay.p99": ("s", "Event loop 99 percentile delay."),
    "utilization": ("1", "Event loop utilization."),
    "time": ("s", "Cumulative duration of time the event loop has been in each state."),
    "stalls": ("{stall}", "Callbacks that the stall watch has reported as too long."),
}


class Observed:
    """A provider, and the metrics that its reader collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def instrument(self, loop: Any, name: str = "main") -> None:
        instrument(loop, name, meter_provider=self.provider)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        assert len({metric.name for metric in found}) == len(found)
        return {metric.name.removeprefix(PREFIX): metric for metric in found}

    def values(self, name: str = "main") -> dict[str, float]:
        return {
            metric + ("." + point.attributes[STATE] if STATE in point.attributes else ""):
                point.value
            for metric, each in self.metrics().items()
            for point in each.data.data_points
            if point.attributes[NAME] == name
        }

    def loops(self) -> set[str]:
        return {
            point.attributes[NAME]
            for each in self.metrics().values()
            for point in each.data.data_points
        }


@pytest.fixture
def observed() -> Iterator[Observed]:
    observed = Observed()
    yield observed
    observed.provider.shutdown()


def run_for(loop: Any, block_s: float = 0.0, wait_s: float = 0.0) -> None:
    loop.call_soon(time.sleep, block_s)
    loop.run_until_complete(asyncio.sleep(wait_s))


# -- values --------------------------------------------------------------------------------------


def test_names_and_units_are_those_of_the_conventions(
    mioloop_loop: Any, observed: Observed
) -> None:
    observed.instrument(mioloop_loop)
    run_for(mioloop_loop)
    metrics = observed.metrics()
    assert {name: (each.unit, each.description) for name, each in metrics.items()} == CONVENTIONS


def test_time_is_told_by_state(mioloop_loop: Any, observed: Observed) -> None:
    observed.instrument(mioloop_loop)
    run_for(mioloop_loop, 0.02, 0.05)
    values = observed.values()
    stats = mioloop_loop.stats()
    assert values["time.active"] == pytest.approx(stats["active_ns"] / 1e9)
    assert values["time.idle"] == pytest.approx(stats["idle_ns"] / 1e9)
    assert values["stalls"] == 0


def test_utilization_is_that_since_the_last_collection(
    mioloop_loop: Any, observed: Observed
) -> None:
    observed.instrument(mioloop_loop)
    run_for(mioloop_loop, wait_s=0.1)
    before = mioloop_loop.utilization()
    assert observed.values()["utilization"] == pytest.approx(before.utilization)
    run_for(mioloop_loop, block_s=0.05)
    since = mioloop_loop.utilization(before)
    assert observed.values()["utilization"] == pytest.approx(since.utilization)
    assert observed.values()["utilization"] == 0        # it has not run since


def test_delay_is_that_since_the_last_collection(mioloop_loop: Any, observed: Observed) -> None:
    observed.instrument(mioloop_loop)
    run_for(mioloop_loop, block_s=0.2)
    values = observed.values()
    assert 0.2 <= values["delay.max"] == mioloop_loop.latency().turns.max
    assert values["delay.mean"] == pytest.approx(mioloop_loop.latency().turns.mean)
    assert 0 < values["delay.min"] <= values["delay.p50"] <= values["delay.p90"]
    assert values["delay.p90"] <= values["delay.p99"] <= values["delay.max"]
    assert "delay.max" not in observed.values()         # the loop has done nothing since
    run_for(mioloop_loop)
    assert observed.values()["delay.max"] < 0.2
    assert mioloop_loop.latency().turns.max >= 0.2      # the program's histogram is left alone


# -- intervals -----------------------------------------------------------------------------------


def histogram_of(*durations: float) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


def test_delays_between_two_copies_of_a_histogram() -> None:
    histogram = histogram_of(0.001, 0.003, 0.5)
    before = histogram.copy()
    for duration in (0.003, 0.004, 0.004, 0.1):
        histogram.add(duration)
    delays = Delays.between(before, histogram)
    alone = histogram_of(0.003, 0.004, 0.004, 0.1)
    assert delays.count == 4
    assert delays.buckets == alone.buckets()
    assert delays.mean() == pytest.approx(alone.mean)
    for percent in (0, 25, 50, 75):
        assert delays.percentile(percent) == alone.percentile(percent)
    assert 0.1 <= delays.percentile(100) <= 0.1 * 1.0625
    assert delays.deviation() == pytest.approx(0.0418, rel=0.07)


def test_delays_after_a_reset_are_those_since_the_reset() -> None:
    histogram = histogram_of(0.001, 0.5)
    before = histogram.copy()
    histogram.reset()
    histogram.add(0.002)
    delays = Delays.between(before, histogram)
    assert (delays.count, delays.longest) == (1, 0.002)
    assert delays.deviation() == 0


# -- loops ---------------------------------------------------------------------------------------


def test_two_loops_share_the_instruments(
    mioloop_loop: Any, observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    other = EventLoop()
    observed.instrument(mioloop_loop, "web")
    observed.instrument(other, "worker")
    observed.instrument(other, "worker")
    run_for(mioloop_loop)
    assert observed.loops() == {"web", "worker"}
    assert observed.values("worker")["time.active"] == 0
    assert observed.values("web")["time.active"] > 0
    with pytest.raises(ValueError, match="belongs to another loop"):
        observed.instrument(other, "web")
    assert caplog.records == []
    other.close()


def test_a_closed_loop_is_not_observed(observed: Observed) -> None:
    loop = EventLoop()
    observed.instrument(loop)
    assert observed.loops() == {"main"}
    loop.close()
    assert observed.loops() == set()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_instruments_keep_no_loop_alive(observed: Observed) -> None:
    loop = EventLoop()
    observed.instrument(loop)
    assert observed.loops() == {"main"}
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    assert alive() is None
    assert observed.loops() == set()


def test_a_loop_of_asyncio_is_refused(observed: Observed) -> None:
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="must be an event loop of mioloop"):
        observed.instrument(loop)
    loop.close()


def test_a_loop_that_is_blocked_is_observed(mioloop_loop: Any, observed: Observed) -> None:
    observed.instrument(mioloop_loop)
    blocks, read = threading.Event(), threading.Event()
    values = []

    def block() -> None:
        blocks.set()
        assert read.wait(LIMIT_S)

    def observe() -> None:
        assert blocks.wait(LIMIT_S)
        values.extend([observed.values(), observed.values()])
        read.set()

    other = threading.Thread(target=observe)
    other.start()
    mioloop_loop.call_soon(block)
    mioloop_loop.run_until_complete(asyncio.sleep(0))
    other.join()
    assert values[1]["time.active"] > values[0]["time.active"] > 0
    assert values[1]["utilization"] == 1


GLOBAL = """
import mioloop
from mioloop.opentelemetry import instrument
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

first, second = mioloop.new_event_loop(), mioloop.new_event_loop()
instrument(first, "first")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
instrument(second, "second", meter_provider=metrics.get_meter_provider())
points = [
    point.attributes["asyncio.eventloop.name"]
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    for point in metric.data.data_points
    if metric.name == "asyncio.eventloop.utilization"
]
print(points)
"""


def test_the_global_provider_may_be_set_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GLOBAL], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.stdout == "['first', 'second']\n", done.stderr
