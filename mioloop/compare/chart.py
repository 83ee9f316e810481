"""``--plot``: the ratios to the base as a chart, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mioloop.compare.loops import FLOOR
from mioloop.compare.summary import CellSummary, Line

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")


def compared(cells: Sequence[CellSummary], base: str) -> tuple[list[str], list[CellSummary]]:
    """The loops that have a ratio to the base, and the cells in which one has."""
    loops: dict[str, None] = {}
    found = []
    for cell in cells:
        with_ratio = [line.loop for line in cell.lines if line.ratio and line.loop != FLOOR]
        if with_ratio:
            loops.update(dict.fromkeys(with_ratio))
            found.append(cell)
    return [loop for loop in loops if loop != base], found


def write(path: Path, cells: Sequence[CellSummary], base: str, where: dict[str, Any]) -> None:
    """Both *path*.svg and *path*.png, whichever suffix it has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    loops, cells = compared(cells, base)
    bar = 0.8 / max(1, len(loops))
    figure = Figure(figsize=(9, 1.6 + 0.22 * len(cells) * max(1, len(loops)) + 0.1 * len(cells)))
    FigureCanvasAgg(figure)
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
    axes.set_title(
        f"{where['python']}, {where['system']}, {where['processor']}", fontsize=8, color="#555555"
    )
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    if loops:
        axes.legend(loc="lower right", ncols=1, frameon=False)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), bbox_inches="tight", dpi=150)
