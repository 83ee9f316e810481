"""Real child processes: programs to run, a protocol that records, and accounts of children."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

PIPE = asyncio.subprocess.PIPE

# Ends when its stdin does, and before that answers each line.
CAT = ("/bin/cat",)

FOLLOW_THE_LOOP = [
    # On 3.10 and 3.11 the stdlib's watcher wants to be attached to a loop of the main thread.
    pytest.mark.filterwarnings("ignore:.*child_watcher.*:DeprecationWarning"),
    pytest.mark.usefixtures("loop_is_set"),
]
# The marks of a module whose tests leave no child behind.
REAL_CHILDREN = [*FOLLOW_THE_LOOP, pytest.mark.usefixtures("no_child_is_left")]


def python(code: str) -> tuple[str, ...]:
    """The arguments of a program in Python."""
    return sys.executable, "-S", "-c", code


def fail() -> NoReturn:
    """A preexec_fn that raises."""
    raise ZeroDivisionError


def children_left() -> list[tuple[int, int]]:
    """Children of this process, living (a 0) or dead (their status); the dead are reaped."""
    gc.collect()
    subprocess._cleanup()
    left: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        while not left or left[-1][0]:
            left.append(os.waitpid(-1, os.WNOHANG))
    return left


@pytest.fixture
def no_child_is_left() -> Iterator[None]:
    """No test leaves a child, living or dead."""
    # Of other modules: uvloop leaves dead ones, and the servers of tests/services live on.
    lived_before = any(pid == 0 for pid, _ in children_left())
    yield
    left = children_left()
    if lived_before:
        left = [(pid, status) for pid, status in left if pid]
    assert not left


@pytest.fixture
def loop_is_set(request: pytest.FixtureRequest) -> Iterator[None]:
    """The stdlib's child watchers follow the loop that is set, up to 3.11."""
    if "loop" not in request.fixturenames:
        yield
        return
    asyncio.set_event_loop(request.getfixturevalue("loop"))
    yield
    asyncio.set_event_loop(None)


class Gate:
    """``wait()`` blocks, in any process, until ``open()``."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()

    def wait(self) -> None:
        os.read(self._read_end, 1)

    def open(self) -> None:
        os.write(self._write_end, b"x")

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


class Recorder(asyncio.SubprocessProtocol):
    """Notes its calls; `raising` names the callbacks that raise."""

    def __init__(self, *raising: str) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.raising = raising
        self.lost = asyncio.get_running_loop().create_future()

    def _note(self, name: str, *args: Any) -> None:
        self.calls.append((name, *args))
        if name == "connection_lost":
            self.lost.set_result(None)
        if name in self.raising:
            raise ValueError(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._note("pipe_data_received", fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._note("pipe_connection_lost", fd, exc)

    def process_exited(self) -> None:
        self._note("process_exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("connection_lost", exc)
