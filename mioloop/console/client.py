"""The client's side of the console: finding the processes that have one, and asking them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import sys
from typing import Any

from mioloop.console import VERSION, place

TIMEOUT_S = 10.0
PIECE = 1 << 20

Answer = dict[str, Any]


class ConsoleError(Exception):
    """The process cannot be asked; the message is one line that says what to do."""


class Connection:
    """A connection to the console of process *pid*. Raises ConsoleError if there is none."""

    def __init__(self, pid: int, path: str) -> None:
        self.pid = pid
        self._received = b""
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(TIMEOUT_S)
        try:
            self._sock.connect(path)
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._sock.close()

    def ask(self, ask: str, **more: Any) -> Answer:
        try:
            request = {"v": VERSION, "ask": ask} | more
            self._sock.sendall(json.dumps(request).encode() + b"\n")
            return self._checked(json.loads(self._receive_line()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise ConsoleError(
                f"process {self.pid} has ended, or it has closed its last loop with a console"
            ) from None
        except TimeoutError:
            raise ConsoleError(
                f"process {self.pid} has not answered for {TIMEOUT_S:g} s: it may be stopped, or"
                " code that holds the GIL blocks all its threads; py-spy can look from outside"
            ) from None
        except (OSError, ValueError) as exc:
            raise ConsoleError(f"process {self.pid} cannot be asked: {exc}") from None

    def _receive_line(self) -> bytes:
        pieces = [self._received]
        while b"\n" not in pieces[-1]:
            data = self._sock.recv(PIECE)
            if not data:
                raise EOFError
            pieces.append(data)
        line, _, self._received = b"".join(pieces).partition(b"\n")
        return line

    def _checked(self, answer: Any) -> Answer:
        if not isinstance(answer, dict) or answer.get("v") != VERSION:
            raise ConsoleError(
                f"process {self.pid} has another version of mioloop: use the Python that runs it"
            )
        if "error" in answer:
            raise ConsoleError(f"process {self.pid}: {answer['error']}")
        return answer


def connect(pid: int) -> Connection:
    """Connect to process *pid*. Raises ConsoleError."""
    uid = owner_of(pid)
    if uid is None:
        raise ConsoleError(f"there is no process {pid}")
    if uid != os.geteuid() and not is_root():
        raise ConsoleError(
            f"process {pid} belongs to user {user_name(uid)}: run this as that user, or as root"
        )
    path = place.sockets_of(uid).get(pid)
    connection = None if path is None else try_to_connect(pid, path)
    if connection is None:
        raise ConsoleError(
            f"process {pid} has no console: start it with MIOLOOP_CONSOLE=1, with"
            " `python -m mioloop run --console`, or with new_event_loop(console=True)"
        )
    return connection


def try_to_connect(pid: int, path: str) -> Connection | None:
    """Connect, or remove the socket of a process that has ended."""
    try:
        return Connection(pid, path)
    except ConnectionRefusedError:          # nothing listens, and never will: see _listen()
        with contextlib.suppress(OSError):
            os.unlink(path)
    except OSError:
        pass
    return None


def consoles() -> list[Connection]:
    """A connection to each process of this user that has a console, ordered by pid."""
    found = [
        try_to_connect(pid, path) for pid, path in sorted(place.sockets_of(os.geteuid()).items())
    ]
    return [connection for connection in found if connection is not None]


def choose(pid: int | None) -> Connection:
    """Connect to *pid*, or to the only process that has a console. Raises ConsoleError."""
    if pid is not None:
        return connect(pid)
    found = consoles()
    if len(found) == 1:
        return found[0]
    with contextlib.ExitStack() as stack:
        for connection in found:
            stack.enter_context(connection)
        if not found:
            raise ConsoleError(
                "no process of this user has a console: start one with MIOLOOP_CONSOLE=1 or with"
                " `python -m mioloop run --console`"
            )
        programs = [(each.pid, each.ask("loops")["program"]) for each in found]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        pids = ", ".join(str(each) for each, _ in programs)
        raise ConsoleError(f"{len(programs)} processes have a console: give one of {pids}")
    return connect(_ask_which(programs))


def _ask_which(programs: list[tuple[int, str]]) -> int:
    for number, (pid, program) in enumerate(programs, start=1):
        print(f"  {number}  {pid:>7}  {program}", file=sys.stderr)
    print(f"which process, 1 to {len(programs)}? ", end="", file=sys.stderr, flush=True)
    text = sys.stdin.readline().strip()
    if text.isdecimal() and 1 <= int(text) <= len(programs):
        return programs[int(text) - 1][0]
    raise ConsoleError(f"{text!r} is not a number from 1 to {len(programs)}")


def is_root() -> bool:
    return os.geteuid() == 0


def owner_of(pid: int) -> int | None:
    """The user of process *pid*; None if there is no such process."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:                         # no /proc
        return os.geteuid()


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
