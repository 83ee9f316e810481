"""examples/observe: the dashboard for Grafana, and the application that it shows.

tests/services/test_prometheus.py sends each query of the dashboard to a real Prometheus.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.examples.dashboard import FILE, Query, dashboard, queries

DIRECTORY = FILE.parent


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names of all samples of the collector."""
    pytest.importorskip("prometheus_client")
    from mioloop.loop.event_loop import EventLoop
    from mioloop.prometheus import Collector

    loop = EventLoop()
    found = {each.name for metric in Collector(loop).collect() for each in metric.samples}
    loop.close()
    return found


@pytest.mark.parametrize("query", queries(), ids=str)
def test_the_collector_has_each_metric_of_the_dashboard(query: Query, names: set[str]) -> None:
    assert query.names() and query.names() <= names


def test_the_collector_has_each_metric_of_the_variables(names: set[str]) -> None:
    for variable in dashboard()["templating"]["list"]:
        assert set(re.findall(r"\basyncio_\w+", variable["definition"])) <= names


@pytest.mark.parametrize("query", queries(), ids=str)
def test_each_query_selects_by_all_variables(query: Query) -> None:
    selectors = re.findall(r"\basyncio_\w+\{([^}]*)\}", query.expression)
    assert len(selectors) == len(re.findall(r"\basyncio_\w+", query.expression))
    assert set(selectors) == {'job=~"$job", instance=~"$instance", loop=~"$loop"'}
    assert "{{loop}}" in query.legend
    if "_total" in query.expression or "_bucket" in query.expression:
        assert query.expression.count("rate(") == len(selectors)


def test_the_dashboard_has_the_form_of_an_export() -> None:
    """The source of data is an input, which Grafana asks for when it imports the file."""
    board = dashboard()
    (source,) = board["__inputs"]
    assert (source["name"], source["pluginId"]) == ("DS_PROMETHEUS", "prometheus")
    assert {each["id"] for each in board["__requires"] if each["type"] == "panel"} == {
        panel["type"] for panel in board["panels"]
    }
    assert board["id"] is None and board["uid"] and board["title"]
    assert board["schemaVersion"] >= 36
    uses = [*board["panels"], *board["templating"]["list"]]
    uses += [target for panel in board["panels"] for target in panel["targets"]]
    for each in uses:
        assert each["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24
        assert panel["description"].endswith(".")
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )


def test_the_readme_names_every_file() -> None:
    text = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in DIRECTORY.iterdir() if path.is_file()}
    for name in files - {"README.md", "__init__.py"}:
        assert f"`{name}`" in text, name


def test_the_readme_has_the_address_of_the_configuration() -> None:
    """The port of the application is the one that prometheus.yml scrapes."""
    scraped = re.findall(r"127\.0\.0\.1:\d+", (DIRECTORY / "prometheus.yml").read_text())
    assert scraped == ["127.0.0.1:8080"]
    text = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert "http://127.0.0.1:8080/" in text
    program = Path(DIRECTORY / "app.py").read_text(encoding="utf-8")
    assert "default=8080" in program
