"""``python -m mioloop COMMAND``: run, serve, compare, doctor; ps, top, stack, trace."""

from __future__ import annotations

import difflib
import os
import select
import sys
from collections.abc import Sequence

HELP = """\
usage: python -m mioloop COMMAND ...

  run       run an unchanged program on mioloop's event loops
  serve     serve a web application on all cores, behind one port
  compare   measure asyncio, uvloop, mioloop and others, on this machine
  doctor    say what is installed here, and whether a loop works

  ps        list the loops that have a console, or the tasks of one process
  top       show live how busy and how late the loops of a process are
  stack     show the lines that the loops of a process execute now
  trace     record the callbacks of a process for some seconds, for Perfetto

python -m mioloop COMMAND --help says more."""

SIGPIPE = 13
CONSOLE = ("ps", "top", "stack", "trace")
COMMANDS = ("run", "serve", "compare", "doctor", *CONSOLE)


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0 if arguments else 2
    command, *rest = arguments
    if command == "--version":
        from mioloop import __version__

        print(f"mioloop {__version__}")
        return 0
    if command == "compare":
        from mioloop.compare import cli

        return cli.main(rest)
    if command == "run":
        from mioloop import launch

        return launch.main(rest)
    if command == "serve":
        from mioloop.group import serve

        return serve.serve(rest)
    if command == "doctor":
        from mioloop import doctor

        return doctor.main(rest)
    if command in CONSOLE:
        from mioloop.console import cli as console

        return console.main(command, rest)
    close = difflib.get_close_matches(command, COMMANDS, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    print(
        f"python -m mioloop: there is no command {command!r}{meant}\n"
        f"the commands are {', '.join(COMMANDS)}",
        file=sys.stderr,
    )
    return 2


def main_of_script() -> int:
    """The console script ``mioloop``. It ends quietly if its reader ends first, such as head(1)."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)
        if not output.poll(0):              # POLLERR: stdout is a pipe without a reader
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is flushed at exit
        return 128 + SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(main_of_script())
