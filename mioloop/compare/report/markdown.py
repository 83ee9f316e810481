"""``--report`` and ``--goals``: writes the results of a run as Markdown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mioloop.compare.measure.workloads import SCALING, SPIN
from mioloop.compare.report import chart, figures, goals, headline, html, summary
from mioloop.compare.report.summary import CaseSummary

# The marker before the table names the file of the goals, as seen from the document.
BEGIN = re.compile(r"^<!-- goals: (\S+), filled in by .*-->$", re.MULTILINE)
END = "<!-- end of goals -->"


def _split(path: Path) -> tuple[str, Path, str]:
    """The text up to the table of goals, the file of the goals, and the text behind the table."""
    text = path.read_text(encoding="utf-8")
    begin = BEGIN.search(text)
    end = text.find(END, begin.end()) if begin else -1
    if begin is None or end < 0:
        raise ValueError(
            f"{path} has no lines <!-- goals: FILE, filled in by ... --> and {END}, between which"
            " the table of goals is written"
        )
    return text[: begin.end()], path.parent / begin[1], text[end:]


def goals_of(path: Path) -> goals.Goals:
    """The goals that a Markdown file names in its marker.

    Raises:
        OSError: one of the two files cannot be read.
        ValueError: the document has no markers, or its file of goals is wrong.
    """
    return goals.read(_split(path)[1])


def fill_goals(path: Path, document: dict[str, Any]) -> None:
    """Replace the table of goals in a Markdown file."""
    before, _, after = _split(path)
    body = "\n".join(["", *_measured_on(document["environment"]), "", *_goals(document), ""])
    path.write_text(f"{before}\n{body}\n{after}", encoding="utf-8")


def write_report(
    directory: Path, document: dict[str, Any], cases: Sequence[CaseSummary], base: str
) -> None:
    """Write README.md, its charts, the HTML page and the figures to a directory."""
    directory.mkdir(exist_ok=True)
    for old in directory.glob("chart*.svg"):
        old.unlink()
    charts = chart.write(
        directory / "chart", chart.one_of_each_workload(cases), base, document["environment"],
        (".svg",),
    )
    (directory / "figures.json").write_text(summary.dump(document), encoding="utf-8")
    (directory / "index.html").write_text(html.render(document), encoding="utf-8")
    (directory / "README.md").write_text(
        "\n".join(_readme(document, cases, base, [each.name for each in charts])),
        encoding="utf-8",
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """A Markdown table. The first *left* columns are aligned to the left."""
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join("---" if i < left else "--:" for i in range(len(headings))) + "|"
    return [line(headings), rule, *map(line, rows)]


def _measured_on(host: dict[str, Any]) -> list[str]:
    return [
        f"Measured {host['time']} on {host['processor']}, {host['processors']} processors,"
        f" {host['system']}, {host['python']}"
        + (f", uvloop {host['packages']['uvloop']}." if "uvloop" in host["packages"] else "."),
    ]


def _goals(document: dict[str, Any]) -> list[str]:
    rows = [
        [each[name] for name in ("text", "wanted", "measured", "verdict", "best")]
        for each in document["goals"]
    ]
    return table(figures.GOAL_HEADINGS, rows, left=len(figures.GOAL_HEADINGS))


def _environment(host: dict[str, Any]) -> list[str]:
    entries = [
        (name.replace("_", " "), str(value))
        for name, value in host.items()
        if name not in ("command", "packages") and value is not None
    ]
    packages = ", ".join(f"{name} {version}" for name, version in host["packages"].items())
    return table(["", ""], [*entries, ("packages", packages)], left=2)


def _cases(cases: Sequence[CaseSummary], columns: figures.Columns) -> list[str]:
    """A table for each workload."""
    parts = []
    for name, group in groupby(cases, key=lambda case: case.workload):
        rows = []
        for case in group:
            text = case.text
            rows.append([f"**{case.name}**", *[""] * (len(columns.headings) - 1)])
            rows += [figures.row(case, line, columns) for line in case.rows]
        parts += [f"### {name}", "", f"{text[0].upper()}{text[1:]}.", ""]
        parts += [*table(columns.headings, rows), ""]
    return parts


def _readme(
    document: dict[str, Any], cases: Sequence[CaseSummary], base: str, charts: Sequence[str]
) -> list[str]:
    host = document["environment"]
    columns = figures.Columns.of(cases, base)
    plain = [case for case in cases if not case.family]
    spin = [case for case in cases if case.family == SPIN]
    scaling = [case for case in cases if case.family == SCALING]
    lines = [
        "# Benchmarks",
        "",
        "The results of the last `make bench`, losses included. This file is written by it."
        " [figures.json](figures.json) has every sample, and [index.html](index.html) shows the"
        " results as one page. [performance](../performance.md) explains how they are measured.",
        "",
        "```",
        shlex.join(host["command"]),
        "```",
        "",
        *_environment(host),
        "",
    ]
    lines += [f"- **{text}**" for text in document["warnings"]]
    lines += ["", figures.legend(columns), ""]
    if document["goals"]:
        lines += ["## Goals", "", *_goals(document), ""]
    lines += ["## Summary", "", headline.headline(cases, base), ""]
    standings = summary.standings(cases, base)
    lines += [f"- {figures.standing_text(each, base)}" for each in standings] + [""]
    lines += [f"![ratios to {base}]({name})" for name in charts if "scaling" not in name]
    lines += ["", "## Workloads", "", *_cases(plain, columns)]
    if spin:
        lines += ["## Latency, with and without `spin`", "", *_cases(spin, columns)]
    if scaling:
        lines += ["## Scaling", ""]
        lines += [f"![cost per unit]({name})" for name in charts if "scaling" in name]
        lines += ["", *_cases(scaling, columns)]
    lines += ["## Notes", "", *(f"- {text}" for text in figures.remarks(cases)), ""]
    return lines
