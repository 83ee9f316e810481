"""Measures the user's program on each loop: ``--app module:name`` and ``-- COMMAND``.

Only the environment selects the loop of a command: MIOLOOP_BACKEND and the other variables for a
program that uses mioloop, and for every other program a ``sitecustomize`` first on PYTHONPATH
(see ``hook/``), which sets the event loop policy. The hook also reports the class of the running
loop. If that is not the requested one, the case fails.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import shutil
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mioloop import applications
from mioloop.compare.measure import cpu, samplers, servers
from mioloop.compare.measure.loops import Loop
from mioloop.compare.measure.processes import Failure, Worker
from mioloop.compare.measure.samplers import Bench, Options, Sample
from mioloop.compare.measure.workloads import Case, Workload, cases_of

HOOK = Path(__file__).parent / "hook"
STOP_S = 5.0

APP_KINDS = (
    "an aiohttp.web.Application, an ASGI application (scope, receive, send), a function without"
    " arguments that returns one of these, or an async function (host, port) that returns an"
    " asyncio.Server"
)


# -- --app: the worker runs it ------------------------------------------------------------


async def serve_app(name: str) -> int:
    """Serve the object ``module:name`` in the running loop, and return the port."""
    return await _serve_object(name, applications.find(name), may_call=True)


async def _serve_object(name: str, app: Any, may_call: bool) -> int:
    # uvloop's Server is not a subclass of asyncio's.
    if hasattr(app, "sockets") and hasattr(app, "start_serving"):
        return servers.port_of(app)
    kind = applications.kind_of(app)
    if kind == applications.AIOHTTP:
        return await servers.serve_aiohttp(app)
    if kind == applications.ASGI:
        return await servers.serve_asgi(app)
    takes = applications.required_arguments(app)
    if takes in (0, 2) and may_call:
        made = app() if takes == 0 else app("127.0.0.1", 0)
        if inspect.isawaitable(made):
            made = await made
        return await _serve_object(name, made, may_call=False)
    raise TypeError(f"{name} is {app!r}, and not {APP_KINDS}")


# -- a command ------------------------------------------------------------------------------


class CommandSampler:
    """Measures the user's command on one loop."""

    def __init__(
        self, loop: Loop, command: Sequence[str], port: int | None, options: Options, bench: Bench
    ) -> None:
        self.name = loop.name
        self._loop, self._bench, self._options = loop, bench, options
        self._command, self._fixed_port = command, port
        self._address, self._port = "127.0.0.1", 0
        self._worker: Worker | None = None
        self._seen = Path(bench.new_path()).with_suffix(".loops")
        if port is None:
            self._start()

    def _start(self) -> None:
        self._port = self._fixed_port or _free_port()
        if self._answers():
            raise Failure(f"port {self._port} is in use by another program")
        self._seen.unlink(missing_ok=True)
        path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH", "")]))
        config = {
            "command": [part.replace("{port}", str(self._port)) for part in self._command],
            "environment": self._loop.environment
            | {"PORT": str(self._port), "PYTHONPATH": path}
            | {"MIOLOOP_COMPARE_SEEN": str(self._seen)},
        }
        self._worker = Worker("execute", config, self._options.server_cpu)

    def ready(self) -> None:
        if self._worker is not None:
            self._wait()

    def _wait(self) -> None:
        assert self._worker is not None
        deadline = time.monotonic() + samplers.START_S
        while not self._answers():
            if self._worker.process.poll() is not None:
                code = self._worker.process.returncode
                raise Failure(self._worker.last_error() or f"it ended with exit code {code}")
            if time.monotonic() > deadline:
                raise Failure(
                    f"nothing listens on port {self._port} after {samplers.START_S:g} s"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        for address in ("127.0.0.1", "::1"):
            with contextlib.suppress(OSError):
                socket.create_connection((address, self._port), 1).close()
                self._address = address
                return True
        return False

    @property
    def pid(self) -> int:
        return self._worker.pid if self._worker is not None else 0

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        if self._fixed_port is not None:
            self._start()
            self.ready()
        try:
            return self._sample(case, options, seconds, count)
        finally:
            if self._fixed_port is not None:
                self.stop()

    def _sample(self, case: Case, options: Options, seconds: float, count: bool) -> Sample:
        assert self._worker is not None
        job = samplers.load_job(
            case.workload, case, options, seconds, self._address, self._port, self._bench.path
        )
        try:
            sample = self._bench.generator.ask(
                {**job, "pid": self.pid, "purpose": "server", "count": count},
                seconds + options.timeout_s * 2 + samplers.GRACE_S,
            )
        except Failure as exc:
            raise Failure(samplers.explain(str(exc), self._worker)) from None
        self._check_loop()
        return sample

    def _check_loop(self) -> None:
        seen = self._seen.read_text().split() if self._seen.exists() else []
        if not seen:
            raise Failure(
                "no event loop ran: the command must be a Python program that runs asyncio,"
                " without the options -E, -I and -S"
            )
        for name in seen:
            if not self._loop.is_kind(name):
                raise Failure(
                    f"it ran {name}: it makes its loop without the policy (uvicorn needs"
                    " --loop none)"
                )

    def stop(self) -> None:
        """Ask the command to end, and kill it and its children if they still run later."""
        if self._worker is None:
            return
        pids = cpu.process_tree(self._worker.pid)
        self._worker.process.terminate()
        with contextlib.suppress(Exception):
            self._worker.process.wait(STOP_S)
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._worker.stop()
        self._worker = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- from the command line -----------------------------------------------------------------------


def prepare(
    options: argparse.Namespace,
    command: Sequence[str],
    loops: Sequence[Loop],
    measuring: Options,
    bench: Bench,
) -> tuple[list[Case], samplers.Makers]:
    """The cases and samplers of the user's program.

    Raises ValueError if the options name no program that can be measured.
    """
    name = options.app or Path(command[0]).name
    workload = Workload(
        "program", f"{name}, GET {options.path}", protocol="http", connections=(64,), quick=(0, 64)
    )
    if not options.path.startswith("/"):
        raise ValueError(f"--path {options.path!r} does not begin with /")
    cases = cases_of(workload, options.quick, (), options.connections)
    if options.app:
        module, _, attribute = options.app.partition(":")
        if not module or not attribute:
            raise ValueError(f"--app {options.app!r} is not MODULE:NAME")
        return cases, [
            partial(samplers.ServerSampler, loop, workload, measuring, bench, options.app)
            for loop in loops
        ]
    if shutil.which(command[0]) is None:
        raise ValueError(f"there is no command {command[0]!r}")
    if options.port is None and not any("{port}" in part for part in command):
        raise ValueError(
            "the command contains no {port}: write it where the port belongs, or give the port on"
            " which it listens as --port"
        )
    return cases, [
        partial(CommandSampler, loop, command, options.port, measuring, bench) for loop in loops
    ]
