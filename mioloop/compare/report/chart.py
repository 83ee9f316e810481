"""``--plot``: bars for the ratios to the base, and lines for the scaling workloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mioloop.compare.measure.loops import BASELINE
from mioloop.compare.measure.workloads import BY_NAME, SCALING
from mioloop.compare.report.figures import seconds
from mioloop.compare.report.summary import CaseSummary, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")
BASELINE_COLOUR = "#888888"


def compared(cases: Sequence[CaseSummary], base: str) -> tuple[list[str], list[CaseSummary]]:
    """The loops that have a ratio to the base, and the cases that contain such a ratio."""
    loops: dict[str, None] = {}
    complete = []
    for case in cases:
        with_ratio = [line.loop for line in case.rows if line.ratio and line.loop != BASELINE]
        if with_ratio and case.family != SCALING:
            loops.update(dict.fromkeys(with_ratio))
            complete.append(case)
    return [loop for loop in loops if loop != base], complete


@dataclass
class Panel:
    """One scaling workload: for each loop, pairs of a number and the cost of one unit."""

    workload: str
    text: str
    counted: str                                # "timers" or "connections"
    unit: str                                   # the unit of the cost
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def panels(cases: Sequence[CaseSummary]) -> list[Panel]:
    """A panel for each scaling workload. The cost is CPU time, or elapsed time if unknown."""
    by_name: dict[str, Panel] = {}
    for case in cases:
        if case.family != SCALING:
            continue
        counted = "timers" if case.timers else "connections"
        panel = by_name.setdefault(
            case.workload, Panel(case.workload, case.text, counted, case.unit)
        )
        for line in case.rows:
            cost_s = line.cpu_s or (1 / line.rate if line.rate else None)
            if cost_s:
                points = panel.points.setdefault(line.loop, [])
                points.append((case.timers or case.connections, cost_s))
    return list(by_name.values())


def one_of_each_workload(cases: Sequence[CaseSummary]) -> list[CaseSummary]:
    """One case of each workload, as --quick measures it: a chart cannot show a whole run."""
    def is_shown(case: CaseSummary) -> bool:
        workload = BY_NAME.get(case.workload)
        if workload is None or workload.quick is None or case.workload == "idle":
            return True
        return (case.size, case.connections) == workload.quick

    return [case for case in cases if is_shown(case)]


def write(
    path: Path,
    cases: Sequence[CaseSummary],
    base: str,
    host: dict[str, Any],
    suffixes: Sequence[str],
) -> list[Path]:
    """Write the charts as *path* and *path*-scaling, with each of the suffixes.

    Returns the files. Without results for a chart, it is not written.
    """
    written = []
    with _savable():
        if compared(cases, base)[1]:
            written += _save(_bars(cases, base, host), path, suffixes)
        if panels(cases):
            scaling = path.with_name(f"{path.stem}-scaling.svg")
            written += _save(_lines(panels(cases), host), scaling, suffixes)
    return written


@contextmanager
def _savable() -> Iterator[None]:
    import matplotlib

    # Text is not drawn as paths, and equal figures make equal files.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mioloop"}):
        yield


def _save(figure: Figure, path: Path, suffixes: Sequence[str]) -> list[Path]:
    paths = [path.with_suffix(suffix) for suffix in suffixes]
    for each in paths:
        metadata = {"Date": None} if each.suffix == ".svg" else {}
        figure.savefig(each, bbox_inches="tight", dpi=150, metadata=metadata)
    return paths


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _machine(host: dict[str, Any]) -> str:
    return f"{host['python']}, {host['system']}, {host['processor']}"


def _bars(all_cases: Sequence[CaseSummary], base: str, host: dict[str, Any]) -> Figure:
    from matplotlib.ticker import FuncFormatter

    loops, cases = compared(all_cases, base)
    bar = 0.8 / max(1, len(loops))
    figure = _new_figure(9, 1.6 + 0.22 * len(cases) * max(1, len(loops)) + 0.1 * len(cases))
    axes = figure.add_subplot()
    for index, loop in enumerate(loops):
        bars: list[tuple[float, Line]] = [
            (row + index * bar, line)
            for row, case in enumerate(cases)
            for line in case.lines
            if line.loop == loop and line.ratio is not None
        ]
        ratios = [line.ratio for _, line in bars if line.ratio is not None]
        medians = [ratio.median for ratio in ratios]
        axes.barh(
            [at for at, _ in bars],
            [median - 1 for median in medians],     # bars begin at the base, 1
            left=1,
            height=bar * 0.9,
            color=COLOURS[index % len(COLOURS)],
            label=loop,
            xerr=[
                [ratio.median - ratio.low for ratio in ratios],
                [ratio.high - ratio.median for ratio in ratios],
            ],
            error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": "#555555"},
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_yticks([row + 0.4 - bar / 2 for row in range(len(cases))])
    axes.set_yticklabels([case.name for case in cases], fontsize=8)
    axes.set_ylim(len(cases) - 0.2 + bar / 2, -bar)
    axes.set_xlabel(f"ratio to {base}; right of 1 is better; lines are 95 % intervals")
    axes.set_title(_machine(host), fontsize=8, color="#555555")
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    if loops:
        axes.legend(loc="lower right", ncols=1, frameon=False)
    return figure


def _lines(drawn: Sequence[Panel], host: dict[str, Any]) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = _new_figure(5 * len(drawn), 3.8)
    loops = list(dict.fromkeys(loop for panel in drawn for loop in panel.points))
    for index, panel in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), index + 1)
        for loop, points in panel.points.items():
            colour = COLOURS[loops.index(loop) % len(COLOURS)]
            axes.plot(
                [count for count, _ in points],
                [cost_s for _, cost_s in points],
                marker="o",
                markersize=3,
                label=loop,
                color=BASELINE_COLOUR if loop == BASELINE else colour,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.set_title(f"{panel.workload}: {panel.text}", fontsize=8)
        axes.set_xlabel(panel.counted)
        axes.set_ylabel(f"CPU per {panel.unit}")
        axes.grid(color="#dddddd", linewidth=0.5, which="both")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(_machine(host), fontsize=8, color="#555555", y=1.0)
    figure.tight_layout()
    return figure
