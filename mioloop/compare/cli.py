"""``python -m mioloop compare``: the command line."""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mioloop.arguments import Parser, unknown
from mioloop.compare.measure import cpu, environment, loops, runner, samplers, workloads
from mioloop.compare.measure.loops import BASELINE, Loop
from mioloop.compare.report import chart, goals, html, markdown, summary, terminal
from mioloop.compare.report.progress import Progress

QUICK_S = 95.0          # --quick begins no case after this time
RESERVED_FILES = 250    # most files that a process opens in addition to the connections
DEFAULT_LOOPS = "asyncio,uvloop,mioloop"

DESCRIPTION = """\
Measure which event loop is faster. Each loop does the same work in a separate process, under a
load generator in C. Rounds alternate between the loops, and each ratio is taken within a round.
"C baseline" is a plain C server that does the same work: the part that every loop needs."""

EPILOG = f"""\
loops: {', '.join(loops.NAMES)}
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
            wanted = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {wanted} above 0")
        return value

    return convert


def _sizes(text: str) -> list[int]:
    """Parse ``1024,10k``: numbers of bytes, with k for KiB."""
    sizes = []
    for part in text.split(","):
        digits, unit = (part[:-1], 1024) if part[-1:] in "kK" else (part, 1)
        if not digits.isdigit() or not int(digits):
            raise argparse.ArgumentTypeError(f"{part!r} is not a number of bytes, e.g. 1024 or 1k")
        sizes.append(int(digits) * unit)
    return sizes


def _counts(text: str) -> list[int]:
    if not all(part.isdigit() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 up")
    return [int(part) for part in text.split(",")]


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def _io_uring(text: str) -> str:
    if text not in loops.IO_URING_CHOICES:
        raise argparse.ArgumentTypeError(unknown("io_uring choice", text, loops.IO_URING_CHOICES))
    return text


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
    subject = parser.add_argument_group("subject")
    subject.add_argument("workload", nargs="*", help="names, also patterns: echo-*; default: all")
    subject.add_argument("--loops", default=DEFAULT_LOOPS, help=f"default: {DEFAULT_LOOPS}")
    subject.add_argument(
        "--triggers", action="store_true", help="also mioloop with each trigger"
    )
    subject.add_argument(
        "--io-uring", type=_io_uring, metavar="|".join(loops.IO_URING_CHOICES),
        help="whether mioloop uses it; both: a column without it; default: on",
    )
    subject.add_argument("--base", help="the loop that the others are compared to; default: uvloop")
    subject.add_argument(
        "--no-baseline", "--no-floor", action="store_true", help="without the plain C server"
    )
    subject.add_argument("--sizes", type=_sizes, default=[], help="e.g. 1k,100k")
    subject.add_argument("--connections", type=_counts, default=[], help="e.g. 1,64,512")
    subject.add_argument("--timers", type=_counts, default=[], help="for scale-*, e.g. 1,1000")
    subject.add_argument(
        "--scaling", action="store_true",
        help="also the cost of one among 1 to 10,000 connections and 1 to 1,000,000 timers",
    )
    subject.add_argument(
        "--spin", type=_positive(float), metavar="SECONDS",
        help="also latency and idle processor time, and mioloop:spin=SECONDS as another loop",
    )
    subject.add_argument("--app", metavar="MODULE:NAME", help="your own web application")
    subject.add_argument("--path", help="the path to request from your own program; default: /")
    subject.add_argument("--port", type=_port, help="the port of a command that takes no {port}")
    method = parser.add_argument_group("method")
    method.add_argument("--quick", action="store_true", help="end in two minutes")
    method.add_argument(
        "--rounds", type=_positive(int),
        help="default: 9, fewer for slow workloads; with --quick: 6",
    )
    method.add_argument(
        "--seconds", type=_positive(float),
        help="length of a round; default: 0.25; with --quick: 0.08",
    )
    method.add_argument(
        "--timeout", type=_positive(float), default=5.0, help="for an answer; default: 5"
    )
    method.add_argument("--syscalls", action="store_true", help="count system calls with strace")
    method.add_argument("--cpus", type=_cpus, help="SERVER,CLIENT; default: two different cores")
    method.add_argument(
        "--max-spread", type=_positive(float), default=0.10,
        help="a ratio with a wider interval is reported as uncertain; default: 0.10",
    )
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="figures and samples")
    results.add_argument("--plot", type=Path, metavar="FILE", help="a chart, as .svg and .png")
    results.add_argument(
        "--report", type=Path, metavar="DIRECTORY", help="README.md, charts, page and figures"
    )
    results.add_argument(
        "--goals", type=Path, metavar="FILE",
        help="a Markdown file whose table of goals is filled in; its marker names the goals",
    )
    results.add_argument("--html", type=Path, metavar="FILE", help="one self-contained page")
    return parser


def chosen_loops(options: argparse.Namespace, parser: Parser) -> tuple[list[Loop], list[str]]:
    """The requested loops that can be made, and warnings about the missing ones."""
    try:
        wanted = loops.parse(options.loops)
        if options.triggers:
            wanted += [Loop(f"mioloop:{trigger}") for trigger in loops.TRIGGERS]
        if options.base:
            wanted.append(Loop(options.base))
    except ValueError as exc:
        parser.error(str(exc))
    usable, warnings = [], []
    for loop in dict.fromkeys(wanted):
        problem = loop.problem()
        if problem is None:
            usable.append(loop)
        elif options.loops == DEFAULT_LOOPS and loop.name == "uvloop" and options.base is None:
            warnings.append(f"uvloop is left out: {problem}")
        else:
            parser.error(f"loop {loop.name!r} is not available: {problem}")
    if not usable:
        parser.error(f"--loops names none; the loops are {', '.join(loops.NAMES)}")
    return usable, warnings


def apply_io_uring(
    options: argparse.Namespace, chosen: list[Loop], parser: Parser
) -> tuple[list[Loop], dict[str, str]]:
    """Apply --io-uring to the chosen loops. A loop whose name states io_uring stays as it is.

    Also returns the loops that are shown as a column. Each is mapped to the loop that it is with
    io_uring off.
    """
    off = {loop: other for loop in chosen if (other := loop.without_io_uring()) is not None}
    if options.io_uring and not off:
        parser.error(
            f"--io-uring {options.io_uring}: no loop of this run is mioloop with a choice of"
            f" io_uring: {', '.join(loop.name for loop in chosen)}"
        )
    if options.io_uring == "off":
        if options.base and (base := off.get(Loop(options.base))) is not None:
            options.base = base.name
        return list(dict.fromkeys(off.get(loop, loop) for loop in chosen)), {}
    if options.io_uring == "both":
        columns = {
            other.name: loop.name for loop, other in off.items() if other.name != options.base
        }
        return list(dict.fromkeys([*chosen, *off.values()])), columns
    return chosen, {}


def warnings_of_io_uring(options: argparse.Namespace) -> list[str]:
    problem = environment.io_uring_problem()
    if options.io_uring not in ("on", "both") or problem is None:
        return []
    return [f"the system refuses io_uring ({problem}): every loop is measured without it"]


def chosen_spin(options: argparse.Namespace, parser: Parser) -> list[Loop]:
    """The loop that --spin adds."""
    if not options.spin:
        return []
    off = ":io_uring=off" if options.io_uring == "off" else ""
    loop = Loop(f"mioloop:spin={options.spin:g}{off}")
    if problem := loop.problem():
        parser.error(f"--spin: loop {loop.name!r} is not available: {problem}")
    return [loop]


def chosen_cases(
    options: argparse.Namespace, parser: Parser
) -> tuple[list[workloads.Case], list[str]]:
    """The cases that can be measured here, and warnings about the missing ones."""
    try:
        selected = workloads.select(options.workload, families_of(options))
    except ValueError as exc:
        parser.error(str(exc))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        files = sys.maxsize
    cases, warnings = [], []
    for workload in selected:
        if workload.missing:
            missing = ", ".join(workload.missing)
            warnings.append(f"{workload.name} is left out: {missing} is not installed")
            continue
        if workload.side in ("idle", "quiet") and not cpu.LINUX:
            warnings.append(f"{workload.name} is left out: it can be measured on Linux only")
            continue
        for case in workloads.cases_of(
            workload, options.quick, options.sizes, options.connections, options.timers
        ):
            if case.connections + RESERVED_FILES > files:
                warnings.append(
                    f"{case.name} is left out: a process may open {files:,} files here (ulimit -n)"
                )
            else:
                cases.append(case)
    if options.workload and not cases:
        parser.error("; ".join(warnings) or "--quick has none of these workloads")
    return cases, warnings


def families_of(options: argparse.Namespace) -> list[str]:
    return [workloads.SCALING] * options.scaling + [workloads.SPIN] * bool(options.spin)


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before ``--``, and the command after it."""
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def console_or_none() -> Any:
    if importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    # Do not wrap the table to 80 columns if the output is a file.
    return Console() if sys.stdout.isatty() else Console(width=160)


