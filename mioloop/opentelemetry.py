"""The figures of event loops for OpenTelemetry::

    from mioloop.opentelemetry import instrument

    instrument(loop)

The instruments have the names, units and meanings that OpenTelemetry's semantic conventions give
to the instruments of Node's event loop, with ``asyncio.eventloop.`` in the place of
``nodejs.eventloop.``:

- ``asyncio.eventloop.utilization``: active time divided by active and idle time.
- ``asyncio.eventloop.time``: seconds in each ``asyncio.eventloop.state``, "active" or "idle".
- ``asyncio.eventloop.delay.min``, ``max``, ``mean``, ``stddev``, ``p50``, ``p90``, ``p99``: for how
  many seconds the loop worked before it looked for events again, as `EventLoop.latency` says.
- ``asyncio.eventloop.stalls``: the stalls that the stall watch has reported. Node has none.

Utilization and delay are those since the last collection. No delay is reported for a time in which
the loop did nothing. Each observation has the attribute ``asyncio.eventloop.name``.

Delays come from buckets that are at most 6.25 % wide. So a value, other than the mean, may be up to
6.25 % too great.

The instruments read the figures when a reader asks, from any thread, also while the loop is
blocked. They keep no loop alive: a loop that is closed or freed is not observed any more.

Needs opentelemetry-api: ``pip install 'mioloop[opentelemetry]'``.
"""

from __future__ import annotations

import importlib.metadata
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mioloop.loop.figures import Utilization
from mioloop.named_loops import NamedLoops

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
except ImportError as exc:
    raise ImportError(
        "mioloop.opentelemetry needs opentelemetry-api: pip install 'mioloop[opentelemetry]'",
        name="opentelemetry",
    ) from exc

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop
    from mioloop.reactor.histogram import Histogram

PREFIX = "asyncio.eventloop."
NAME = PREFIX + "name"
STATE = PREFIX + "state"

# An SDK ignores the second instrument with the name of another, and its callback. So the loops of
# a provider share the instruments.
_lock = threading.Lock()
_of_global: list[NamedLoops] = []       # of the provider that is the global one, or will be
_of_provider: weakref.WeakKeyDictionary[MeterProvider, NamedLoops] = weakref.WeakKeyDictionary()


def instrument(
    loop: EventLoop, name: str = "main", *, meter_provider: MeterProvider | None = None
) -> None:
    """Observe *loop* by asynchronous instruments of OpenTelemetry.

    Args:
        loop: an event loop of mioloop.
        name: the value of the attribute ``asyncio.eventloop.name``.
        meter_provider: the provider that makes the instruments; default: the global one, which
            the program may also set later.

    Raises TypeError if *loop* is not a loop of mioloop, and ValueError if another loop has
    the name or the loop has another name.
    """
    with _lock:
        loops = _loops_of(meter_provider)
    loops.add(loop, name)


def _loops_of(provider: MeterProvider | None) -> NamedLoops:
    if provider is None or provider is metrics.get_meter_provider():
        if not _of_global:
            loops = NamedLoops()
            _make_instruments(loops, None)
            _of_global.append(loops)
        return _of_global[0]
    found = _of_provider.get(provider)
    if found is None:
        found = NamedLoops()
        _make_instruments(found, provider)
        _of_provider[provider] = found
    return found


def _make_instruments(loops: NamedLoops, provider: MeterProvider | None) -> None:
    version = importlib.metadata.version("mioloop")
    meter = metrics.get_meter("mioloop", version, provider)
    for name, (text, value) in _DELAYS.items():
        meter.create_observable_gauge(
            f"{PREFIX}delay.{name}", [_Delay(loops, value)], "s", f"Event loop {text} delay."
        )
    meter.create_observable_gauge(
        PREFIX + "utilization", [_UtilizationSince(loops)], "1", "Event loop utilization."
    )
    meter.create_observable_counter(
        PREFIX + "time", [_Time(loops)], "s",
        "Cumulative duration of time the event loop has been in each state.",
    )
    meter.create_observable_counter(
        PREFIX + "stalls", [_Stalls(loops)], "{stall}",
        "Callbacks that the stall watch has reported as too long.",
    )


