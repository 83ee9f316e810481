"""The screen of `top`, by rich, and its keys."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mioloop.console.client import Connection
from mioloop.console.text import clean, seconds
from mioloop.console.watch import ORDERS, Watch, sparkline

INTERVAL_S = 1.0
KEYS = "t time · n steps · l longest · r ready to run · p pause · q quit"


def show(connection: Connection) -> int:
    """Show the screen until the key q."""
    watch = Watch()
    order, paused = "t", False
    figures = watch.add(connection.ask("top"))
    console = Console()
    with keys() as key_within, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(figures, watch, order, paused, console.height), refresh=True)
            key = key_within(INTERVAL_S)
            if key == "q":
                return 0
            if key == "p":
                paused = not paused
            elif key in ORDERS:
                order = key
            elif not key and not paused:
                figures = watch.add(connection.ask("top"))
            elif not key:
                connection.ask("top")       # so that the recording goes on


@contextlib.contextmanager
def keys() -> Iterator[Any]:
    """A function that waits for a key for some seconds, and returns it, or an empty string."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    until = time.monotonic()

    def key_within(interval_s: float) -> str:
        nonlocal until
        now = time.monotonic()
        if until <= now:
            until = now + interval_s
        if not select.select([descriptor], [], [], until - now)[0]:
            return ""
        return os.read(descriptor, 1).decode("ascii", "replace") or "q"     # the terminal has gone

    try:
        tty.setcbreak(descriptor)
        yield key_within
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def picture(
    figures: dict[str, Any], watch: Watch, order: str, paused: bool, height: int
) -> RenderableType:
    parts: list[RenderableType] = [
        Text(f"{figures['pid']}  {clean(figures['program'])[:120]}", style="bold")
    ]
    room = max(4, (height - 8) // max(1, len(figures["loops"])) - 12)
    for loop in figures["loops"]:
        parts += loop_parts(loop, watch.histories[loop["loop"]], order, room)
    if figures["lost_records"]:
        parts.append(Text(f"{figures['lost_records']} records were lost", style="red"))
    parts.append(Text(KEYS + ("   paused" if paused else ""), style="dim"))
    return Group(*parts)


def loop_parts(
    loop: dict[str, Any], history: dict[str, Any], order: str, room: int
) -> list[RenderableType]:
    late = max([0.001, *history["late_p99_s"]])
    rates = loop["per_second"]
    parts: list[RenderableType] = [
        Text(
            f"loop {loop['loop']} in {clean(loop['thread'] or '-')}: {loop['tasks']} tasks,"
            f" {rates['callbacks']:.0f} callbacks/s, {rates['events']:.0f} events/s,"
            f" {rates['bytes_in'] / 1e6:.2f} MB/s in, {rates['bytes_out'] / 1e6:.2f} MB/s out"
        ),
        Text(f"  busy {loop['utilization']:>9.0%}  {sparkline(history['utilization'], 1.0)}"),
        Text(f"  p50  {seconds(loop['late_p50_s']):>9}  {sparkline(history['late_p50_s'], late)}"),
        Text(f"  p99  {seconds(loop['late_p99_s']):>9}  {sparkline(history['late_p99_s'], late)}"),
    ]
    if loop["blocked"]:
        for frame in loop["stack"][-3:]:
            parts.append(Text(f"  blocked by {place_of(frame)}", style="bold red"))
    parts.append(table_of_functions(loop["functions"], order, room))
    for each in loop["findings"][:4]:
        parts.append(Text(f"  ! {clean(each['text'])}", style="yellow"))
    for each in loop["long_steps"][:-4:-1]:
        line = f"  {each['took_ns'] / 1e6:.0f} ms in {place_of(each)}"
        if each["stack"]:
            line += f", at {place_of(each['stack'][-1])}"
        parts.append(Text(line, style="red"))
    waiting = [each for each in loop["transports"] if each["buffered_bytes"]][:3]
    for each in waiting:
        parts.append(Text(
            f"  {each['buffered_bytes']:,} bytes wait: fd {each['fd']},"
            f" {clean(each['protocol'])}, peer {clean(each['peer'] or '-')}"
        ))
    return parts


def table_of_functions(functions: list[dict[str, Any]], order: str, room: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("function", ratio=1, no_wrap=True)
    for key, (title, _) in ORDERS.items():
        table.add_column(f"{title} ▾" if key == order else title, justify="right", no_wrap=True)
    for each in sorted(functions, key=ORDERS[order][1], reverse=True)[:room]:
        table.add_row(
            Text(place_of(each) if each["file"] else clean(each["function"])),
            seconds(each["total_ns"] / 1e9), str(each["count"]), seconds(each["longest_ns"] / 1e9),
            seconds(each["late_ns"] / each["count"] / 1e9),
        )
    return table


def place_of(each: dict[str, Any]) -> str:
    name = os.path.basename(each["file"])
    return clean(f"{each['function']}() {name}:{each['line']}" if name else each["function"])
