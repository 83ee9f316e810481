"""Runs the cells: starts the processes, interleaves the rounds, collects the samples.

In each round every loop gets its turn, and every other round in the opposite order, so that a
machine that slows down slows them all. The first round warms up and is not counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mioloop.compare.loops import FLOOR, Loop
from mioloop.compare.network import HTTP_REQUEST
from mioloop.compare.workloads import Cell, Workload

START_S = 30.0
GRACE_S = 30.0          # for an answer, beyond the time that was asked for

Sample = dict[str, float]


class Failure(Exception):
    """A cell failed on a loop: a request, the server or the worker did."""


@dataclass
class Options:
    """How to measure."""

    seconds: float = 1.0
    warm_s: float = 0.2
    rounds: int = 7
    timeout_s: float = 5.0
    syscalls: bool = False
    server_cpu: int | None = None
    client_cpu: int | None = None
    deadline: float = float("inf")          # time.monotonic() after which no cell begins


@dataclass
class Result:
    """All that was seen of one loop in one cell."""

    loop: str
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""
    syscalls: float | None = None           # for each request
    syscall_counts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class CellResult:
    cell: Cell
    results: list[Result] = field(default_factory=list)


# -- child processes -----------------------------------------------------------------------


class Worker:
    """A child process that speaks JSON by lines."""

    def __init__(self, role: str, config: dict[str, Any], pinned: int | None) -> None:
        config = {**config, "parent": os.getpid(), "cpu": pinned}
        self._stderr = tempfile.TemporaryFile()
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mioloop.compare.worker", role, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def complaint(self) -> str:
        """The last line that it wrote to standard error."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def read(self, timeout_s: float) -> dict[str, Any]:
        """Its next line.

        Raises Failure if there is none in time, or if the line says that it failed.
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
                raise Failure(self.complaint() or f"the worker ended with exit code {code}")
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
            raise Failure(self.complaint() or "the worker has ended") from None
        return self.read(timeout_s)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class SystemCalls:
    """Counts the system calls of a process meanwhile, by strace."""

    def __init__(self, pid: int) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._summary = Path(self._directory.name) / "summary"
        self._strace = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-o", str(self._summary), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._strace.stderr is not None
        first = self._strace.stderr.readline()
        if "attached" not in first:
            self._strace.wait()
            raise Failure(f"strace: {first.strip() or 'it could not attach'}")

    def stop(self) -> dict[str, int]:
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate()
        text = self._summary.read_text()
        self._directory.cleanup()
        return {
            name: int(calls)
            for calls, name in re.findall(r"^ *(\d+) +(\w+)$", text, re.MULTILINE)
            if name != "total"
        }


# -- contestants: one loop, or the floor, in a cell ----------------------------------------------


class Contestant(Protocol):
    """Takes samples of one loop. `pid` is of the process that is measured; 0: none lives on."""

    @property
    def pid(self) -> int: ...

    def ready(self) -> None:
        """Wait until samples can be taken; raises Failure if they cannot."""

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample: ...

    def stop(self) -> None: ...


Makers = list[Callable[[], Contestant]]


def load_job(
    workload: Workload,
    cell: Cell,
    options: Options,
    seconds: float,
    address: str,
    port: int,
    path: str = "/",
) -> dict[str, Any]:
    """What the load generator is asked to do."""
    return {
        "transport": workload.transport,
        "protocol": workload.protocol,
        "address": address,
        "port": port,
        "tls": workload.tls,
        "size": cell.size,
        "head_size": workload.head_size,
        "connections": cell.connections,
        "reconnect": workload.reconnect,
        "request": (HTTP_REQUEST % path.encode()).decode() if workload.protocol == "http" else "",
        "timeout_s": options.timeout_s,
        "warm_s": min(options.warm_s, seconds),
        "seconds": seconds,
    }


class Server:
    """A server of one workload on one loop, under load from the generator."""

    def __init__(
        self, loop: Loop | None, workload: Workload, options: Options, bench: Bench, app: str = ""
    ) -> None:
        self.name = FLOOR if loop is None else loop.name
        self._loop, self._workload, self._bench = loop, workload, bench
        path = bench.new_path() if workload.transport == "unix" else ""
        config: dict[str, Any] = {
            "workload": workload.name,
            "path": path,
            "certificate": bench.certificate() if workload.tls else None,
        }
        if loop is not None:
            config["loop"] = loop.name
        if app:
            config["app"] = app
        role = "floor" if loop is None else "serve"
        self._address, self._port = path or "127.0.0.1", 0
        self._worker = Worker(role, config, options.server_cpu)

    def ready(self) -> None:
        """Waits until it listens, and checks that it is the loop that was asked for."""
        said = self._worker.read(START_S)
        self._port = said["port"]
        if self._loop is not None and not self._loop.is_kind(said["loop"]):
            raise Failure(f"it runs on {said['loop']}")

    @property
    def pid(self) -> int:
        return self._worker.pid

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample:
        job = load_job(
            self._workload, cell, options, seconds, self._address, self._port, self._bench.path
        )
        try:
            return self._bench.generator.ask(
                {**job, "pid": self.pid}, seconds + options.timeout_s * 2 + GRACE_S
            )
        except Failure as exc:
            raise Failure(explain(str(exc), self._worker)) from None

    def stop(self) -> None:
        self._worker.stop()


def explain(failure: str, worker: Worker) -> str:
    """A failure, with what the process that was measured has to say to it."""
    if worker.process.poll() is not None:
        failure += f"; the server ended with exit code {worker.process.returncode}"
    complaint = worker.complaint()
    return f"{failure}; it said: {complaint}" if complaint else failure


class MemoryOf:
    """Each sample is of a server of its own: memory that is free is not given back."""

    pid = 0

    def __init__(
        self, loop: Loop | None, workload: Workload, options: Options, bench: Bench
    ) -> None:
        self.name = FLOOR if loop is None else loop.name
        self._make = partial(Server, loop, workload, options, bench)
        self._bench = bench
        self._workload = workload

    def ready(self) -> None:
        pass

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample:
        server = self._make()
        try:
            server.ready()
            job = load_job(
                self._workload, cell, options, seconds, server._address, server._port
            )
            return self._bench.generator.ask(
                {**job, "pid": server.pid, "idle": True}, START_S + cell.connections * 0.02
            )
        except Failure as exc:
            raise Failure(explain(str(exc), server._worker)) from None
        finally:
            server.stop()

    def stop(self) -> None:
        pass


class Local:
    """A worker that does the workload in its own process."""

    def __init__(self, loop: Loop, options: Options, bench: Bench) -> None:
        self.name = loop.name
        self._loop, self._bench = loop, bench
        self._worker = Worker("work", {"loop": loop.name}, options.server_cpu)

    def ready(self) -> None:
        said = self._worker.read(START_S)
        if not self._loop.is_kind(said["loop"]):
            raise Failure(f"it runs on {said['loop']}")

    @property
    def pid(self) -> int:
        return self._worker.pid

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample:
        job: dict[str, Any] = {"workload": cell.workload.name, "seconds": seconds}
        if cell.workload.side == "client":
            job |= {"port": self._bench.floor_port(cell.workload), "connections": cell.connections}
        return self._worker.ask(job, seconds + GRACE_S)

    def stop(self) -> None:
        self._worker.stop()


class FloorClient:
    """The load generator itself, as the floor of clients."""

    name = FLOOR

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def ready(self) -> None:
        pass

    @property
    def pid(self) -> int:
        return self._bench.generator.pid

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample:
        port = self._bench.floor_port(cell.workload)
        job = load_job(cell.workload, cell, options, seconds, "127.0.0.1", port)
        timeout_s = seconds + options.timeout_s + GRACE_S
        return self._bench.generator.ask({**job, "pid": 0, "measure_client": True}, timeout_s)

    def stop(self) -> None:
        pass


IMPORT_PROBE = """\
import time
started, used = time.perf_counter(), time.process_time()
import asyncio
if {module!r} == "mioloop":
    import mioloop.policy
