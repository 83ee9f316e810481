"""``--html``: a self-contained page, without other files, network access or scripts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from mioloop.compare.report import drawing
from mioloop.compare.report.figures import (
    GOAL_HEADINGS,
    Columns,
    legend,
    number,
    seconds,
    verdict,
    without_io_uring,
)
from mioloop.compare.report.groups import SKIPPED, Group, group
from mioloop.compare.report.headline import sentences
from mioloop.compare.report.statistics import Spread
from mioloop.compare.report.summary import CaseSummary, Line, from_json

STYLE = """
:root { color-scheme: light dark; --good: #047857; --bad: #b91c1c; --open: #92400e; }
@media (prefers-color-scheme: dark) {
  :root { --good: #34d399; --bad: #f87171; --open: #fbbf24; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 1.5rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 .5rem; }
h1, .lead, .note, dd { overflow-wrap: anywhere; }
.kind { margin: 0; opacity: .7; }
.lead { font-size: 1.1rem; margin: .2rem 0; }
.faster, .less, .reached { color: var(--good); }
.slower, .more, .failed, .missed { color: var(--bad); }
.undecided, .too-few { color: var(--open); }
.baseline, .skipped, .unmeasured { opacity: .75; }

.chart { display: flex; gap: 1.5rem; align-items: flex-start; margin: 1.5rem 0; }
.plot { flex: 1; min-width: 0; }
.plot h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.case { display: grid; grid-template-columns: 13rem 1fr; align-items: center; gap: 0 .6rem; }
.plot .case span { text-align: right; font-size: 13px; line-height: 1.2; }
.case svg { display: block; }
.bars.undecided rect, .bars.too-few rect, .faint rect { opacity: .4; }
.bars { color: inherit; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
svg .grid { stroke: currentColor; opacity: .2; }
svg .one { stroke: currentColor; stroke-width: 1.5; }
.interval line { stroke: currentColor; stroke-width: 1.2; }
.legend { flex: 0 0 17rem; padding: .6rem .9rem; border: 1px solid #8886; font-size: 14px; }
.legend ul { list-style: none; margin: .3rem 0 0; padding: 0; }
.legend li { display: grid; grid-template-columns: 40px 1fr; gap: .6rem; margin: .4rem 0;
  line-height: 1.35; }
.legend svg { margin-top: 2px; }
.key { width: 14px; height: 14px; margin: 2px 0 0 13px; }

table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.results td:first-child, .results thead th:first-child { position: sticky; left: 0;
  background: Canvas; }
thead th { border-bottom: 2px solid; white-space: normal; vertical-align: bottom; }
tr.case-name th { text-align: left; padding-top: .8rem; border-bottom: 1px solid #8884; }
tr.group th { text-align: left; padding-top: 2.2rem; font-size: 1.15rem;
  border-bottom: 2px solid; }
tr th > span { position: sticky; left: .5rem; display: inline-block; white-space: normal;
  max-width: calc(100vw - 3rem); }
tr small, .plot small { font-weight: normal; opacity: .75; }
tr.group small { font-size: 14px; }
td.reason { text-align: left; white-space: normal; }
.scroll { overflow-x: auto; }
.goals th, .goals td { text-align: left; white-space: normal; }
dl.environment { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { opacity: .7; } dd { margin: 0; }
pre { overflow-x: auto; padding: .6rem; background: #8882; }
.scaling svg { max-width: 100%; height: auto; }

@media (max-width: 44rem) {
  h1 { font-size: 1.3rem; }
  .chart { flex-direction: column-reverse; margin-inline: 0; }
  .plot, .legend { width: 100%; flex: none; }
  .case { grid-template-columns: 1fr; }
  .plot .case span { text-align: left; padding-top: .3rem; }
  dl.environment { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
}
"""


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.median:.2f}x <small>({ratio.low:.2f}-{ratio.high:.2f})</small>"


def _goals(goals: list[dict[str, str]]) -> str:
    if not goals:
        return ""
    rows = "".join(
        f'<tr class="{escape(each["verdict"].replace("not measured", "unmeasured"))}">'
        + "".join(
            f"<td>{escape(each[name])}</td>"
            for name in ("text", "wanted", "measured", "verdict", "best")
        )
        + "</tr>"
        for each in goals
    )
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in GOAL_HEADINGS)
    return (
        f'<h2>Goals</h2><div class="scroll"><table class="goals"><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(case: CaseSummary, line: Line, columns: Columns) -> str:
    if line.failed or line.skipped:
        text = escape(line.failed or line.skipped)
        return (
            f'<tr class="{escape(line.verdict)}"><td>{escape(line.loop)}</td>'
            f'<td class="reason" colspan="{len(columns.headings) - 1}">{text}</td></tr>'
        )
    cells = [escape(line.loop)]
    if line.bytes is not None:
        cells += [f"{line.bytes:,.0f} B", "", "", "", ""]
    else:
        cells.append(number(line.rate))
        cells += [seconds(line.latencies_s.get(name)) for name in ("p50_s", "p99_s", "p999_s")]
        split = ""
        if line.user_s is not None:
            split = f" <small>({seconds(line.user_s)} + {seconds(line.system_s)})</small>"
        cells.append(seconds(line.cpu_s) + split)
    if columns.syscalls:
        cells.append("" if line.syscalls is None else f"{line.syscalls:.2f}")
    cells.append(_ratio(line.ratio))
    if columns.io_uring:
        other = case.without_io_uring(line.loop)
        shown = other is not None and _ratio(other.ratio)
        cells.append(shown or escape(without_io_uring(case, line)))
    cells += [_ratio(line.cpu_ratio), escape(line.verdict)]
    if line.cpu_verdict in ("less", "more"):
        cells[-1] += f", {line.cpu_verdict} CPU"
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{escape(verdict(line).split()[0] if verdict(line) else "")}">{body}</tr>'


def _table(groups: Sequence[Group], columns: Columns) -> str:
    """A body of the table for each group. The rows that decide nothing come last."""
    width = len(columns.headings)
    bodies = []
    for each in groups:
        rows = []
        if each.title:
            rows.append(
                f'<tr class="group"><th colspan="{width}" scope="rowgroup"><span>'
                f"{escape(each.title)} <small>{escape(each.reason)}</small></span></th></tr>"
            )
        for case, lines in each.cases:
            if each.kind == SKIPPED:        # as a rule, all loops for one reason
                reasons = "; ".join(dict.fromkeys(line.skipped for line in lines))
                rows.append(
                    f'<tr class="skipped"><td>{escape(case.name)}</td>'
                    f'<td class="reason" colspan="{width - 1}">{escape(reasons)}</td></tr>'
                )
                continue
            rows.append(
                f'<tr class="case-name"><th colspan="{width}"><span>{escape(case.name)}'
                f" <small>{escape(case.text)}</small></span></th></tr>"
            )
            rows += [_row(case, line, columns) for line in lines]
        bodies.append(f'<tbody class="of-{each.kind}">{"".join(rows)}</tbody>')
    headings = [
        heading.replace("CPU each", "CPU each (user + system)") for heading in columns.headings
    ]
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return (
        f'<div class="scroll"><table class="results"><thead><tr>{head}</tr></thead>'
        f'{"".join(bodies)}</table></div>'
    )


def _notes(cases: Sequence[CaseSummary]) -> str:
    of_note: dict[str, list[str]] = {}
    for case in cases:
        for line in case.lines:
            for note in line.notes:
                amount = f" ({note.amount})" if note.amount else ""
                names = of_note.setdefault(note.text, [])
                names.append(f"{case.name}, {line.loop}{amount}")
    return "".join(
        f'<li class="note"><details><summary>{escape(text)}: {len(names)}</summary>'
        f"{escape('; '.join(names))}</details></li>"
        for text, names in of_note.items()
    )


def _environment(host: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in host["packages"].items())
    entries = {
        **{name: value for name, value in host.items() if name not in ("command", "packages")},
        "packages": packages,
    }
    return "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in entries.items()
    )


def render(document: dict[str, Any]) -> str:
    """Return the page for the data that --json writes."""
    cases, base = from_json(document), document["options"]["base"]
    columns, groups = Columns.of(cases, base), group(cases, base)
    first, *others = sentences(cases, base)
    scaling = drawing.scaling(cases)
    warnings = "".join(
        f'<li class="note failed">{escape(text)}</li>' for text in document["warnings"]
    )
    options = ", ".join(f"{name} {value}" for name, value in document["options"].items())
    data = json.dumps(document).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Event loops compared</title>
<style>{STYLE}</style>
<p class="kind">Event loops compared</p>
<h1>{escape(first)}</h1>
{"".join(f'<p class="lead">{escape(text)}</p>' for text in others)}
<ul>{warnings}</ul>
{drawing.ratios(group(cases, base, by_rate=True), base)}
<p>{escape(legend(columns))}</p>
{_table(groups, columns)}
{_goals(document["goals"])}
{f'<h2>Scaling</h2><p>CPU for one.</p><div class="scaling">{scaling}</div>' if scaling else ""}
<h2>Notes</h2>
<ul>{_notes(cases)}</ul>
<h2>Environment</h2>
<pre>{escape(shlex.join(document["environment"]["command"]))}</pre>
<dl class="environment">{_environment(document["environment"])}
<dt>options</dt><dd>{escape(options)}</dd></dl>
<script type="application/json" id="figures">{data}</script>
</html>
"""