def check(options: argparse.Namespace, command: list[str], parser: Parser) -> None:
    """End with an error if options exclude each other or cannot be used here."""
    if options.app and command:
        parser.error("--app and a command exclude each other")
    if options.app or command:
        if options.workload:
            parser.error("a program of your own is measured by itself, not with workloads")
        if families_of(options):
            parser.error("--scaling and --spin are for workloads, not for a program of your own")
        for name in ("sizes", "timers", "goals"):
            if getattr(options, name):
                parser.error(f"--{name} is for workloads, not for a program of your own")
        options.path = options.path or "/"
    elif options.path:
        parser.error("--path is for a program of your own: --app MODULE:NAME or -- COMMAND ...")
    if options.quick and families_of(options):
        parser.error("--quick leaves no time for --scaling and --spin")
    if options.port and not command:
        parser.error("--port is for a command: -- COMMAND ...")
    if (options.plot or options.report) and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot and --report need matplotlib: pip install 'mioloop[compare]'")
    if options.cpus and not set(options.cpus) <= (usable := cpu.allowed_processors()):
        names = ", ".join(map(str, sorted(usable))) or "not known on this system"
        parser.error(f"--cpus {options.cpus[0]},{options.cpus[1]}: the processors are {names}")
    for path in (options.json, options.plot, options.html, options.report):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"there is no directory {path.absolute().parent}")


