"""Starts the child processes of a comparison, and talks to them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from typing import Any


class Failure(Exception):
    """A case failed on a loop, because a request, the server or the worker failed."""


class Worker:
    """A child process that reads and writes lines of JSON."""

    def __init__(self, role: str, config: dict[str, Any], pinned: int | None) -> None:
        config = {**config, "parent": os.getpid(), "cpu": pinned}
        self._stderr = tempfile.TemporaryFile()
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mioloop.compare.measure.worker", role, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_error(self) -> str:
        """The last line that the process wrote to standard error."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def read(self, timeout_s: float) -> dict[str, Any]:
        """Return the next message of the worker.

        Raises Failure if none arrives in time, or if the message is an error.
        """
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise Failure(f"no answer from the worker in {timeout_s:g} s")
            data = os.read(fd, 65536)
            if not data:
                code = self.process.wait()
                raise Failure(self.last_error() or f"the worker ended with exit code {code}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise Failure(message["error"])
        return message

    def ask(self, job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failure(self.last_error() or "the worker has ended") from None
        return self.read(timeout_s)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
