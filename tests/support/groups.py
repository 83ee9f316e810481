"""Groups that run in a thread while a test talks to their workers; programs that run a group."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mioloop.group import LoopGroup
from tests.group import mains

WAIT_S = 30.0


class RunningGroup:
    """A group, and the thread that runs it."""

    def __init__(self, group: LoopGroup, main: Callable[..., Any]) -> None:
        self.group = group
        self.results: list[Any] | None = None
        self.exception: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(main,))
        self._thread.start()

    def _run(self, main: Callable[..., Any]) -> None:
        try:
            self.results = self.group.run(main)
        except BaseException as exc:
            self.exception = exc

    def port(self, index: int = 0) -> int:
        return self.ports(index)[0]

    def ports(self, index: int = 0, count: int = 1) -> list[int]:
        found: list[int] = self.call(index, mains.ports_of_worker, count)
        return found

    def call(self, index: int, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a call, as soon as the group runs."""
        deadline = threading.Event()
        while True:
            try:
                return self.group.call(index, function, *args).result(WAIT_S)
            except RuntimeError as exc:
                if "not running" not in str(exc) or not self._thread.is_alive():
                    raise
                deadline.wait(0.005)

    def end(self) -> Any:
        """Wait for the end; the results, or the exception of run()."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        if self.exception is not None:
            raise self.exception
        return self.results


@contextlib.contextmanager
def running(main: Callable[..., Any], **options: Any) -> Iterator[RunningGroup]:
    options = {"workers": 2, "report": False} | options
    with LoopGroup(**options) as group:
        run = RunningGroup(group, main)
        try:
            yield run
        finally:
            group.stop(abort=True)
            run._thread.join(WAIT_S)
            assert not run._thread.is_alive()


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=WAIT_S)


def ask(port: int) -> int:
    """The number of the worker that answers a new connection."""
    with connect(port) as sock:
        sock.sendall(b"?\n")
        return int(sock.makefile().readline())


class Program:
    """A script that runs a group, in a process and a process group of its own."""

    def __init__(self, script: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )

    def line(self) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out, err


@contextlib.contextmanager
def program(script: Path, *arguments: str) -> Iterator[Program]:
    run = Program(script, *arguments)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()
