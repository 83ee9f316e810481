"""``python -m mioloop ps | top | stack | trace``: the command lines."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence

from mioloop.arguments import Parser
from mioloop.console import client, text

SAMPLE_S = 0.25         # ps measures for so long


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
        before = text.ask_all(found)
        if before:
            time.sleep(SAMPLE_S)
        now = text.ask_all(found)
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


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"ps": ps, "stack": stack}


def main(command: str, arguments: Sequence[str]) -> int:
    try:
        return COMMANDS[command](arguments)
    except client.ConsoleError as exc:
        print(f"python -m mioloop {command}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
