"""Run examples/aiohttp_server.py on several event loops and compare them.

    python -m examples.compare_loops --loops mioloop asyncio

All servers run from beginning to end, and the runs under load take turns, so that other work of
the machine affects every loop equally. Correctness comes first: any wrong answer is listed, and
makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from . import checks, load, report, server

LOOPS = ("mioloop", "uvloop", "asyncio")
ROUNDS = 3
ROUND_MAX_S = 3             # a longer round measures no better
CHECK_SHARE = 0.3           # at most this part of the whole time, for the checks of one server
FILE_BYTES = 256 * 1024     # more than a socket buffers, so that sending it takes several turns
LISTED_ERRORS = 5           # for each loop


async def compare(options: argparse.Namespace, console: Console) -> list[report.Outcome]:
    """Start the servers, check them, load them, stop them."""
    ends_at = time.monotonic() + options.seconds
    outcomes = [report.Outcome(name) for name in options.loops]
    running: list[tuple[server.Server, report.Outcome]] = []
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    )
    async with AsyncExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "served.bin"
        file.write_bytes(os.urandom(FILE_BYTES))
        stack.enter_context(progress)
        step = progress.add_task("starting the servers", total=len(outcomes) * (1 + ROUNDS))

        for outcome in outcomes:
            try:
                started = await server.Server.start(outcome.loop_name, file)
            except server.ServerError as exc:
                outcome.failures.append(str(exc))
            else:
                running.append((started, outcome))
                stack.push_async_callback(_stop, started, outcome)

        for started, outcome in running:
            progress.update(
                step,
                description=f"{outcome.loop_name}: every route, then {options.requests:,} requests",
            )
            outcome.check = await checks.check_server(
                started.url, file, options.requests, options.connections,
                limit_s=options.seconds * CHECK_SHARE,
            )
            progress.advance(step)

        left_s = ends_at - time.monotonic()
        round_s = max(1, min(ROUND_MAX_S, int(left_s / (ROUNDS * max(1, len(running))))))
        for number in range(ROUNDS):
            # Another loop goes first each time: the first may meet a colder or a faster CPU.
            turn = number % max(1, len(running))
            for started, outcome in running[turn:] + running[:turn]:
                progress.update(
                    step,
                    description=f"{outcome.loop_name}: load, round {number + 1} of {ROUNDS},"
                    f" {round_s} s",
                )
                await _load(started, outcome, options, round_s)
                progress.advance(step)
        how_measured = (
            f"medians of {ROUNDS} rounds of {round_s} s of GET /json by {options.client},"
            f" {options.connections} keep-alive connections"
        )
    console.print(report.table_of(outcomes))
    console.print(how_measured)
    console.print(_versions([started.loop_name for started, _ in running]))
    return outcomes


async def _load(
    started: server.Server, outcome: report.Outcome, options: argparse.Namespace, round_s: int
) -> None:
    before_s = started.cpu_s()
    try:
        measured = await load.generate(
            options.client, f"{started.url}/json", options.connections, round_s
        )
    except load.LoadError as exc:
        outcome.failures.append(str(exc))
        return
    after_s = started.cpu_s()
    outcome.loads.append(measured)
    if before_s is not None and after_s is not None:
        outcome.cpu_s.append(after_s - before_s)


async def _stop(started: server.Server, outcome: report.Outcome) -> None:
    try:
        await started.stop()
    except server.ServerError as exc:
        outcome.failures.append(str(exc))


def _versions(loops: list[str]) -> str:
    packages = ["aiohttp", *(name for name in loops if name != "asyncio")]
    versions = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{platform.python_implementation()} {platform.python_version()}, {', '.join(versions)}"


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return number


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.compare_loops",
        description="One aiohttp program on several event loops: is it right, what does it cost?",
    )
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=list(LOOPS))
    parser.add_argument(
        "--requests", type=positive, default=10_000, help="checked requests a loop (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=positive, default=64, help="keep-alive connections (%(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=50,
        help="time for everything; the load takes what the checks leave (%(default)s)",
    )
    parser.add_argument(
        "--client",
        choices=load.CLIENTS,
        default=load.default_client(),
        help="the load generator; python where wrk is not installed (here: %(default)s)",
    )
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    console = Console()
    # uvloop is only there for comparison, and does not exist for every system. Without mioloop or
    # asyncio there is nothing to show: the server that misses one of them reports an error.
    if "uvloop" in options.loops and importlib.util.find_spec("uvloop") is None:
        console.print("uvloop is not installed (pip install uvloop): going on without it")
        options.loops.remove("uvloop")
    options.loops = list(dict.fromkeys(options.loops))
    try:
        outcomes = asyncio.run(compare(options, console))
    except KeyboardInterrupt:
        return 130
    wrong = [outcome for outcome in outcomes if outcome.errors]
    for outcome in wrong:
        for message in outcome.messages[:LISTED_ERRORS]:
            console.print(f"{outcome.loop_name}: {message}", style="red", markup=False)
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
