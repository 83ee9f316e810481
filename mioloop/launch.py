"""``python -m mioloop run``: run an unchanged program on a mioloop event loop."""

from __future__ import annotations

import functools
import os
import runpy
import sys
from collections.abc import Sequence

from mioloop.arguments import Parser

TRIGGERS = ("edge", "level", "oneshot")


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m mioloop run",
        description="Run a script or a module whose event loops are mioloop's.",
        usage="python -m mioloop run [options] (script.py | -m module) [arguments]",
        epilog="A program that names the class of its loop, or a loop factory, is not changed.",
    )
    parser.add_argument("--backend", metavar="mio|uvloop|asyncio", help="default: mio")
    parser.add_argument("--trigger", metavar="|".join(TRIGGERS), help="default: edge")
    parser.add_argument("--selector", metavar="epoll|kqueue|poll", help="default: the system's")
    return parser


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into the options of this command, and the program with its own arguments."""
    ours: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        option = rest.pop(0)
        if option == "--":
            break
        ours.append(option)
        if option in ("--backend", "--trigger", "--selector") and rest:
            ours.append(rest.pop(0))
    return ours, rest


def main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    ours, program = split(arguments)
    options = parser.parse(ours)
    if not program or program == ["-m"]:
        parser.error("there is no script or module to run")

    from mioloop.factory import new_event_loop, replace_default
    from mioloop.stdlib import HAS_POLICIES

    chosen = {name: value for name, value in vars(options).items() if value}
    try:
        if HAS_POLICIES:
            from mioloop.policy import install

            install(**chosen)
        else:
            factory = functools.partial(new_event_loop, **chosen)
            factory().close()   # a wrong name is refused here, not at the first loop
            replace_default(factory)
    except (ValueError, ImportError) as exc:
        parser.error(str(exc))
    for name, value in chosen.items():      # for the processes that the program starts
        os.environ[f"MIOLOOP_{name.upper()}"] = value

    # As python itself does, put the directory of a script first on sys.path. For a module it is
    # the current directory, which `python -m mioloop` has already put there.
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        return 0
    if not os.path.exists(program[0]):
        parser.error(f"there is no file {program[0]!r}")
    sys.argv = program
    sys.path[0] = os.path.dirname(os.path.abspath(program[0]))
    runpy.run_path(program[0], run_name="__main__")
    return 0


