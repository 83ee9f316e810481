"""Draw docs/drawings/chart.svg: some workloads of docs/benchmarks/figures.json.

`make bench` runs it after a full run. docs/benchmarks/chart.svg is the chart of all workloads.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
FIGURES = HERE.parent / "benchmarks" / "figures.json"
ROWS = {
    "aiohttp-server x 64": "aiohttp server",
    "uvicorn-server x 64": "uvicorn server",
    "http x 64": "HTTP by a Protocol",
    "echo-streams 1 KiB x 64": "echo by streams",
    "echo-protocol 1 KiB x 64": "echo by a Protocol",
    "tls 1 KiB x 64": "TLS echo",
    "udp 1 KiB x 64": "UDP echo",
    "connect 1 KiB x 64": "connect, echo, close",
    "sleep-0": "sleep(0)",
    "timers-cancelled": "timers, cancelled",
}
LOOPS = {"asyncio": "#7a869a", "mioloop": "#d97706"}
LEFT, RIGHT, TOP, ROW = 150, 690, 56, 34
LOWEST, HIGHEST = 1 / 8, 8


def x_of(ratio: float) -> float:
    share = math.log(ratio / LOWEST) / math.log(HIGHEST / LOWEST)
    return LEFT + (RIGHT - LEFT) * min(max(share, 0), 1)


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def bar(y: float, color: str, ratio: dict[str, Any]) -> list[str]:
    """A bar from 1 to the median, and the interval as a line."""
    one, middle = x_of(1), x_of(ratio["median"])
    low, high = x_of(ratio["low"]), x_of(ratio["high"])
    return [
        f'<rect x="{min(one, middle):.1f}" y="{y:.1f}" width="{abs(middle - one):.1f}" '
        f'height="9" fill="{color}"/>',
        f'<path d="M{low:.1f} {y + 4.5:.1f} H{high:.1f}" stroke="#333" stroke-width="1.2"/>',
    ]


def draw(figures: dict[str, Any]) -> str:
    cases = {case["name"]: case for case in figures.get("cases") or figures["cells"]}
    rows = [(label, cases[name]) for name, label in ROWS.items() if name in cases]
    bottom = TOP + ROW * len(rows)
    about = figures["environment"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {bottom + 48}" width="720" '
        'font-family="system-ui, sans-serif" fill="#222" role="img" '
        'aria-label="Speed of asyncio and mioloop, as a ratio to uvloop">',
        f'<rect width="720" height="{bottom + 48}" rx="8" fill="#fff"/>',
        text(16, 24, "Speed as a ratio to uvloop: longer to the right is faster", size=14),
    ]
    for at, (loop, color) in enumerate(LOOPS.items()):
        x = 510 + 90 * at
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{color}"/>')
        parts.append(text(x + 18, 24, loop))
    for ratio in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
        x = x_of(ratio)
        color = "#444" if ratio == 1 else "#ddd"
        parts.append(f'<path d="M{x:.1f} {TOP - 8} V{bottom}" stroke="{color}"/>')
        parts.append(text(x, bottom + 16, f"{ratio:g}x", "middle", 11))
    for at, (label, case) in enumerate(rows):
        y = TOP + ROW * at
        parts.append(text(LEFT - 12, y + 15, label, "end"))
        lines = {line["loop"]: line for line in case["lines"]}
        for below, (loop, color) in enumerate(LOOPS.items()):
            ratio = lines.get(loop, {}).get("ratio")
            if ratio:
                parts += bar(y + 11 * below, color, ratio)
    told = (
        f"{about['time'][:10]}, {about['python']}, uvloop {about['packages']['uvloop']}, "
        f"{about['processor']}, {about['processors']} processors; the thin line: 95 % interval"
    )
    return "\n".join([*parts, text(16, bottom + 38, told, size=11), "</svg>"]) + "\n"


if __name__ == "__main__":
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    (HERE / "chart.svg").write_text(draw(figures), encoding="utf-8")
