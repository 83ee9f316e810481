"""``python -m mioloop ps | top | stack | trace``: the command lines."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence

from mioloop.arguments import Parser
from mioloop.console import client, text, watch
from mioloop.console.trace import Trace

SAMPLE_S = 0.25         # ps measures for so long
ONCE_S = 1.0            # and top --once
RECORDS_EVERY_S = 0.1


def pid_of(argument: str) -> int:
    if not argument.isdecimal() or not 0 < int(argument) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{argument!r} is not the number of a process")
    return int(argument)


def make_parser(command: str, description: str) -> Parser:
    parser = Parser(
        prog=f"python -m mioloop {command}",
        description=description,
        epilog="A loop has a console if it was made with MIOLOOP_CONSOLE=1 in the environment, by"
        " `python -m mioloop run --console`, or by new_event_loop(console=True).",
    )
    parser.add_argument("pid", metavar="PID", nargs="?", type=pid_of, help="the process")
    return parser


def ps(arguments: Sequence[str]) -> int:
    parser = make_parser(
        "ps",
        "List the loops that have a console. With PID, show the tasks of that process, and which"
        " task waits for which.",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    options = parser.parse(arguments)
    if options.pid is not None:
        with client.connect(options.pid) as connection:
            answer = connection.ask("tasks")
        print(json.dumps(answer) if options.json else text.task_trees(answer))
        return 0
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(each) for each in client.consoles()]
        errors: list[str] = []
        before = text.ask_all(found, errors)
        if before:
            time.sleep(SAMPLE_S)
        now = text.ask_all([each for each in found if each.pid in before], errors)
    for error in errors:
        print(f"python -m mioloop ps: {error}", file=sys.stderr)
    rows = text.rows_of_loops(before, now)
    if options.json:
        print(json.dumps(rows))
    else:
        print(text.table_of_loops(rows))
    return 0


def stack(arguments: Sequence[str]) -> int:
    parser = make_parser("stack", "Show what the loops of a process execute now.")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    options = parser.parse(arguments)
    with client.choose(options.pid) as connection:
        answer = connection.ask("stack")
    print(json.dumps(answer) if options.json else text.stacks(answer))
    return 0


def top(arguments: Sequence[str]) -> int:
    parser = make_parser(
        "top",
        "Show live how busy and how late the loops of a process are, and which functions take the"
        " time. Meanwhile the loops record each callback, which takes about a microsecond each.",
    )
    parser.add_argument(
        "--once", action="store_true", help="print the figures of a second, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --once: as JSON")
    options = parser.parse(arguments)
    if options.json and not options.once:
        parser.error("--json needs --once")
    if not options.once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("this is no terminal: use --once")
    if not options.json and importlib.util.find_spec("rich") is None:
        parser.error("top needs rich: pip install 'mioloop[console]', or use --once --json")
    with client.choose(options.pid) as connection:
        if not options.once:
            from mioloop.console import screen

            return screen.show(connection)
        watching = watch.Watch()
        watching.add(connection.ask("top"))
        time.sleep(ONCE_S)
        figures = watching.add(connection.ask("top"))
    if options.json:
        print(json.dumps(figures))
    else:
        from rich.console import Console

        from mioloop.console import screen

        Console().print(screen.picture(figures, watching, "t", False, 60))
    return 0


def positive_seconds(argument: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{argument!r} is not a number of seconds, at most 3600")
    return value


def trace(arguments: Sequence[str]) -> int:
    parser = make_parser(
        "trace",
        "Record the turns, waits, callbacks, steps of tasks, reads and writes of a process for"
        " some seconds, for ui.perfetto.dev or chrome://tracing.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="trace.json", help="trace.json")
    parser.add_argument(
        "--seconds", metavar="N", type=positive_seconds, default=5.0, help="default: 5"
    )
    options = parser.parse(arguments)
    with client.choose(options.pid) as connection:
        try:
            file = open(options.output, "w", encoding="utf-8")
        except OSError as exc:
            parser.error(f"{options.output} cannot be written: {exc.strerror}")
        with file:
            trace = record(connection, options.seconds)
            json.dump(trace.finish(), file)
    lost = f"; {trace.lost} were lost" if trace.lost else ""
    print(f"{options.output}: {trace.count} callbacks and events{lost}")
    return 0


def record(connection: client.Connection, seconds: float) -> Trace:
    trace = Trace(connection.pid)
    trace.add(connection.ask("records"))
    end = time.monotonic() + seconds
    ended = False
    while not ended:
        time.sleep(max(0.0, min(RECORDS_EVERY_S, end - time.monotonic())))
        ended = time.monotonic() >= end
        answer = connection.ask("records")
        trace.add(answer)
        while answer["more"]:
            answer = connection.ask("records")
            trace.add(answer)
            if ended and answer["now_ns"] / 1e9 > end + seconds:    # it is faster than this client
                break
    return trace


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "ps": ps, "top": top, "stack": stack, "trace": trace,
}


def main(command: str, arguments: Sequence[str]) -> int:
    try:
        return COMMANDS[command](arguments)
    except client.ConsoleError as exc:
        print(f"python -m mioloop {command}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
