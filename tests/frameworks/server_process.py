"""A server that runs in a process of its own, on the loop that its command line chooses."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WAIT_S = 20.0


@dataclass(frozen=True)
class ServedLoop:
    """The loop that a server in a process of its own runs on."""

    name: str
    trigger: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.trigger}" if self.trigger else self.name

    def runs(self, answer: bytes) -> bool:
        """Whether this is the loop that asgi_app answered from."""
        seen = json.loads(answer)
        return seen["loop"].startswith(f"{self.name}.") and (
            f"trigger={self.trigger}" in seen["repr"] or not self.trigger
        )

    @property
    def factory(self) -> str:
        """As uvicorn's --loop wants it."""
        return "mioloop:new_event_loop" if self.name == "mioloop" else self.name

    @property
    def policy_options(self) -> list[str]:
        """Options of `python -m mioloop run`: the policy chooses each of the loops."""
        backend = "mio" if self.name == "mioloop" else self.name
        return ["--backend", backend, *(["--trigger", self.trigger] if self.trigger else [])]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MIOLOOP_")}
        return inherited | ({"MIOLOOP_TRIGGER": self.trigger} if self.trigger else {})


SERVED_LOOPS = [
    ServedLoop("asyncio"),
    ServedLoop("uvloop"),
    *(ServedLoop("mioloop", trigger) for trigger in ("edge", "level", "oneshot")),
]


class ServerProcess:
    """A server that was started by its own command line, and the lines that it logs."""

    def __init__(self, served_loop: ServedLoop, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=Path(__file__).parent,      # where asgi_app is
            env=served_loop.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,     # so that its workers can be ended with it
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        while (line := self._lines.get(timeout=WAIT_S)) is not None:
            self.log.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"the server ended without logging {pattern!r}: {self.log}")

    def stop(self) -> list[str]:
        """End it by SIGTERM; all it has logged."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> list[str]:
        """All it has logged, once it has ended."""
        self.process.wait(WAIT_S)
        while (line := self._lines.get(timeout=WAIT_S)) is not None:
            self.log.append(line)
        return self.log


@contextmanager
def server_process(served_loop: ServedLoop, *command: str) -> Iterator[ServerProcess]:
    """A running server; however the block ends, it and its workers are gone afterwards."""
    server = ServerProcess(served_loop, *command)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait(WAIT_S)
