"""The HTML page: its headline, legend, groups and columns, from made-up results."""

from __future__ import annotations

import re
import xml.dom.minidom
from html.parser import HTMLParser

from mioloop.compare.measure import environment
from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.runner import CaseResult
from mioloop.compare.report.html import render
from mioloop.compare.report.summary import as_json, standings, summarize
from tests.compare.report.results import FAILED, SKIPPED, WIDE, WIDE_LESS_CPU, measured

OFF = "mioloop:io_uring=off"
VOID = ("meta", "br", "link", "rect", "line", "polyline")


class Page(HTMLParser):
    """The text of a page by the way from the root: names of elements and their classes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.path: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.drawn: list[tuple[str, str]] = []      # tag and path of each shape
        self.rows: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert self.path == ["html"] or self.path == [], self.path

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.drawn.append((tag, "/".join(self.path)))
        if tag in VOID:
            return
        of = dict(attrs)
        self.path.append(f"{tag}.{of['class']}" if of.get("class") else tag)
        if tag == "tr":
            self.rows.append(("/".join(self.path), []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.path.pop().partition(".")[0] == tag

    def handle_data(self, data: str) -> None:
        path = "/".join(self.path)
        self.texts.append((path, data))
        if re.search(r"/t[dh](\.[^/]*)?(/|$)", path):
            self.rows[-1][1][-1] += data

    def text(self, place: str) -> str:
        """The text of all elements that have *place* in their path."""
        joined = "".join(data for path, data in self.texts if place in path)
        return " ".join(joined.split())

    def bodies(self) -> dict[str, list[list[str]]]:
        """The rows of the table of results, by the kind of their group."""
        found: dict[str, list[list[str]]] = {}
        for path, cells in self.rows:
            if match := re.search(r"tbody\.of-([a-z-]+)", path):
                found.setdefault(match[1], []).append(cells)
        return found


def page_of(*runs: CaseResult, base: str = "uvloop", warnings: tuple[str, ...] = ()) -> Page:
    cases = [summarize(each, base, 0.1, {OFF: "mioloop"}) for each in runs]
    options = {"base": base, "rounds": None, "io_uring": "on"}
    host = environment.describe(["python", "-m", "mioloop", "compare", "--html", "x.html"], [])
    document = as_json(host, options, list(zip(runs, cases)), standings(cases, base), warnings)
    text = render(document)
    for part in text.split("<svg")[1:]:
        xml.dom.minidom.parseString("<svg" + part[: part.index("</svg>") + len("</svg>")])
    return Page(text)


def mixed() -> Page:
    return page_of(
        measured("http", {"uvloop": 1.0, "asyncio": 0.5, "mioloop": 1.5, BASELINE: 3.0}, 64),
        measured("sleep-0", {"uvloop": 1.0, "asyncio": WIDE, "mioloop": 1.31}),
        measured("queue", {"uvloop": 1.0, "asyncio": WIDE, "mioloop": WIDE_LESS_CPU}),
        measured("udp", {"uvloop": 1.0, "asyncio": 0.5, "mioloop": FAILED, BASELINE: 2.0}, 1),
        measured("connect", {"uvloop": SKIPPED, "asyncio": SKIPPED, "mioloop": SKIPPED}),
        measured("quiet", {"uvloop": 1.0, "asyncio": 1.0, "mioloop": 1.0}),
        measured("unix", {"uvloop": FAILED, "asyncio": 0.5, "mioloop": 1.5}),
    )


def names_of(rows: list[list[str]]) -> list[str]:
    """The first cell of each row, without the explanation of a workload."""
    return [cells[0].partition(" ")[0] for cells in rows]


def test_headline_is_the_heading_and_other_loops_follow() -> None:
    page = mixed()

    assert page.text("h1").startswith("mioloop is faster than uvloop in 2 of 6 workloads, 1.4")
    assert page.text("p.lead").startswith("asyncio is slower than uvloop in 2 of 6 workloads")
    assert page.text("/title") == "Event loops compared"


def test_legend_explains_colours_bars_lines_and_direction() -> None:
    legend = mixed().text("figure.chart/figcaption.legend")

    for text in (
        "asyncio",
        "mioloop",
        "1x is uvloop. Right of it is better than uvloop",
        "A bar reaches from 1x to the median",
        "A line is the 95 % interval",
        "A faint bar decides nothing",
    ):
        assert text in legend


def test_faint_bars_are_explained_only_if_there_are_some() -> None:
    decided = page_of(measured("queue", {"uvloop": 1.0, "mioloop": 1.5}))

    assert "faint" not in decided.text("figcaption.legend")
    assert "Undecided" not in decided.text("div.plot")


def test_rows_that_decide_nothing_are_groups_of_their_own_at_the_end() -> None:
    bodies = mixed().bodies()

    assert list(bodies) == ["decided", "undecided", "no-ratio", "unjudged", "skipped", "baseline"]
    assert names_of(bodies["decided"]) == [
        "http", "uvloop", "asyncio", "mioloop",
        "sleep-0", "uvloop", "mioloop",
        "queue", "uvloop", "mioloop",
        "udp", "uvloop", "asyncio", "mioloop",
        "unix", "uvloop",
    ]
    assert names_of(bodies["undecided"]) == [
        "Undecided", "sleep-0", "uvloop", "asyncio", "queue", "uvloop", "asyncio",
    ]
    assert names_of(bodies["no-ratio"]) == ["No", "unix", "asyncio", "mioloop"]
    assert names_of(bodies["unjudged"])[1:] == ["quiet", "uvloop", "asyncio", "mioloop"]
    assert names_of(bodies["baseline"]) == ["For", "http", "C", "udp", "C"]


def test_every_group_says_why_it_decides_nothing() -> None:
    bodies = mixed().bodies()

    assert "The interval holds 1" in bodies["undecided"][0][0]
    assert "uvloop has no figure" in bodies["no-ratio"][0][0]
    assert bodies["skipped"] == [["Not measured "], ["connect", "no time was left"]]
    assert "plain C server" in bodies["baseline"][0][0]


def test_too_few_rounds_are_the_reason_of_a_group() -> None:
    page = page_of(measured("queue", {"uvloop": 1.0, "mioloop": 1.5}, rounds=2))
    bodies = page.bodies()

    assert list(bodies) == ["too-few"]
    assert "Fewer than 6 rounds decide nothing" in bodies["too-few"][0][0]
    assert names_of(bodies["too-few"])[1:] == ["queue", "uvloop", "mioloop"]
    assert "Too few rounds" in page.text("div.plot")


def test_chart_sets_bars_apart_if_the_rate_decides_nothing() -> None:
    page = mixed()
    bars = [path for tag, path in page.drawn if tag == "rect" and "div.plot" in path]

    # http, sleep-0 and udp; quiet has no ratio, and unix has no base
    assert sum("div.bars decided" in path for path in bars) == 2 + 1 + 1
    # sleep-0, and both of queue: only the processor time decides one of them, not the rate
    assert sum("div.bars undecided" in path for path in bars) == 1 + 2
    assert page.text("div.plot").index("udp x 1") < page.text("div.plot").index("Undecided")


def test_failure_is_shown_with_its_text_over_the_whole_row() -> None:
    (cells,) = (
        cells for cells in mixed().bodies()["decided"] if FAILED in cells and "mioloop" in cells
    )
    assert len(cells) == 2


def test_column_without_io_uring_stands_beside_the_ratio_of_mioloop() -> None:
    page = page_of(
        measured("http", {"uvloop": 1.0, "mioloop": 1.5, OFF: 1.25}, 64),
        measured("udp", {"uvloop": 1.0, "mioloop": 1.5, OFF: FAILED}, 64),
    )
    headings, http, _, of_mioloop, udp, _, of_failed = (cells for _, cells in page.rows)

    at = headings.index("without io_uring")
    assert headings[at - 1] == "against uvloop"
    assert of_mioloop[0] == "mioloop" and of_mioloop[at].startswith("1.25x")
    assert of_failed[at] == "failed"
    assert OFF not in page.text("h1") + page.text("figure.chart") + str(page.bodies())
    assert 'The column "without io_uring"' in page.text("/p")
    assert not [cells for _, cells in page.rows if len(cells) not in (1, len(headings))]


def test_column_without_io_uring_is_absent_if_it_was_not_measured() -> None:
    page = mixed()

    assert "without io_uring" not in page.text("html")
    assert "against uvloop" in page.rows[0][1]


def test_one_loop_makes_a_page_without_a_chart() -> None:
    page = page_of(measured("queue", {"mioloop": 1.0}), base="mioloop")

    assert page.text("h1") == "mioloop is compared with no other loop."
    assert "There is no chart" in page.text("/p")
    assert names_of(page.bodies()["decided"]) == ["queue", "mioloop"]


def test_text_of_results_is_escaped() -> None:
    page = page_of(
        measured("queue", {"uvloop": 1.0, "<b>&": 1.5}), warnings=("<script>alert(1)</script>",)
    )

    assert page.text("h1").startswith("<b>& is faster than uvloop")
    assert "<script>alert(1)" in page.text("li.note failed")