def chosen_goals(options: argparse.Namespace, base: str, parser: Parser) -> goals.Goals | None:
    """The goals that --goals names. They must be against the base of this run."""
    if not options.goals:
        return None
    try:
        table = markdown.goals_of(options.goals)
    except (OSError, ValueError) as exc:
        parser.error(f"--goals: {exc}")
    if table.base != base:
        parser.error(f"--goals: the goals are against {table.base}, and this run against {base}")
    return table


def sampling_options(options: argparse.Namespace) -> samplers.Options:
    measuring = samplers.Options(
        seconds=options.seconds or (0.08 if options.quick else None),
        rounds=options.rounds or (6 if options.quick else None),
        warm_s=0.03 if options.quick else min(0.1, options.seconds or 0.1),
        timeout_s=options.timeout,
        syscalls=options.syscalls,
    )
    if options.quick:
        measuring.deadline = time.monotonic() + QUICK_S
    pinned = options.cpus or cpu.two_cores()
    if pinned is not None:
        measuring.server_cpu, measuring.client_cpu = pinned
    return measuring


def main(arguments: Sequence[str]) -> int:
    """Return 0 if all cases were measured, 1 if one failed, 2 if the arguments are wrong."""
    with loops.default_options() as ignored:
        return compare(arguments, environment.warnings_of_variables(ignored))


