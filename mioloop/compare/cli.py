"""``python -m mioloop compare``: the command line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mioloop.arguments import Parser
from mioloop.compare import cpu, environment, loops, report, runner, summary, workloads
from mioloop.compare.loops import FLOOR, Loop

QUICK_S = 100.0         # after which --quick begins no cell; none takes long
DEFAULT_LOOPS = "asyncio,uvloop,mioloop"

DESCRIPTION = """\
Measure which event loop is faster. The same work is done on each loop, in processes of their
own, under a load generator in C; rounds go loop by loop, and each ratio is taken within a
round. "C floor" is a plain C server doing the same work: what no loop can do without."""

EPILOG = f"""\
loops: {loops.NAMES}
workloads: {', '.join(workloads.BY_NAME)}

your own program:
  python -m mioloop compare --app module:app
      an aiohttp Application, an ASGI application, or a function that makes one
  python -m mioloop compare --path /hello -- python server.py --port {{port}}
      a command that starts a server; {{port}} is replaced, and PORT is set"""


def _positive(kind: Callable[[str], float]) -> Callable[[str], Any]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return convert


def _sizes(text: str) -> list[int]:
    """``1024,10k``: bytes, with k for KiB."""
    found = []
    for part in text.split(","):
        digits, unit = (part[:-1], 1024) if part[-1:] in "kK" else (part, 1)
        if not digits.isdigit() or not int(digits):
            raise argparse.ArgumentTypeError(f"{part!r} is not a number of bytes, e.g. 1024 or 1k")
        found.append(int(digits) * unit)
    return found


def _counts(text: str) -> list[int]:
    if not all(part.isdigit() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 up")
    return [int(part) for part in text.split(",")]


def _cpus(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not SERVER,CLIENT, e.g. 0,1")
    return int(parts[0]), int(parts[1])


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m mioloop compare",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what")
    what.add_argument("workload", nargs="*", help="names, also patterns: echo-*; default: all")
    what.add_argument("--loops", default=DEFAULT_LOOPS, help=f"default: {DEFAULT_LOOPS}")
    what.add_argument(
        "--triggers", action="store_true", help="mioloop with each trigger, as well"
    )
    what.add_argument("--base", help="what the others are compared to; default: uvloop")
    what.add_argument("--no-floor", action="store_true", help="without the plain C server")
    what.add_argument("--sizes", type=_sizes, default=[], help="e.g. 1k,100k")
    what.add_argument("--connections", type=_counts, default=[], help="e.g. 1,64,512")
    what.add_argument("--app", metavar="MODULE:NAME", help="your own web application")
    what.add_argument("--path", default="/", help="what is requested from your own program")
    what.add_argument("--port", type=int, help="where a command listens that takes no {port}")
    how = parser.add_argument_group("how")
    how.add_argument("--quick", action="store_true", help="end in two minutes")
    how.add_argument("--rounds", type=_positive(int), help="default: 7; with --quick: 6")
    how.add_argument(
        "--seconds", type=_positive(float), help="of each round; default: 1; with --quick: 0.08"
    )
    how.add_argument("--timeout", type=_positive(float), default=5.0, help="of a request")
    how.add_argument("--syscalls", action="store_true", help="count system calls, by strace")
    how.add_argument("--cpus", type=_cpus, help="SERVER,CLIENT; default: two cores of their own")
    how.add_argument(
        "--max-spread", type=_positive(float), default=0.10,
        help="a ratio whose interval is wider is said to be uncertain; default: 0.10",
    )
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="figures and samples")
    results.add_argument("--plot", type=Path, metavar="FILE", help="a chart, as .svg and .png")
    results.add_argument("--html", type=Path, metavar="FILE", help="one self-contained page")
    return parser


def chosen_loops(options: argparse.Namespace, parser: Parser) -> tuple[list[Loop], list[str]]:
    """The loops that can be had, and warnings about those that cannot."""
    try:
        wanted = loops.parse(options.loops)
        if options.triggers:
            wanted += [Loop(f"mioloop-{trigger}") for trigger in loops.TRIGGERS]
        if options.base:
            wanted.append(Loop(options.base))
    except ValueError as exc:
        parser.error(str(exc))
    found, warnings = [], []
    for loop in dict.fromkeys(wanted):
        problem = loop.problem()
        if problem is None:
            found.append(loop)
        elif options.loops == DEFAULT_LOOPS and loop.name == "uvloop" and options.base is None:
            warnings.append(f"uvloop is left out: {problem}")
        else:
            parser.error(f"loop {loop.name!r} cannot be had: {problem}")
    if not found:
        parser.error(f"--loops names none; the loops are {loops.NAMES}")
    return found, warnings


def chosen_cells(
    options: argparse.Namespace, parser: Parser
) -> tuple[list[workloads.Cell], list[str]]:
    """The cells that can be measured, and warnings about those that cannot."""
    try:
        selected = workloads.select(options.workload or ["*"])
    except ValueError as exc:
        parser.error(str(exc))
    cells, warnings = [], []
    for workload in selected:
        if workload.missing:
            missing = ", ".join(workload.missing)
            warnings.append(f"{workload.name} is left out: {missing} is not installed")
            continue
        cells += workloads.cells_of(workload, options.quick, options.sizes, options.connections)
    if options.workload and not cells:
        parser.error("; ".join(warnings) or "--quick has none of these workloads")
    return cells, warnings


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after ``--``."""
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def console_or_none() -> Any:
    if importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    # A table that is written to a file is not folded to 80 columns.
    return Console() if sys.stdout.isatty() else Console(width=160)