# -- callbacks -------------------------------------------------------------------


class _Time:
    def __init__(self, loops: NamedLoops) -> None:
        self._loops = loops

    def __call__(self, options: CallbackOptions) -> Iterator[Observation]:
        for name, loop in self._loops:
            stats = loop.stats()
            for state in ("active", "idle"):
                yield Observation(stats[f"{state}_ns"] / 1e9, {NAME: name, STATE: state})


class _Stalls:
    def __init__(self, loops: NamedLoops) -> None:
        self._loops = loops

    def __call__(self, options: CallbackOptions) -> Iterator[Observation]:
        for name, loop in self._loops:
            yield Observation(loop.stats()["stalls"], {NAME: name})


class _UtilizationSince:
    """Each call yields the utilization since the last one; the first, since the loop was made."""

    def __init__(self, loops: NamedLoops) -> None:
        self._loops = loops
        self._before: weakref.WeakKeyDictionary[EventLoop, Utilization]
        self._before = weakref.WeakKeyDictionary()

    def __call__(self, options: CallbackOptions) -> Iterator[Observation]:
        for name, loop in self._loops:
            now = loop.utilization()
            before = self._before.get(loop, Utilization(0.0, 0.0, 0.0))
            self._before[loop] = now
            since = Utilization.of(now.idle - before.idle, now.active - before.active)
            yield Observation(since.utilization, {NAME: name})


class _Delay:
    """A figure of the delays since the last call. It needs no call of another instrument's."""

    def __init__(self, loops: NamedLoops, value: Callable[[Delays], float]) -> None:
        self._loops = loops
        self._figure = value
        self._before: weakref.WeakKeyDictionary[EventLoop, Histogram]
        self._before = weakref.WeakKeyDictionary()

    def __call__(self, options: CallbackOptions) -> Iterator[Observation]:
        for name, loop in self._loops:
            now = loop.latency().turns.copy()
            delays = Delays.between(self._before.get(loop), now)
            self._before[loop] = now
            if delays.count:
                yield Observation(self._figure(delays), {NAME: name})


@dataclass(frozen=True)
class Delays:
    """The durations that a histogram has received in a span of time."""

    buckets: list[tuple[float, int]]
    count: int
    sum: float
    longest: float

    @classmethod
    def between(cls, before: Histogram | None, now: Histogram) -> Delays:
        """The durations of *now* that are not in *before*; all of them after a reset()."""
        counts = dict(now.buckets())
        earlier = dict(before.buckets()) if before is not None else {}
        if before is None or any(counts.get(limit, 0) < n for limit, n in earlier.items()):
            return cls(now.buckets(), now.count, now.sum, now.max)
        buckets = [
            (limit, n - earlier.get(limit, 0))
            for limit, n in counts.items()
            if n > earlier.get(limit, 0)
        ]
        return cls(buckets, now.count - before.count, now.sum - before.sum, now.max)

    def percentile(self, percent: float) -> float:
        rank = max(1, math.ceil(percent / 100 * self.count))
        seen = 0
        for limit, n in self.buckets:
            seen += n
            if seen >= rank:
                return min(limit, self.longest)
        return self.longest

    def mean(self) -> float:
        return self.sum / self.count

    def deviation(self) -> float:
        """The standard deviation of the limits of the buckets."""
        mean = sum(limit * n for limit, n in self.buckets) / self.count
        return math.sqrt(sum((limit - mean) ** 2 * n for limit, n in self.buckets) / self.count)


_DELAYS: dict[str, tuple[str, Callable[[Delays], float]]] = {
    "min": ("minimum", lambda delays: delays.percentile(0)),
    "max": ("maximum", lambda delays: delays.percentile(100)),
    "mean": ("mean", Delays.mean),
    "stddev": ("standard deviation", Delays.deviation),
    "p50": ("50 percentile", lambda delays: delays.percentile(50)),
    "p90": ("90 percentile", lambda delays: delays.percentile(90)),
    "p99": ("99 percentile", lambda delays: delays.percentile(99)),
}
