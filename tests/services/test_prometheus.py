"""A real Prometheus scrapes examples/observe/app.py: its figures, and the dashboard's queries."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from examples import local_servers
from tests.examples.dashboard import Query, queries
from tests.services.conftest import started

pytest.importorskip("prometheus_client")

pytestmark = [pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
REQUESTS = 250              # every hundredth blocks


@dataclass(frozen=True)
class Scraped:
    """An application, and the Prometheus that scrapes it."""

    app_port: int
    prometheus_port: int
    log: Path               # of the application

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.app_port}"

    def query(self, expression: str) -> list[Any]:
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query?"
        answer = urllib.request.urlopen(url + urlencode({"query": expression}), timeout=LIMIT_S)
        found = json.load(answer)
        assert found["status"] == "success"
        result: list[Any] = found["data"]["result"]
        return result

    def wait_for(self, expression: str) -> list[Any]:
        """The result of a query, as soon as it has one."""
        deadline = time.monotonic() + LIMIT_S
        while not (result := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression} has no result"
            time.sleep(0.2)         # until the next scrape
        return result

    def value(self, name: str, labels: str = "") -> float:
        (one,) = self.query(f"asyncio_eventloop_{name}{{{labels}}}")
        return float(one["value"][1])


async def use(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(REQUESTS):
            async with session.get(f"http://127.0.0.1:{port}/orders") as answer:
                assert answer.status == 200


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    log = tmp_path_factory.mktemp("observe") / "log"
    with log.open("w") as errors:
        app = subprocess.Popen(
            [sys.executable, "-m", "examples.observe.app", "--port", "0"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
        )
    try:
        assert app.stdout is not None
        port = json.loads(app.stdout.readline())["port"]
        configuration = (ROOT / "examples/observe/prometheus.yml").read_text()
        assert "127.0.0.1:8080" in configuration
        configuration = configuration.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        with started(lambda: local_servers.prometheus(configuration)) as server:
            found = Scraped(port, server.port, log)
            found.wait_for("asyncio_eventloop_turns_total")     # a rate needs a value before
            asyncio.run(asyncio.wait_for(use(port), LIMIT_S))
            found.wait_for(f"asyncio_eventloop_events_total > {REQUESTS}")
            yield found
    finally:
        app.send_signal(signal.SIGINT)
        try:
            assert app.wait(LIMIT_S) == 0
        finally:
            app.kill()
            app.wait()
            if app.stdout is not None:
                app.stdout.close()


def test_the_application_is_scraped(scraped: Scraped) -> None:
    (up,) = scraped.query("up")
    assert up["value"][1] == "1"
    assert up["metric"]["instance"] == scraped.instance
    (turns,) = scraped.query("asyncio_eventloop_turns_total")
    assert turns["metric"]["loop"] == "web"


def test_prometheus_has_the_figures_of_the_loop(scraped: Scraped) -> None:
    assert scraped.value("accepted_connections_total") >= 2     # the client, and Prometheus
    assert scraped.value("listeners") == 1
    assert scraped.value("received_bytes_total") > 100 * REQUESTS
    assert scraped.value("idle_seconds_total") > 0
    assert scraped.value("delay_seconds_count") > REQUESTS


def test_prometheus_has_the_stalls(scraped: Scraped) -> None:
    assert scraped.value("stalls_total") == REQUESTS // 100
    blocked = scraped.value("stalled_seconds_total")
    assert 0.2 * (REQUESTS // 100) < blocked < scraped.value("active_seconds_total")
    long = scraped.value("delay_seconds_count") - scraped.value("delay_seconds_bucket", 'le="0.25"')
    assert long >= REQUESTS // 100
    assert scraped.query("histogram_quantile(1, asyncio_eventloop_delay_seconds_bucket) > 0.25")


def test_the_log_names_the_line_that_blocks(scraped: Scraped) -> None:
    text = scraped.log.read_text()
    assert "mioloop.stall: the loop has been blocked for" in text
    assert re.search(r"app\.py:\d+ in write_report\(\)", text)


@pytest.mark.parametrize("query", queries(), ids=str)
def test_prometheus_answers_each_query_of_the_dashboard(scraped: Scraped, query: Query) -> None:
    found = scraped.wait_for(query.of(job="observe", instance=scraped.instance, loop="web"))
    for each in found:
        assert each["metric"].get("loop") == "web"
        assert not float(each["value"][1]) < 0      # NaN: a quantile, if no timer was due
