"""``--html``: a self-contained page, without other files, network access or scripts."""

from __future__ import annotations

import json
import shlex
from html import escape
from math import ceil, floor, log2, log10
from typing import Any

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.workloads import SCALING
from mioloop.compare.report.chart import BASELINE_COLOUR, COLOURS
from mioloop.compare.report.figures import GOAL_HEADINGS, LEGEND, number, seconds

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { position: sticky; top: 0; background: Canvas; border-bottom: 2px solid; }
tr.case th { text-align: left; padding-top: 1rem; border-bottom: 1px solid #8884; }
tr.case small { font-weight: normal; opacity: .7; }
.scroll { overflow-x: auto; }
.faster, .less, .reached { color: #059669; }
.slower, .more, .failed, .missed { color: #dc2626; }
.undecided { color: #b45309; } .baseline, .skipped, .unmeasured { opacity: .6; }
.goals th, .goals td { text-align: left; white-space: normal; }
.note, .environment dd { overflow-wrap: anywhere; }
dl.environment { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { opacity: .7; } dd { margin: 0; }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
pre { overflow-x: auto; padding: .6rem; background: #8882; }
"""

BAR, GAP, LEFT, WIDTH = 11, 8, 190, 900


def _ratio(ratio: dict[str, float] | None) -> str:
    if not ratio:
        return ""
    return f"{ratio['median']:.2f}x <small>({ratio['low']:.2f}-{ratio['high']:.2f})</small>"


def _is_compared(line: dict[str, Any]) -> bool:
    return bool(line["ratio"]) and line["loop"] != BASELINE


def _chart(cases: list[dict[str, Any]], base: str) -> str:
    """Bars that begin at the base, on a logarithmic scale."""
    rows = [
        (case["name"], [each for each in case["lines"] if _is_compared(each)])
        for case in cases
        if case["family"] != SCALING
    ]
    rows = [(name, lines) for name, lines in rows if lines]
    if not rows:
        return "<p>There is nothing to compare.</p>"
    loops = list(dict.fromkeys(line["loop"] for _, lines in rows for line in lines))
    ends = [
        abs(log2(line["ratio"][end]))
        for _, lines in rows
        for line in lines
        for end in ("low", "high")
        if line["ratio"][end] > 0
    ]
    reach = max(1.0, min(max(ends, default=1.0), 5.0))      # half the width, in doublings
    middle, unit = (LEFT + WIDTH) / 2, (WIDTH - LEFT) / 2 / reach

    def x(ratio: float) -> float:
        return middle + unit * max(-reach, min(reach, log2(max(ratio, 1e-9))))

    parts: list[str] = []
    y = 24.0
    for name, lines in rows:
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR}" text-anchor="end">{escape(name)}</text>')
        for line in lines:
            ratio = line["ratio"]
            ends_at = sorted((middle, x(ratio["median"])))
            colour = COLOURS[loops.index(line["loop"]) % len(COLOURS)]
            label = f"{line['loop']}: {ratio['median']:.2f}x"
            parts.append(
                f'<rect x="{ends_at[0]:.1f}" y="{y:.1f}" width="{ends_at[1] - ends_at[0]:.1f}"'
                f' height="{BAR - 2}" fill="{colour}"><title>{escape(label)}</title></rect>'
                f'<line x1="{x(ratio["low"]):.1f}" x2="{x(ratio["high"]):.1f}"'
                f' y1="{y + BAR / 2 - 1:.1f}" y2="{y + BAR / 2 - 1:.1f}" stroke="currentColor"/>'
            )
            y += BAR
        y += GAP
    scale = []
    for power in range(-int(reach), int(reach) + 1):
        at = x(2.0**power)
        weight = 1.2 if power == 0 else 0.2
        scale.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="18" y2="{y:.1f}" stroke="currentColor"'
            f' stroke-width="{weight}"/><text x="{at:.1f}" y="12" text-anchor="middle">'
            f"{2.0**power:g}x</text>"
        )
    keys = " ".join(
        f'<tspan fill="{COLOURS[i % len(COLOURS)]}">&#9632;</tspan> {escape(loop)}&#160;&#160;'
        for i, loop in enumerate(loops)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH + 10} {y + 20:.0f}" role="img"'
        f' aria-label="Ratios to {escape(base)}">{"".join(scale)}{"".join(parts)}'
        f'<text x="{LEFT}" y="{y + 14:.1f}">{keys}</text></svg>'
    )


SIDE, MARGIN, LINE = 290, 46, 14        # a scaling chart, in pixels


def _scaling(cases: list[dict[str, Any]]) -> str:
    """A chart for each scaling workload: the cost of one unit over their number, log-log."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        if case["family"] == SCALING:
            groups.setdefault(case["workload"], []).append(case)
    return "".join(_scaling_chart(name, group) for name, group in groups.items())


def _scaling_chart(name: str, cases: list[dict[str, Any]]) -> str:
    points: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        for line in case["lines"]:
            cost_s = line["cpu_s"] or (1 / line["rate"] if line["rate"] else None)
            if cost_s:
                count = case["timers"] or case["connections"]
                points.setdefault(line["loop"], []).append((log10(count), log10(cost_s)))
    if not points:
        return ""
    counts = [count for each in points.values() for count, _ in each]
    costs = [cost for each in points.values() for _, cost in each]
    left, right = floor(min(counts)), max(ceil(max(counts)), floor(min(counts)) + 1)
    low, high = floor(min(costs)), max(ceil(max(costs)), floor(min(costs)) + 1)

    def x(count: float) -> float:
        return MARGIN + (count - left) / (right - left) * SIDE

    def y(cost: float) -> float:
        return MARGIN + (high - cost) / (high - low) * SIDE

    parts = [f'<text x="{MARGIN}" y="{LINE}">{escape(name)}: {escape(cases[0]["text"])}</text>']
    for power in range(left, right + 1):
        parts.append(
            f'<line x1="{x(power):.1f}" x2="{x(power):.1f}" y1="{MARGIN}" y2="{MARGIN + SIDE}"'
            f' stroke="currentColor" stroke-width="0.2"/><text x="{x(power):.1f}"'
            f' y="{MARGIN + SIDE + LINE}" text-anchor="middle">{10**power:,}</text>'
        )
    for power in range(low, high + 1):
        parts.append(
            f'<line x1="{MARGIN}" x2="{MARGIN + SIDE}" y1="{y(power):.1f}" y2="{y(power):.1f}"'
            f' stroke="currentColor" stroke-width="0.2"/><text x="{MARGIN - 4}"'
            f' y="{y(power) + 4:.1f}" text-anchor="end">{seconds(10.0**power)}</text>'
        )
    for index, (loop, curve) in enumerate(points.items()):
        colour = BASELINE_COLOUR if loop == BASELINE else COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x(count):.1f},{y(cost):.1f}" for count, cost in curve)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{MARGIN + SIDE + 6}" y="{y(curve[-1][1]) + 4:.1f}" style="fill: {colour}">'
            f"{escape(loop)}</text>"
        )
    size = 2 * MARGIN + SIDE
    return (
        f'<svg viewBox="0 0 {size + 30} {size}" width="{size + 30}" role="img">'
        f"{''.join(parts)}</svg>"
    )


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


def _row(line: dict[str, Any], syscalls: bool) -> str:
    cells = [escape(line["loop"])]
    if line["failed"] or line["skipped"]:
        text = escape(line["failed"] or line["skipped"])
        return (
            f'<tr class="{escape(line["verdict"])}"><td>{cells[0]}</td>'
            f'<td colspan="{8 + syscalls}" style="white-space: normal">{text}</td></tr>'
        )
    if line["bytes"] is not None:
        cells += [f"{line['bytes']:,.0f} B", "", "", "", ""]
    else:
        cells.append(number(line["rate"]))
        cells += [
            seconds(line["latencies_s"].get(name)) for name in ("p50_s", "p99_s", "p999_s")
        ]
        split = ""
        if line["user_s"] is not None:
            split = f" <small>({seconds(line['user_s'])} + {seconds(line['system_s'])})</small>"
        cells.append(seconds(line["cpu_s"]) + split)
    if syscalls:
        cells.append("" if line["syscalls"] is None else f"{line['syscalls']:.2f}")
    cells += [_ratio(line["ratio"]), _ratio(line["cpu_ratio"]), escape(line["verdict"])]
    if line["cpu_verdict"] in ("less", "more"):
        cells[-1] += f", {line['cpu_verdict']} CPU"
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{escape(line["verdict"])}">{body}</tr>'


def _notes(cases: list[dict[str, Any]]) -> str:
    of_note: dict[str, list[str]] = {}
    for case in cases:
        for line in case["lines"]:
            for note in line["notes"]:
                amount = f" ({note['amount']})" if note["amount"] else ""
                names = of_note.setdefault(note["text"], [])
                names.append(f"{case['name']}, {line['loop']}{amount}")
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
    cases, base = document["cases"], document["options"]["base"]
    syscalls = any(line["syscalls"] is not None for case in cases for line in case["lines"])
    headings = ["", "per second", "p50", "p99", "p99.9", "CPU each (user + system)"]
    headings += ["system calls"] * syscalls + [f"against {base}", "by CPU", ""]
    table = []
    for case in cases:
        table.append(
            f'<tr class="case"><th colspan="{9 + syscalls}">{escape(case["name"])}'
            f" <small>{escape(case['text'])}</small></th></tr>"
        )
        table += [_row(line, syscalls) for line in case["lines"]]
    scaling = _scaling(cases)
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
<h1>Event loops compared</h1>
<pre>{escape(shlex.join(document["environment"]["command"]))}</pre>
<ul>{warnings}</ul>
{_chart(cases, base)}
<p>{escape(LEGEND)}</p>
<div class="scroll"><table>
<thead><tr>{"".join(f"<th>{escape(heading)}</th>" for heading in headings)}</tr></thead>
<tbody>{"".join(table)}</tbody>
</table></div>
{_goals(document["goals"])}
{f"<h2>Scaling</h2><p>CPU for one.</p>{scaling}" if scaling else ""}
<h2>Notes</h2>
<ul>{_notes(cases)}</ul>
<h2>Environment</h2>
<dl class="environment">{_environment(document["environment"])}
<dt>options</dt><dd>{escape(options)}</dd></dl>
<script type="application/json" id="figures">{data}</script>
</html>
"""
