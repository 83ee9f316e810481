"""The figures of event loops for Prometheus, by prometheus_client::

    from prometheus_client import REGISTRY
    from mioloop.prometheus import Collector

    REGISTRY.register(Collector(loop, name="web"))

The collector reads the figures when Prometheus asks, from any thread, also while the loop is
blocked. It cannot while other code holds the GIL. It keeps no loop alive: a loop that is closed or
freed is missing from the next answer.

The histograms have the limits `BOUNDS`. They are made from finer buckets, which are at most 6.25 %
wide. So a duration that is up to 6.25 % shorter than a limit may be counted above it.

Needs prometheus_client: ``pip install 'mioloop[prometheus]'``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from mioloop.named_loops import NamedLoops

try:
    from prometheus_client import registry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
except ImportError as exc:
    raise ImportError(
        "mioloop.prometheus needs prometheus_client: pip install 'mioloop[prometheus]'",
        name="prometheus_client",
    ) from exc

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop
    from mioloop.loop.figures import Durations, Latency
    from mioloop.reactor.histogram import Histogram

PREFIX = "asyncio_eventloop_"

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)


class _Family(NamedTuple):
    """A metric with values of loop.stats()."""

    make: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    help: str
    keys: dict[str, str]            # of loop.stats(), by the values of the label `kind`, or by ""
    unit: float = 1                 # the metric's value for a 1 of loop.stats()


def _total(key: str, name: str, help: str, unit: float = 1) -> _Family:
    return _Family(CounterMetricFamily, name, help, {"": key}, unit)


def _now(key: str, name: str, help: str) -> _Family:
    return _Family(GaugeMetricFamily, name, help, {"": key})


NS = 1e-9

FAMILIES = (
    _total("turns", "turns", "Turns of the loop."),
    _total("polls", "polls", "Calls of the selector."),
    _total("spins", "spins", "Calls of the selector that the option spin has added."),
    _total("bursts", "bursts", "System calls that sent or received for several connections."),
    _total("events", "events", "Events that the selector has reported."),
    _total("callbacks", "callbacks", "Callbacks that were run; the step of a task is one."),
    _total("timers_fired", "timers_fired", "Timers whose time has come."),
    _total("bytes_in", "received_bytes", "Bytes that transports have received."),
    _total("bytes_out", "sent_bytes", "Bytes that transports have sent."),
    _total("accepted", "accepted_connections", "Connections that listeners have accepted."),
    _total("refused", "refused_connections", "Connections that failed when they were accepted."),
    _total("idle_ns", "idle_seconds", "Time that the loop has waited for events.", NS),
    _total("active_ns", "active_seconds", "Time that the loop has worked.", NS),
    _Family(
        CounterMetricFamily, "work_seconds",
        "Time that the loop has worked, by kind: callbacks, events of connections, timers, and "
        "polls that do not wait. Counted when the loop looks for events again.",
        {kind: f"{kind}_ns" for kind in ("callbacks", "events", "timers", "polls")}, NS,
    ),
    _total("stalls", "stalls", "Callbacks that the stall watch has reported as too long."),
    _total("stalled_ns", "stalled_seconds", "Time that these callbacks took, when they ended.", NS),
    _now("ready", "ready_callbacks", "Callbacks that wait for their turn."),
    _now("most_ready", "ready_callbacks_max", "Most callbacks that have ever waited at once."),
    _now("timers", "timers", "Timers whose time has not come."),
    _now("sources", "sources", "Sources that are registered with the selector."),
    _Family(
        GaugeMetricFamily, "transports", "Open transports, by kind.",
        {"stream": "streams", "datagram": "datagrams", "pipe": "pipes"},
    ),
    _now("listeners", "listeners", "Sockets that accept connections."),
    _now("paused", "paused_transports", "Transports whose reading is paused."),
    _now("buffered_bytes", "buffered_bytes", "Bytes that transports hold until they can be sent."),
)


class _Figures(NamedTuple):
    """The figures of one loop."""

    name: str
    stats: dict[str, int]
    latency: Latency
    durations: Durations | None     # None: the loop does not measure them

    @classmethod
    def of(cls, name: str, loop: EventLoop) -> _Figures:
        durations = None
        with contextlib.suppress(RuntimeError):
            durations = loop.durations()
        return cls(name, loop.stats(), loop.latency(), durations)


class _Times(NamedTuple):
    """A metric with a histogram."""

    name: str
    help: str
    histogram: Callable[[_Figures], Histogram | None]


TIMES = (
    _Times(
        "delay_seconds",
        "How long the loop worked before it looked for events again. An event that came meanwhile "
        "waited for so long at most.",
        lambda figures: figures.latency.turns,
    ),
    _Times(
        "timer_delay_seconds", "How late timers were.",
        lambda figures: figures.latency.timers,
    ),
    _Times(
        "callback_seconds", "How long callbacks took, in a loop with the option durations.",
        lambda figures: figures.durations and figures.durations.callbacks,
    ),
    _Times(
        "event_seconds",
        "How long the events of connections took, in a loop with the option durations.",
        lambda figures: figures.durations and figures.durations.events,
    ),
)


class Collector(registry.Collector):
    """A collector of prometheus_client for one event loop or several.

    Args:
        loop: an event loop of mioloop, or None.
        name: the value of the label `loop` for this loop.

    A registry takes one such collector: add further loops to it by `add`.
    """

    def __init__(self, loop: EventLoop | None = None, name: str = "main") -> None:
        self._loops = NamedLoops()
        if loop is not None:
            self.add(loop, name)

    def add(self, loop: EventLoop, name: str) -> None:
        """Show the figures of *loop*, too, with *name* as the value of the label `loop`.

        Raises TypeError if *loop* is not a loop of mioloop, and ValueError if another loop has
        the name or the loop has another name.
        """
        self._loops.add(loop, name)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all loops, as prometheus_client asks for them."""
        return self._metrics(self._loops)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values: a registry finds names that are there twice."""
        return self._metrics(())

    def _metrics(self, loops: Iterable[tuple[str, EventLoop]]) -> Iterator[Metric]:
        figures = [_Figures.of(name, loop) for name, loop in loops]
        for family in FAMILIES:
            labels = ["loop"] if "" in family.keys else ["loop", "kind"]
            metric = family.make(PREFIX + family.name, family.help, labels=labels)
            for each in figures:
                for kind, key in family.keys.items():
                    values = [each.name, kind] if kind else [each.name]
                    metric.add_metric(values, each.stats[key] * family.unit)
            yield metric
        for times in TIMES:
            shown = HistogramMetricFamily(PREFIX + times.name, times.help, labels=["loop"])
            for each in figures:
                histogram = times.histogram(each)
                if histogram is not None:
                    histogram = histogram.copy()
                    shown.add_metric([each.name], cumulative(histogram), histogram.sum)
            yield shown


def cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Return (bound, number of durations up to it) for each of `BOUNDS` and for "+Inf"."""
    found: list[tuple[str, float]] = []
    buckets = iter([*histogram.buckets(), (float("inf"), 0)])
    limit, count = next(buckets)
    up_to = 0
    for bound in BOUNDS:
        while limit <= bound:
            up_to += count
            limit, count = next(buckets)
        found.append((repr(bound), up_to))
    found.append(("+Inf", histogram.count))
    return found