else:
    import {module}
print(time.perf_counter() - started, time.process_time() - used)
"""


class Imports:
    """New interpreters."""

    pid = 0

    def __init__(self, loop: Loop) -> None:
        self.name = loop.name
        self._probe = IMPORT_PROBE.format(module=loop.name.partition(":")[0].partition("-")[0])

    def ready(self) -> None:
        pass

    def sample(self, cell: Cell, options: Options, seconds: float) -> Sample:
        took: list[float] = []
        used_s = 0.0
        until = time.monotonic() + seconds
        while not took or time.monotonic() < until:
            done = subprocess.run(
                [sys.executable, "-c", self._probe], capture_output=True, text=True
            )
            if done.returncode != 0:
                raise Failure(done.stderr.strip().splitlines()[-1])
            elapsed, cpu_s = map(float, done.stdout.split())
            took.append(elapsed)
            used_s += cpu_s
        took.sort()
        return {
            "requests": len(took), "elapsed_s": sum(took), "p50_s": took[len(took) // 2],
            "p99_s": took[-1], "p999_s": took[-1], "max_s": took[-1], "cpu_s": used_s,
        }

    def stop(self) -> None:
        pass


# -- the bench --------------------------------------------------------------------------------


class Bench:
    """What the contestants of a run share: the load generator, a directory, the floor."""

    def __init__(self, options: Options, path: str = "/") -> None:
        self.options, self.path = options, path
        self._directory = tempfile.TemporaryDirectory(prefix="mioloop-compare-")
        self._certificate = ""
        self._sockets = 0
        self._floors: dict[str, Server] = {}
        self._generator: Worker | None = None

    @property
    def generator(self) -> Worker:
        """The load generator; a new one if the last has ended."""
        if self._generator is None or self._generator.process.poll() is not None:
            self._generator = Worker("generate", {}, self.options.client_cpu)
        return self._generator

    def certificate(self) -> str:
        if not self._certificate:
            from mioloop.compare import client

            path = str(Path(self._directory.name) / "localhost.pem")
            try:
                client.make_certificate(path)
            except (client.LoadError, OSError) as exc:
                raise Failure(str(exc)) from None
            self._certificate = path
        return self._certificate

    def new_path(self) -> str:
        self._sockets += 1
        return str(Path(self._directory.name) / f"{self._sockets}.sock")

    def floor_port(self, workload: Workload) -> int:
        """The port of a floor server, on the core that the load generator is not measured on."""
        if workload.name not in self._floors:
            other = Options(server_cpu=self.options.client_cpu)
            server = self._floors[workload.name] = Server(None, workload, other, self)
            server.ready()
        return self._floors[workload.name]._port

    def close(self) -> None:
        for server in self._floors.values():
            server.stop()
        if self._generator is not None:
            self._generator.stop()
        self._directory.cleanup()


def contestants_of(
    workload: Workload, loops: Sequence[Loop], floor: bool, options: Options, bench: Bench
) -> Makers:
    """What makes each contestant of a workload; the floor is the last."""
    makers: Makers = []
    for loop in loops:
        if workload.side == "server":
            makers.append(partial(Server, loop, workload, options, bench))
        elif workload.side == "idle":
            makers.append(partial(MemoryOf, loop, workload, options, bench))
        elif workload.side == "import":
            makers.append(partial(Imports, loop))
        else:
            makers.append(partial(Local, loop, options, bench))
    if floor and workload.side == "server":
        makers.append(partial(Server, None, workload, options, bench))
    elif floor and workload.side == "idle":
        makers.append(partial(MemoryOf, None, workload, options, bench))
    elif floor and workload.side == "client":
        makers.append(partial(FloorClient, bench))
    return makers


@contextlib.contextmanager
def _started(
    makers: Makers, names: Sequence[str]
) -> Iterator[dict[str, Contestant | Failure]]:
    """The contestants by name; a Failure stands for one that could not start."""
    made: dict[str, Contestant | Failure] = {}
    try:
        for name, make in zip(names, makers):       # all at once ...
            try:
                made[name] = make()
            except Failure as exc:
                made[name] = exc
        for name in names:                          # ... and then wait for each
            contestant = made[name]
            if isinstance(contestant, Failure):
                continue
            try:
                contestant.ready()
            except Failure as exc:
                contestant.stop()
                made[name] = exc
        yield made
    finally:
        for contestant in made.values():
            if not isinstance(contestant, Failure):
                contestant.stop()


def run(
    cells: Sequence[Cell],
    contestants: Callable[[Workload], tuple[list[str], Makers]],
    options: Options,
    progress: Callable[[str], None],
) -> list[CellResult]:
    """All cells, those of one workload on the same processes. `progress` hears of each sample."""
    found: list[CellResult] = []
    groups: list[list[Cell]] = []
    for cell in cells:
        # Local workloads leave nothing behind: one process of each loop does them all.
        shared = groups and (
            groups[-1][0].workload.name == cell.workload.name
            or groups[-1][0].workload.side == cell.workload.side == "local"
        )
        if shared:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    for group in groups:
        names, makers = contestants(group[0].workload)
        if time.monotonic() > options.deadline:
            found += [_skipped(cell, names) for cell in group]
            continue
        with _started(makers, names) as made:
            for cell in group:
                if time.monotonic() > options.deadline:
                    found.append(_skipped(cell, names))
                else:
                    found.append(measure(cell, made, options, progress))
    return found


def _skipped(cell: Cell, names: Sequence[str]) -> CellResult:
    return CellResult(cell, [Result(name, skipped="no time was left") for name in names])


def measure(
    cell: Cell,
    made: dict[str, Contestant | Failure],
    options: Options,
    progress: Callable[[str], None],
) -> CellResult:
    """All rounds of one cell."""
    results = {
        name: Result(name, failed=str(contestant) if isinstance(contestant, Failure) else "")
        for name, contestant in made.items()
    }
    warms_up = cell.workload.side in ("local", "client")     # the load generator does its own
    for turn in range(-warms_up, options.rounds):
        order = list(made) if turn % 2 == 0 else list(reversed(made))
        for name in order:
            result, contestant = results[name], made[name]
            if isinstance(contestant, Failure) or result.failed:
                continue
            progress(name)
            seconds = options.seconds if turn >= 0 else options.warm_s
            try:
                sample = contestant.sample(cell, options, seconds)
            except Failure as exc:
                result.failed = str(exc)
                continue
            if turn >= 0:
                result.samples.append(_by_request(sample))
    if options.syscalls:
        for name, contestant in made.items():
            if not (isinstance(contestant, Failure) or results[name].failed) and contestant.pid:
                progress(f"{name}, system calls")
                _count_system_calls(cell, contestant, results[name], options)
    return CellResult(cell, list(results.values()))


def _by_request(sample: Sample) -> Sample:
    """A sample whose processor time is for one request."""
    requests, elapsed_s = sample["requests"], sample["elapsed_s"]
    if not requests:
        return sample
    sample["rate"] = requests / elapsed_s
    if "cpu_s" in sample:
        sample["busy"] = sample["cpu_s"] / elapsed_s
    for name in ("cpu_s", "user_s", "system_s"):
        if sample.get(name) is not None:
            sample[name] /= requests
    return sample


def _count_system_calls(
    cell: Cell, contestant: Contestant, result: Result, options: Options
) -> None:
    if shutil.which("strace") is None:
        result.notes.append("system calls are not counted: strace is not installed")
        return
    # Connecting is counted too: enough requests for it not to matter.
    options = Options(**{**vars(options), "warm_s": 0})
    try:
        counting = SystemCalls(contestant.pid)
    except Failure as exc:
        result.notes.append(f"system calls are not counted: {exc}")
        return
    try:
        sample = contestant.sample(cell, options, options.seconds)
    except Failure as exc:
        result.notes.append(f"system calls are not counted: {exc}")
        counting.stop()
        return
    counts = counting.stop()
    result.syscalls = sum(counts.values()) / sample["requests"]
    result.syscall_counts = {
        name: count / sample["requests"]
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
    }
