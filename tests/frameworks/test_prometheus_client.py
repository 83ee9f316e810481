"""mioloop.prometheus with prometheus_client: the figures of loops, as Prometheus reads them."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from mioloop.loop.event_loop import EventLoop
from mioloop.reactor.histogram import Histogram

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from mioloop.prometheus import BOUNDS, FAMILIES, PREFIX, Collector, cumulative

LIMIT_S = 20.0
STATES = ("idle", "active")


def registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def value(collector: Collector, name: str, loop: str = "main", **labels: str) -> float | None:
    found: float | None = registry_of(collector).get_sample_value(
        f"{PREFIX}{name}", {"loop": loop, **labels}
    )
    return found


def loops_in(collector: Collector) -> set[str]:
    return {sample.labels["loop"] for metric in collector.collect() for sample in metric.samples}


@pytest.fixture
def other_loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


# -- values --------------------------------------------------------------------------------------


def test_every_figure_of_the_loop_is_shown(mioloop_loop: Any) -> None:
    shown = {key for family in FAMILIES for key in family.keys.values()}
    assert shown == mioloop_loop.stats().keys()


async def echo_once(size: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(size))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * size)
    await reader.readexactly(size)
    collector = Collector(asyncio.get_running_loop())  # type: ignore[arg-type]
    assert value(collector, "transports", kind="stream") == 2
    assert value(collector, "listeners") == 1
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_values_are_those_of_the_loop(mioloop_loop: Any, run: Any) -> None:
    collector = Collector(mioloop_loop)
    run(mioloop_loop, echo_once(1000))
    assert value(collector, "received_bytes_total") == 2000
    assert value(collector, "sent_bytes_total") == 2000
    assert value(collector, "accepted_connections_total") == 1
    stats = mioloop_loop.stats()
    assert value(collector, "turns_total") == stats["turns"]
    assert value(collector, "idle_seconds_total") == pytest.approx(stats["idle_ns"] / 1e9)
    assert value(collector, "work_seconds_total", kind="events") == pytest.approx(
        stats["events_ns"] / 1e9, rel=0.1
    )
    turns = mioloop_loop.latency().turns
    assert value(collector, "delay_seconds_count") == turns.count
    assert value(collector, "delay_seconds_sum") == pytest.approx(turns.sum)
    assert value(collector, "delay_seconds_bucket", le="+Inf") == turns.count


def test_durations_are_shown_for_the_loops_that_measure_them(
    mioloop_loop: Any, run: Any
) -> None:
    timed = EventLoop(durations=True)
    try:
        collector = Collector(mioloop_loop, "plain")
        collector.add(timed, "timed")
        for loop in (mioloop_loop, timed):
            run(loop, asyncio.sleep(0))
        durations = timed.durations()
        assert value(collector, "callback_seconds_count", "timed") == durations.callbacks.count > 0
        assert value(collector, "event_seconds_count", "timed") == durations.events.count
        assert value(collector, "callback_seconds_count", "plain") is None
    finally:
        timed.close()


def test_stalls_are_counted() -> None:
    loop = EventLoop(stall=0.02)
    collector = Collector(loop)
    ended = threading.Event()
    loop.on_stall = lambda stall: ended.set() if stall.ended else None
    loop.call_soon(time.sleep, 0.2)
    loop.run_until_complete(asyncio.sleep(0.01))
    # The watch sees the end of the stall at its next look.
    loop.run_until_complete(loop.run_in_executor(None, ended.wait, LIMIT_S))
    assert value(collector, "stalls_total") >= 1
    assert 0.15 < (value(collector, "stalled_seconds_total") or 0) < LIMIT_S
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_time_never_falls_while_it_is_read(mioloop_loop: Any) -> None:
    """Prometheus would take a fall for a restart of the program."""
    collector = Collector(mioloop_loop)
    ended = threading.Event()
    seen: list[tuple[float | None, ...]] = []

    def read() -> None:
        while not ended.is_set():
            seen.append(tuple(value(collector, f"{each}_seconds_total") for each in STATES))

    reader = threading.Thread(target=read)
    reader.start()

    async def work() -> None:
        for _ in range(100):
            await asyncio.sleep(0.002)

    mioloop_loop.run_until_complete(work())
    ended.set()
    reader.join()
    for totals in zip(*seen):
        assert list(totals) == sorted(totals)


# -- histograms ----------------------------------------------------------------------------------


def test_buckets_err_by_the_width_of_a_fine_bucket_at_most() -> None:
    chance = random.Random(5)
    durations = [10 ** chance.uniform(-6, 2) for _ in range(2000)]
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    shown = cumulative(histogram)
    assert [float(bound) for bound, _ in shown] == [*BOUNDS, float("inf")]
    for bound, count in shown:
        assert count <= sum(each <= float(bound) for each in durations)
        assert count >= sum(each * 1.0625 + 1e-9 <= float(bound) for each in durations)
    assert shown[-1][1] == len(durations)


def test_buckets_of_an_empty_histogram_are_zero() -> None:
    assert {count for _, count in cumulative(Histogram())} == {0}


# -- loops ---------------------------------------------------------------------------------------


def test_two_loops_have_the_names_that_they_were_given(
    mioloop_loop: Any, other_loop: EventLoop
) -> None:
    collector = Collector(mioloop_loop, name="web")
    collector.add(other_loop, "worker")
    collector.add(other_loop, "worker")
    mioloop_loop.run_until_complete(asyncio.sleep(0))
    assert loops_in(collector) == {"web", "worker"}
    assert value(collector, "turns_total", "worker") == 0
    assert value(collector, "turns_total", "web")


def test_names_are_unique(mioloop_loop: Any, other_loop: EventLoop) -> None:
    collector = Collector(mioloop_loop, name="web")
    with pytest.raises(ValueError, match="'web' belongs to another loop"):
        collector.add(other_loop, "web")
    with pytest.raises(ValueError, match="has the name 'web' already"):
        collector.add(mioloop_loop, "worker")


def test_a_loop_of_asyncio_is_refused() -> None:
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="must be an event loop of mioloop"):
        Collector(loop)  # type: ignore[arg-type]
    loop.close()


def test_a_closed_loop_disappears_and_its_name_is_free(other_loop: EventLoop) -> None:
    collector = Collector(other_loop)
    other_loop.close()
    assert loops_in(collector) == set()
    assert registry_of(collector).get_sample_value(f"{PREFIX}turns_total") is None
    another = EventLoop()
    collector.add(another, "main")
    assert loops_in(collector) == {"main"}
    another.close()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_the_collector_keeps_no_loop_alive() -> None:
    loop = EventLoop()
    collector = Collector(loop)
    assert loops_in(collector) == {"main"}
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    assert alive() is None
    assert loops_in(collector) == set()


# -- from other threads --------------------------------------------------------------------------


def test_a_loop_that_is_blocked_is_read(mioloop_loop: Any) -> None:
    """The server of prometheus_client answers by a thread of its own."""
    server, thread = start_http_server(
        0, addr="127.0.0.1", registry=registry_of(Collector(mioloop_loop))
    )
    blocks, read = threading.Event(), threading.Event()

    def block() -> None:
        blocks.set()
        assert read.wait(LIMIT_S)

    def scrape() -> str:
        url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
        answer: str = urllib.request.urlopen(url, timeout=LIMIT_S).read().decode()
        return answer

    answers = []

    def scrape_meanwhile() -> None:
        assert blocks.wait(LIMIT_S)
        try:
            answers.extend([scrape(), scrape()])
        finally:
            read.set()

    other = threading.Thread(target=scrape_meanwhile)
    other.start()
    mioloop_loop.call_soon(block)
    mioloop_loop.run_until_complete(asyncio.sleep(0))
    other.join()
    server.shutdown()
    server.server_close()
    thread.join()
    name = f'\n{PREFIX}active_seconds_total{{loop="main"}} '
    first, second = (float(answer.split(name)[1].split()[0]) for answer in answers)
    assert 0 < first < second               # it is at work all the time


def test_scrapes_while_loops_come_and_go() -> None:
    collector = Collector()
    ends = threading.Event()
    failures: list[Exception] = []

    def scrape() -> None:
        while not ends.is_set():
            try:
                generate_latest(registry_of(collector))
            except Exception as exc:
                failures.append(exc)

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(30):
        loop = EventLoop()
        collector.add(loop, f"loop {number}")
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
    ends.set()
    for thread in threads:
        thread.join()
    assert failures == []


# -- as prometheus_client wants it -----------------------------------------------------------------


def test_a_registry_takes_one_collector_only(mioloop_loop: Any) -> None:
    registry = registry_of(Collector(mioloop_loop))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(mioloop_loop))


def test_each_metric_has_the_prefix_and_a_sentence() -> None:
    metrics = list(Collector().collect())
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.name.startswith(PREFIX)
        assert metric.documentation[0].isupper() and metric.documentation.endswith(".")


def test_promtool_finds_no_fault(mioloop_loop: Any) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry_of(Collector(mioloop_loop))),
        capture_output=True, timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr + done.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("module", "library"),
    [("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")],
)
def test_a_missing_library_is_named_with_its_extra(module: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import mioloop.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'mioloop[{module}]'" in done.stderr.splitlines()[-1]


def test_importing_mioloop_imports_neither_library() -> None:
    code = (
        "import sys, mioloop; mioloop.new_event_loop().close()\n"
        "assert not {'prometheus_client', 'opentelemetry'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