def main(arguments: Sequence[str]) -> int:
    """0: all figures were taken; 1: a cell failed; 2: the arguments make no sense."""
    parser = make_parser()
    own, command = split_command(arguments)
    options = parser.parse(own)
    if options.app and command:
        parser.error("--app and a command exclude each other")
    if (options.app or command) and options.workload:
        parser.error("a program of your own is measured by itself, not with workloads")
    if options.port and not command:
        parser.error("--port is for a command: -- COMMAND ...")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'mioloop[compare]'")
    for path in (options.json, options.plot, options.html):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"there is no directory {path.absolute().parent}")
    contestants, warnings = chosen_loops(options, parser)
    base = options.base or next(
        (loop.name for loop in contestants if loop.name == "uvloop"), contestants[0].name
    )
    # The base first, so that every table reads from it.
    contestants.sort(key=lambda loop: loop.name != base)

    pinned = options.cpus or cpu.two_cores()
    measuring = runner.Options(
        seconds=options.seconds or (0.08 if options.quick else 1.0),
        rounds=options.rounds or (6 if options.quick else 7),
        timeout_s=options.timeout,
        syscalls=options.syscalls,
    )
    measuring.warm_s = 0.03 if options.quick else min(0.2, measuring.seconds)
    if options.quick:
        measuring.deadline = time.monotonic() + QUICK_S
    if pinned is not None:
        measuring.server_cpu, measuring.client_cpu = pinned
    where = environment.describe(
        ["python", "-m", "mioloop", "compare", *arguments], [loop.module for loop in contestants]
    )
    where["server_cpu"], where["client_cpu"] = measuring.server_cpu, measuring.client_cpu
    warnings += environment.warnings_of(where, pinned)

    bench = runner.Bench(measuring, options.path)
    names = [loop.name for loop in contestants]
    if options.app or command:
        from mioloop.compare import program

        try:
            cells, makers = program.prepare(options, command, contestants, measuring, bench)
        except ValueError as exc:
            bench.close()
            parser.error(str(exc))

        def contestants_of(workload: workloads.Workload) -> tuple[list[str], runner.Makers]:
            return names, makers
    else:
        cells, more = chosen_cells(options, parser)
        warnings += more

        def contestants_of(workload: workloads.Workload) -> tuple[list[str], runner.Makers]:
            made = runner.contestants_of(
                workload, contestants, not options.no_floor, measuring, bench
            )
            return names + [FLOOR] * (len(made) - len(names)), made

    console = console_or_none()
    try:
        with Progress(console, cells, len(names), measuring) as progress:
            found = runner.run(cells, contestants_of, measuring, progress.step)
    except KeyboardInterrupt:
        print("mioloop compare: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        bench.close()

    summaries = [summary.summarize(each, base, options.max_spread) for each in found]
    standing = summary.standings(summaries, base)
    report.show(console, sys.stdout, summaries, standing, warnings, base)
    everything = summary.as_json(
        where,
        {
            "base": base, "rounds": measuring.rounds, "seconds": measuring.seconds,
            "warm_s": measuring.warm_s, "max_spread": options.max_spread,
        },
        list(zip(found, summaries)), standing, warnings,
    )
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
    if options.plot:
        from mioloop.compare import chart

        chart.write(options.plot, summaries, base, where)
    if options.html:
        from mioloop.compare import page

        options.html.write_text(page.render(everything), encoding="utf-8")
    return int(any(line.failed for cell in summaries for line in cell.lines))


class Progress:
    """What is being measured, on standard error, drawn between the samples and never during
    one: the terminal would take time from what is measured."""

    def __init__(
        self, console: Any, cells: Sequence[workloads.Cell], loops: int, options: runner.Options
    ) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._total = 0
        each = options.rounds + options.syscalls
        for cell in cells:
            side = cell.workload.side
            floor = side in ("server", "client", "idle")
            self._total += (loops + floor) * (each + (side in ("local", "client")))
        if console is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"),
            TimeRemainingColumn(),
            console=Console(stderr=True), auto_refresh=False, transient=True,
        )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total)
        return self

    def step(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=text, refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
