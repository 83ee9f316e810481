"""The charts of the HTML page: bars with their legend, and lines for the scaling workloads.

A bar is placed in percent, so that a chart fills any width, and its text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log2, log10

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.workloads import SCALING
from mioloop.compare.report.chart import BASELINE_COLOUR, COLOURS
from mioloop.compare.report.figures import seconds, times
from mioloop.compare.report.groups import DECIDED, TOO_FEW, UNDECIDED, Group
from mioloop.compare.report.statistics import Spread
from mioloop.compare.report.summary import MIN_ROUNDS, CaseSummary, Line

BAR, GAP = 13, 7            # in pixels: a bar with its margin, and the space around a case
MOST_DOUBLINGS = 5.0        # a longer bar is cut
HALF = 46.0                 # the longest bar in percent of the width; the rest is for its text
Rows = list[tuple[CaseSummary, list[Line]]]


class Scale:
    """A logarithmic scale with the base in the middle."""

    def __init__(self, ratios: Sequence[Spread]) -> None:
        ends = [abs(log2(end)) for ratio in ratios for end in (ratio.low, ratio.high) if end > 0]
        self.reach = max(1.0, min(max(ends, default=1.0), MOST_DOUBLINGS))

    def x(self, ratio: float) -> float:
        doublings = log2(max(ratio, 1e-9))
        return 50 + HALF * max(-self.reach, min(self.reach, doublings)) / self.reach

    @property
    def powers(self) -> range:
        return range(-int(self.reach), int(self.reach) + 1)


def _bars_of(group: Group) -> Rows:
    rows = [
        (case, [line for line in lines if line.ratio is not None and line.verdict != "base"])
        for case, lines in group.cases
        if case.family != SCALING
    ]
    return [(case, lines) for case, lines in rows if lines]


def ratios(groups: Sequence[Group], base: str) -> str:
    """The bars of each group that has ratios, with the legend beside them."""
    drawn = [
        (group, rows)
        for group in groups
        if group.kind in (DECIDED, UNDECIDED, TOO_FEW) and (rows := _bars_of(group))
    ]
    lines = [line for _, rows in drawn for _, each in rows for line in each]
    if not lines:
        return "<p>There is no chart, because no loop has a ratio to another one.</p>"
    loops = sorted({line.loop: None for line in lines}, key=lambda loop: _rank(loop, groups))
    colours = {loop: COLOURS[i % len(COLOURS)] for i, loop in enumerate(loops)}
    scale = Scale([line.ratio for line in lines if line.ratio is not None])
    parts = [_axis(scale)]
    for group, rows in drawn:
        if group.title:
            parts.append(
                f'<h3>{escape(group.title)} <small>{escape(group.reason)}</small></h3>'
            )
        parts.append(f'<div class="bars {group.kind}">')
        parts += [_case(case, each, scale, colours) for case, each in rows]
        parts.append("</div>")
    undecided = any(group.kind != DECIDED for group, _ in drawn)
    return (
        f'<figure class="chart"><div class="plot">{"".join(parts)}</div>'
        f"{_legend(colours, base, undecided)}</figure>"
    )


def _rank(loop: str, groups: Sequence[Group]) -> int:
    """The place of a loop in the lines of a case, so that a colour does not depend on verdicts."""
    for group in groups:
        for case, _ in group.cases:
            names = [line.loop for line in case.rows]
            if loop in names:
                return names.index(loop)
    return 0


def _axis(scale: Scale) -> str:
    step = 2 if scale.reach > 3 else 1
    texts = "".join(
        f'<text x="{scale.x(2.0**power):.2f}%" y="28" text-anchor="middle">'
        f"{f'1/{2**-power}' if power < 0 else 2**power}x</text>"
        for power in scale.powers
        if power % step == 0
    )
    return (
        '<div class="case"><span></span>'
        '<svg width="100%" height="34" role="img" aria-label="scale">'
        '<text x="4%" y="11">&#8592; worse</text>'
        f'<text x="96%" y="11" text-anchor="end">better &#8594;</text>{texts}</svg></div>'
    )


def _case(
    case: CaseSummary, lines: Sequence[Line], scale: Scale, colours: dict[str, str]
) -> str:
    height = GAP + BAR * len(lines)
    parts = [
        f'<line x1="{scale.x(2.0**power):.2f}%" x2="{scale.x(2.0**power):.2f}%" y1="0"'
        f' y2="{height}" class="{"one" if power == 0 else "grid"}"/>'
        for power in scale.powers
    ]
    for index, line in enumerate(lines):
        assert line.ratio is not None
        top = GAP / 2 + index * BAR + 1
        parts.append(_bar(line.ratio, top, BAR - 2, scale, colours[line.loop]))
    label = escape("; ".join(f"{line.loop} {times(line.ratio)}" for line in lines))
    name = escape(case.name)
    return (
        f'<div class="case" title="{label}"><span>{name}</span>'
        f'<svg width="100%" height="{height}" role="img" aria-label="{name}: {label}">'
        f'{"".join(parts)}</svg></div>'
    )


def _bar(ratio: Spread, top: float, height: float, scale: Scale, colour: str) -> str:
    """A bar from 1 to the median, and the interval as a line with an end mark on each side."""
    left, right = sorted((50.0, scale.x(ratio.median)))
    low, high, middle = scale.x(ratio.low), scale.x(ratio.high), top + height / 2
    marks = "".join(
        f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="{middle - 3}" y2="{middle + 3}"/>'
        for at in (low, high)
    )
    return (
        f'<rect x="{left:.2f}%" y="{top}" width="{right - left:.2f}%" height="{height}"'
        f' fill="{colour}"/><g class="interval"><line x1="{low:.2f}%" x2="{high:.2f}%"'
        f' y1="{middle}" y2="{middle}"/>{marks}</g>'
    )


def _legend(colours: dict[str, str], base: str, undecided: bool) -> str:
    name = escape(base)
    loops = "".join(
        f'<li><span class="key" style="background: {colour}"></span>'
        f"<span>{escape(loop)}</span></li>"
        for loop, colour in colours.items()
    )
    scale = Scale([])

    def entry(drawn: str, text: str, kind: str = "") -> str:
        return (
            f'<li class="{kind}"><svg width="40" height="15" aria-hidden="true">{drawn}</svg>'
            f"<span>{text}</span></li>"
        )

    bar = f'<rect x="2" y="2" width="36" height="11" fill="{BASELINE_COLOUR}"/>'
    one = '<line x1="50%" x2="50%" y1="0" y2="15" class="one"/>'
    interval = _bar(Spread(1.0, 0.6, 1.7), 2, 11, scale, BASELINE_COLOUR)
    faint = entry(bar, "A faint bar decides nothing.", "faint") if undecided else ""
    return (
        f'<figcaption class="legend"><strong>Legend</strong><ul>{loops}'
        + entry(one, f"1x is {name}. <b>Right of it is better than {name}</b>, left is worse.")
        + entry(bar, f"A bar reaches from 1x to the median of the ratios to {name}.")
        + entry(
            interval,
            "A line is the 95 % interval of the median; with fewer than"
            f" {MIN_ROUNDS} rounds, the whole range.",
        )
        + f"{faint}</ul></figcaption>"
    )


SIDE, MARGIN, LINE = 290, 46, 14        # a scaling chart, in pixels


def scaling(cases: Sequence[CaseSummary]) -> str:
    """A chart for each scaling workload: the cost of one unit over their number, log-log."""
    groups: dict[str, list[CaseSummary]] = {}
    for case in cases:
        if case.family == SCALING:
            groups.setdefault(case.workload, []).append(case)
    return "".join(_scaling_chart(name, group) for name, group in groups.items())


def _scaling_chart(name: str, cases: Sequence[CaseSummary]) -> str:
    points: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        for line in case.rows:
            cost_s = line.cpu_s or (1 / line.rate if line.rate else None)
            if cost_s:
                count = case.timers or case.connections
                points.setdefault(line.loop, []).append((log10(count), log10(cost_s)))
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

    parts = [f'<text x="{MARGIN}" y="{LINE}">{escape(name)}: {escape(cases[0].text)}</text>']
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
        f'<svg viewBox="0 0 {size + 30} {size}" width="{size + 30}" role="img"'
        f' aria-label="{escape(name)}: cost of one">'
        f"{''.join(parts)}</svg>"
    )
