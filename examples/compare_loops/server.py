"""A server process: examples/aiohttp_server.py on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from .. import aiohttp_server

START_S = 20.0
STOP_S = 10.0

# `Server.loop_class` begins with this if the server runs on the loop that was asked for.
MODULES = {"mioloop": "mioloop.", "uvloop": "uvloop.", "asyncio": "asyncio."}


class ServerError(Exception):
    """The server did not start, ran another loop, or did not end cleanly."""


class Server:
    """A running server. Made by `start`; the caller of `start` calls `stop`."""

    def __init__(
        self, loop_name: str, process: asyncio.subprocess.Process, url: str, loop_class: str
    ) -> None:
        self.loop_name = loop_name
        self.url = url
        self.loop_class = loop_class
        self._process = process

    @classmethod
    async def start(cls, loop_name: str, file: Path) -> Server:
        """Start a server on the loop *loop_name* that serves *file*, and wait until it listens.

        Raises:
            ServerError: it ended, said nothing for `START_S` seconds, or runs on another loop.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(aiohttp_server.__file__),
            *("--loop", loop_name, "--port", "0", "--file", str(file)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            first_line = await asyncio.wait_for(process.stdout.readline(), START_S)
            if not first_line:
                code = await asyncio.wait_for(process.wait(), STOP_S)
                raise ServerError(f"the server ended with exit code {code} at start")
            bound = json.loads(first_line)
            if not bound["loop"].startswith(MODULES[loop_name]):
                raise ServerError(f"the server runs on {bound['loop']}")
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(exc, asyncio.TimeoutError):
                raise ServerError(
                    f"the server does not listen after {START_S:g} s"
                ) from None
            raise
        return cls(loop_name, process, f"http://{bound['host']}:{bound['port']}", bound["loop"])

    def cpu_s(self) -> float | None:
        """CPU seconds, user and system, that the process has used; None where there is no /proc."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except FileNotFoundError:
            return None
        # The command's name, field 2, may hold spaces and parentheses; utime is field 14.
        utime, stime = stat.rpartition(")")[2].split()[11:13]
        return (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> None:
        """End the server by SIGTERM.

        Raises:
            ServerError: it had ended before, or did not end cleanly within `STOP_S` seconds.
        """
        if self._process.returncode is not None:
            raise ServerError(
                f"the server ended early, with exit code"
                f" {self._process.returncode}"
            )
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_S)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise ServerError(
                f"the server still runs {STOP_S:g} s after SIGTERM"
            ) from None
        if code != 0:
            raise ServerError(f"the server ended with exit code {code}")
