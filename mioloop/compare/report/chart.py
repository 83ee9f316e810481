"""``--plot``: the ratios to the base as bars, and the cost of one among many as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mioloop.compare.measure.loops import FLOOR
from mioloop.compare.measure.workloads import BY_NAME, SCALING
from mioloop.compare.report.summary import CellSummary, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")
FLOOR_COLOUR = "#888888"


def compared(cells: Sequence[CellSummary], base: str) -> tuple[list[str], list[CellSummary]]:
    """The loops that have a ratio to the base, and the cells in which one has."""
    loops: dict[str, None] = {}
    found = []
    for cell in cells:
        with_ratio = [line.loop for line in cell.lines if line.ratio and line.loop != FLOOR]
        if with_ratio and cell.family != SCALING:
            loops.update(dict.fromkeys(with_ratio))
            found.append(cell)
    return [loop for loop in loops if loop != base], found


@dataclass
class Panel:
    """One scaling workload: for each loop, how many there are and what one of them costs."""

    workload: str
    text: str
    counted: str                                # what there are many of
    unit: str                                   # what one of is measured
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def panels(cells: Sequence[CellSummary]) -> list[Panel]:
    """CPU seconds for each; where that is not known, the seconds that passed."""
    found: dict[str, Panel] = {}
    for cell in cells:
        if cell.family != SCALING:
            continue
        counted = "timers" if cell.timers else "connections"
        panel = found.setdefault(
            cell.workload, Panel(cell.workload, cell.text, counted, cell.unit)
        )
        for line in cell.lines:
            cost_s = line.cpu_s or (1 / line.rate if line.rate else None)
            if cost_s:
                points = panel.points.setdefault(line.loop, [])
                points.append((cell.timers or cell.connections, cost_s))
    return list(found.values())


def headline(cells: Sequence[CellSummary]) -> list[CellSummary]:
    """One cell of each workload: that of --quick; the whole of a run is too much for a chart."""
    def stands_for_all(cell: CellSummary) -> bool:
        workload = BY_NAME.get(cell.workload)
        if workload is None or workload.quick is None or cell.workload == "idle":
            return True
        return (cell.size, cell.connections) == workload.quick

    return [cell for cell in cells if stands_for_all(cell)]


def write(
    path: Path,
    cells: Sequence[CellSummary],
    base: str,
    where: dict[str, Any],
    suffixes: Sequence[str],
) -> list[Path]:
    """*path* with each of the suffixes, whichever it has, and if anything was scaled also
    *path*-scaling. Returns what was written."""
    written = []
    with _savable():
        if compared(cells, base)[1]:
            written += _save(_bars(cells, base, where), path, suffixes)
        if panels(cells):
            scaling = path.with_name(f"{path.stem}-scaling.svg")
            written += _save(_lines(panels(cells), where), scaling, suffixes)
    return written


@contextmanager
def _savable() -> Iterator[None]:
    import matplotlib

    # Text stays text, and the same figures make the same file.
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


def _place(where: dict[str, Any]) -> str:
    return f"{where['python']}, {where['system']}, {where['processor']}"


def _bars(all_cells: Sequence[CellSummary], base: str, where: dict[str, Any]) -> Figure:
    from matplotlib.ticker import FuncFormatter

    loops, cells = compared(all_cells, base)
    bar = 0.8 / max(1, len(loops))
    figure = _new_figure(9, 1.6 + 0.22 * len(cells) * max(1, len(loops)) + 0.1 * len(cells))
    axes = figure.add_subplot()
    for index, loop in enumerate(loops):
        bars: list[tuple[float, Line]] = [
            (row + index * bar, line)
            for row, cell in enumerate(cells)
            for line in cell.lines
            if line.loop == loop and line.ratio is not None
        ]
        ratios = [line.ratio for _, line in bars if line.ratio is not None]
        medians = [ratio.median for ratio in ratios]
        axes.barh(
            [at for at, _ in bars],
            [median - 1 for median in medians],     # from the base, to either side
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
    axes.set_yticks([row + 0.4 - bar / 2 for row in range(len(cells))])
    axes.set_yticklabels([cell.name for cell in cells], fontsize=8)
    axes.set_ylim(len(cells) - 0.2 + bar / 2, -bar)
    axes.set_xlabel(f"against {base}; longer to the right is better, the line is its 95 % interval")
    axes.set_title(_place(where), fontsize=8, color="#555555")
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    if loops:
        axes.legend(loc="lower right", ncols=1, frameon=False)
    return figure


def _lines(found: Sequence[Panel], where: dict[str, Any]) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator

    from mioloop.compare.report.report import seconds

    figure = _new_figure(5 * len(found), 3.8)
    loops = list(dict.fromkeys(loop for panel in found for loop in panel.points))
    for index, panel in enumerate(found):
        axes = figure.add_subplot(1, len(found), index + 1)
        for loop, points in panel.points.items():
            axes.plot(
                [count for count, _ in points],
                [cost_s for _, cost_s in points],
                marker="o",
                markersize=3,
                label=loop,
                color=FLOOR_COLOUR if loop == FLOOR else COLOURS[loops.index(loop) % len(COLOURS)],
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.set_title(f"{panel.workload}: {panel.text}", fontsize=8)
        axes.set_xlabel(panel.counted)
        axes.set_ylabel(f"CPU for one {panel.unit}")
        axes.grid(color="#dddddd", linewidth=0.5, which="both")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(_place(where), fontsize=8, color="#555555", y=1.0)
    figure.tight_layout()
    return figure