def compare(arguments: Sequence[str], warnings: list[str]) -> int:
    parser = make_parser()
    own, command = split_command(arguments)
    options = parser.parse(own)
    check(options, command, parser)
    chosen, more = chosen_loops(options, parser)
    chosen, columns = apply_io_uring(options, chosen, parser)
    warnings = [*warnings, *more, *warnings_of_io_uring(options)]
    base = options.base or next(
        (loop.name for loop in chosen if loop.name == "uvloop"), chosen[0].name
    )
    # The base is the first line of every table.
    chosen.sort(key=lambda loop: loop.name != base)
    spinning = chosen_spin(options, parser)
    table = chosen_goals(options, base, parser)

    measuring = sampling_options(options)
    host = environment.describe(
        ["python", "-m", "mioloop", "compare", *arguments], [loop.module for loop in chosen]
    )
    host["server_cpu"], host["client_cpu"] = measuring.server_cpu, measuring.client_cpu
    warnings += environment.warnings_of(host, measuring.server_cpu is not None)

    bench = samplers.Bench(measuring, options.path or "/")
    Chosen = tuple[list[str], samplers.Makers]
    if options.app or command:
        from mioloop.compare.measure import user_program

        try:
            cases, makers = user_program.prepare(options, command, chosen, measuring, bench)
        except ValueError as exc:
            bench.close()
            parser.error(str(exc))

        def samplers_of(workload: workloads.Workload) -> Chosen:
            return [loop.name for loop in chosen], makers
    else:
        cases, more = chosen_cases(options, parser)
        warnings += more

        def samplers_of(workload: workloads.Workload) -> Chosen:
            extra = spinning if workload.family == workloads.SPIN else []
            loops_here = list(dict.fromkeys([*chosen, *extra]))
            if workload.side == "import":       # io_uring has no part in it
                loops_here = [loop for loop in loops_here if loop.name not in columns]
            made = samplers.samplers_of(
                workload, loops_here, not options.no_baseline, measuring, bench
            )
            names = [loop.name for loop in loops_here]
            return names + [BASELINE] * (len(made) - len(names)), made

    console = console_or_none()
    counted = [(case, len(samplers_of(case.workload)[0])) for case in cases]
    try:
        with Progress(console, counted, measuring) as progress:
            results = runner.run(cases, samplers_of, measuring, progress.step)
    except KeyboardInterrupt:
        print("mioloop compare: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        bench.close()

    summaries = [summary.summarize(each, base, options.max_spread, columns) for each in results]
    standing = summary.standings(summaries, base)
    outcomes = goals.compare(table, summaries) if table is not None else []
    terminal.show(console, sys.stdout, summaries, standing, warnings, base, outcomes)
    document = summary.as_json(
        host,
        {
            "base": base, "rounds": measuring.rounds, "seconds": measuring.seconds,
            "warm_s": measuring.warm_s, "max_spread": options.max_spread,
            "io_uring": options.io_uring or "on",
        },
        list(zip(results, summaries)), standing, warnings, outcomes,
    )
    write(options, document, summaries, base)
    return int(any(line.failed for case in summaries for line in case.lines))


def write(
    options: argparse.Namespace,
    document: dict[str, Any],
    summaries: Sequence[summary.CaseSummary],
    base: str,
) -> None:
    """Write the requested files."""
    if options.json:
        options.json.write_text(summary.dump(document))
    if options.plot:
        chart.write(options.plot, summaries, base, document["environment"], (".svg", ".png"))
    if options.html:
        options.html.write_text(html.render(document), encoding="utf-8")
    if options.report:
        markdown.write_report(options.report, document, summaries, base)
    if options.goals:
        markdown.fill_goals(options.goals, document)
