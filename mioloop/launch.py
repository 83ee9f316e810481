"""``python -m mioloop run``: run an unchanged program on a mioloop event loop.

The process becomes a Python that runs the program (execve(2)). So `__main__`, the arguments and the
tracebacks do not show that mioloop is there. The environment takes the choice of loop to that
Python, and to the processes that the program starts: PYTHONPATH begins with ``hook/``. The
sitecustomize of that directory begins a `mioloop.takeover`.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mioloop.arguments import Parser
from mioloop.options import TRIGGERS

HOOK = Path(__file__).parent / "hook"
VALUED = ("--backend", "--trigger", "--selector", "--spin", "--stall")  # they take a value


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m mioloop run",
        description="Run an unchanged program on the event loops of mioloop.",
        usage="python -m mioloop run [options] "
        "(program | script.py | directory | -m module | -c code | -) [arguments]",
        epilog="At its end it says so if no loop of mioloop ran, in the program or its children.",
    )
    parser.add_argument("--backend", metavar="mio|uvloop|asyncio", help="default: mio")
    parser.add_argument("--trigger", metavar="|".join(TRIGGERS), help="default: edge")
    parser.add_argument("--selector", metavar="epoll|kqueue|poll", help="default: the system's")
    parser.add_argument("--spin", metavar="SECONDS", help="poll that long before each wait")
    parser.add_argument(
        "--stall", metavar="SECONDS", help="report each callback that blocks the loop so long"
    )
    parser.add_argument(
        "--console", action="store_true",
        help="let `python -m mioloop ps`, `top`, `stack` and `trace` look into the loops",
    )
    parser.add_argument(
        "--durations", action="store_true", help="time each callback: loop.durations()"
    )
    parser.add_argument("--no-io-uring", action="store_true", help="make no io_uring")
    parser.add_argument(
        "--as-uvloop", action="store_true",
        help="where the program imports uvloop, it gets a stand-in that makes mioloop's loops",
    )
    parser.add_argument(
        "--strict", action="store_true", help="if no loop of mioloop ran, exit with status 1"
    )
    return parser


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into the options of this command, and the program with its own arguments."""
    ours: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        option = rest.pop(0)
        if option == "--":
            break
        ours.append(option)
        if option in VALUED and rest:
            ours.append(rest.pop(0))
    return ours, rest


def has_main(folder: str) -> bool:
    """Whether python runs the directory. Any other may have the name of a console script."""
    return any(os.path.exists(os.path.join(folder, f"__main__.{end}")) for end in ("py", "pyc"))


def find_program(parser: Parser, program: list[str]) -> list[str]:
    """The arguments with which python runs *program*."""
    name = program[0]
    if name in ("-m", "-c"):
        if len(program) == 1:
            parser.error(f"{name} needs a {'module' if name == '-m' else 'text'} to run")
        return program
    folder = os.path.isdir(name)
    if name == "-" or (has_main(name) if folder else os.path.exists(name)):
        return program
    if not folder and (os.sep in name or name.endswith(".py")):
        parser.error(f"there is no file {name!r}")
    # A console script, e.g. uvicorn. Console scripts of this environment come first.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None and folder:
        parser.error(f"there is no file __main__.py in the directory {name!r}")
    if found is None:
        close = difflib.get_close_matches(name, os.listdir(os.path.dirname(sys.executable)), 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        parser.error(f"there is no file and no program {name!r}{meant}")
    with open(found, "rb") as file:
        if b"python" not in file.read(256):
            parser.error(f"{found} is not a Python program")
    return [found, *program[1:]]


def interpreter_options() -> list[str]:
    """The options of this Python, which the program's Python gets as well: -X dev, -W error."""
    own = sys.argv[1:]
    before = sys.orig_argv[: len(sys.orig_argv) - len(own)]     # python, options, this command
    if sys.orig_argv[len(before) :] != own:                     # not started as a command
        return []
    for i, argument in enumerate(before[1:], start=1):
        if argument.startswith("-m"):
            return before[1:i]
    return before[1:-1]


def check_options(parser: Parser, chosen: dict[str, str]) -> None:
    """Refuse a wrong value before the program begins."""
    os.environ.update(chosen)
    from mioloop.factory import new_event_loop

    try:
        new_event_loop().close()
    except (ValueError, ImportError) as exc:
        message = str(exc)
        for name in chosen:
            message = message.replace(name, f"--{name.removeprefix('MIOLOOP_').lower()}")
        parser.error(message)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    ours, program = split(arguments)
    options = parser.parse(ours)
    if not program:
        parser.error("there is no program to run")
    if sys.flags.ignore_environment or sys.flags.no_site:
        parser.error("python's options -E, -I and -S hide the program's loop from mioloop")
    chosen = {
        f"MIOLOOP_{name.upper()}": value
        for name in ("backend", "trigger", "selector", "spin", "stall")
        if (value := getattr(options, name)) is not None
    }
    if options.no_io_uring:
        chosen["MIOLOOP_IO_URING"] = "0"
    for name in ("console", "durations"):
        if getattr(options, name):
            chosen[f"MIOLOOP_{name.upper()}"] = "1"
    check_options(parser, chosen)
    command = find_program(parser, program)
    if options.as_uvloop:
        chosen["MIOLOOP_AS_UVLOOP"] = "1"
    if options.strict:
        chosen["MIOLOOP_STRICT"] = "1"
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | chosen | {"PYTHONPATH": path, "MIOLOOP_RUN": "1"}
    if environment.get("MIOLOOP_BACKEND", "mio") in ("", "mio"):    # else no loop of mioloop runs
        handle, environment["MIOLOOP_RUN_SEEN"] = tempfile.mkstemp(prefix="mioloop-run-")
        os.close(handle)
        environment["MIOLOOP_RUN_PID"] = str(os.getpid())
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *interpreter_options(), *command], environment)
