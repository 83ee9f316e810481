"""Samplers: each takes the samples of one loop, or of the C baseline, in a workload."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mioloop.compare.measure import cpu, syscalls
from mioloop.compare.measure.loops import BASELINE, Loop
from mioloop.compare.measure.processes import Failure, Worker
from mioloop.compare.measure.servers import HTTP_REQUEST
from mioloop.compare.measure.workloads import Case, Workload

START_S = 30.0
GRACE_S = 30.0          # time for an answer, in addition to the time of the sample

Sample = dict[str, Any]


@dataclass
class Options:
    """How to measure."""

    seconds: float | None = None            # length of a round; None: the workload's own
    warm_s: float = 0.1
    rounds: int | None = None               # None: the workload's own number
    timeout_s: float = 5.0
    syscalls: bool = False
    server_cpu: int | None = None
    client_cpu: int | None = None
    deadline: float = float("inf")          # no case begins after this time.monotonic()

    def seconds_of(self, workload: Workload) -> float:
        return self.seconds or workload.seconds

    def rounds_of(self, workload: Workload) -> int:
        return self.rounds or workload.rounds


class Sampler(Protocol):
    """Takes samples of one loop."""

    @property
    def pid(self) -> int:
        """The measured process; 0 if each sample has a process of its own."""

    def ready(self) -> None:
        """Wait until samples can be taken. Raises Failure if the process could not start."""

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        """Take one sample.

        With *count*, add the system calls, or the reason why they could not be counted.
        """

    def stop(self) -> None: ...


Makers = list[Callable[[], Sampler]]


def load_job(
    workload: Workload,
    case: Case,
    options: Options,
    seconds: float,
    address: str,
    port: int,
    path: str = "/",
) -> dict[str, Any]:
    """The message that asks the load generator for one sample."""
    return {
        "transport": workload.transport,
        "protocol": workload.protocol,
        "address": address,
        "port": port,
        "tls": workload.tls,
        "size": case.size,
        "head_size": workload.head_size,
        "connections": case.connections,
        "active": workload.active,
        "interval_s": workload.interval_s,
        "reconnect": workload.reconnect,
        "request": (HTTP_REQUEST % path.encode()).decode() if workload.protocol == "http" else "",
        "timeout_s": options.timeout_s,
        "server_cpu": options.server_cpu,
        "warm_s": min(options.warm_s, seconds),
        "seconds": seconds,
    }


class ServerSampler:
    """A server of one workload on one loop, under load from the generator."""

    def __init__(
        self, loop: Loop | None, workload: Workload, options: Options, bench: Bench, app: str = ""
    ) -> None:
        self.name = BASELINE if loop is None else loop.name
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
        role = "baseline" if loop is None else "serve"
        self._address, self._port = path or "127.0.0.1", 0
        self._worker = Worker(role, config, options.server_cpu)

    def ready(self) -> None:
        """Wait until the server listens, and check that it runs the requested loop."""
        said = self._worker.read(START_S)
        self._port = said["port"]
        if self._loop is not None and not self._loop.is_kind(said["loop"]):
            raise Failure(f"it runs on {said['loop']}")

    @property
    def pid(self) -> int:
        return self._worker.pid

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        job = load_job(
            self._workload, case, options, seconds, self._address, self._port, self._bench.path
        )
        try:
            return self._bench.generator.ask(
                {**job, "pid": self.pid, "purpose": self._workload.side, "count": count},
                seconds + options.timeout_s * 2 + GRACE_S,
            )
        except Failure as exc:
            raise Failure(explain(str(exc), self._worker)) from None

    def stop(self) -> None:
        self._worker.stop()


def explain(failure: str, worker: Worker) -> str:
    """Add the exit code and the last error message of the measured process to a failure."""
    if worker.process.poll() is not None:
        failure += f"; the server ended with exit code {worker.process.returncode}"
    last_error = worker.last_error()
    return f"{failure}; its last error message: {last_error}" if last_error else failure


@contextlib.contextmanager
def _counting(pid: int, count: bool) -> Iterator[Sample]:
    """Count the system calls of a process during the block; the dict is filled at its end."""
    added: Sample = {}
    if not count:
        yield added
        return
    with contextlib.ExitStack() as stack:
        try:
            counts = stack.enter_context(syscalls.counted(pid))
        except syscalls.NotCounted as exc:
            added["not_counted"] = str(exc)
            yield added
            return
        yield added
    added["syscalls"] = counts


class MemorySampler:
    """Measures memory. Each sample starts a new server, because freed memory stays resident."""

    pid = 0

    def __init__(
        self, loop: Loop | None, workload: Workload, options: Options, bench: Bench
    ) -> None:
        self.name = BASELINE if loop is None else loop.name
        self._make = partial(ServerSampler, loop, workload, options, bench)
        self._bench = bench
        self._workload = workload

    def ready(self) -> None:
        pass

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        server = self._make()
        try:
            server.ready()
            job = load_job(
                self._workload, case, options, seconds, server._address, server._port
            )
            return self._bench.generator.ask(
                {**job, "pid": server.pid, "purpose": "idle"}, START_S + case.connections * 0.02
            )
        except Failure as exc:
            raise Failure(explain(str(exc), server._worker)) from None
        finally:
            server.stop()

    def stop(self) -> None:
        pass


class InProcessSampler:
    """Measures a worker that runs the workload in its own process."""

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

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        job: dict[str, Any] = {
            "workload": case.workload.name, "seconds": seconds, "timers": case.timers
        }
        if case.workload.side == "client":
            port = self._bench.baseline_port(case.workload)
            job |= {"port": port, "connections": case.connections}
        with _counting(self.pid, count) as counts:
            sample = self._worker.ask(job, seconds + GRACE_S)
        return sample | counts

    def stop(self) -> None:
        self._worker.stop()


class BaselineClientSampler:
    """Measures the load generator as the baseline of clients, on the processor of the clients."""

    name = BASELINE

    def __init__(self, options: Options, bench: Bench) -> None:
        self._bench = bench
        self._worker = Worker("generate", {}, options.server_cpu)

    def ready(self) -> None:
        pass

    @property
    def pid(self) -> int:
        return self._worker.pid

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        port = self._bench.baseline_port(case.workload)
        job = load_job(case.workload, case, options, seconds, "127.0.0.1", port)
        timeout_s = seconds + options.timeout_s + GRACE_S
        with _counting(self.pid, count) as counts:
            sample = self._worker.ask({**job, "pid": 0, "purpose": "client"}, timeout_s)
        return sample | counts

    def stop(self) -> None:
        self._worker.stop()


IMPORT_PROBE = """\
import time
started, used = time.perf_counter(), time.process_time()
import asyncio, {module}
print(time.perf_counter() - started, time.process_time() - used)
"""


class ImportSampler:
    """Measures how long a new interpreter takes to import a loop."""

    pid = 0

    def __init__(self, loop: Loop, options: Options) -> None:
        self.name = loop.name
        self._pin = partial(cpu.pin, options.server_cpu)
        module = loop.name.partition(":")[0]
        # `import mioloop` alone does not import the loop.
        self._probe = IMPORT_PROBE.format(
            module="mioloop.factory" if module == "mioloop" else module
        )

    def ready(self) -> None:
        pass

    def sample(
        self, case: Case, options: Options, seconds: float, count: bool = False
    ) -> Sample:
        took: list[float] = []
        used_s = 0.0
        until = time.monotonic() + seconds
        while not took or time.monotonic() < until:
            done = subprocess.run(
                [sys.executable, "-c", self._probe],
                capture_output=True, text=True, preexec_fn=self._pin,
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
    """Resources that the samplers share: load generator, temporary directory, C servers."""

    def __init__(self, options: Options, path: str = "/") -> None:
        self.options, self.path = options, path
        self._directory = tempfile.TemporaryDirectory(prefix="mioloop-compare-")
        self._certificate = ""
        self._sockets = 0
        self._baselines: dict[str, ServerSampler] = {}
        self._generator: Worker | None = None

    @property
    def generator(self) -> Worker:
        """The load generator. Starts a new one if the last one has ended."""
        if self._generator is None or self._generator.process.poll() is not None:
            self._generator = Worker("generate", {}, self.options.client_cpu)
        return self._generator

    def certificate(self) -> str:
        if not self._certificate:
            from mioloop.compare.load import client

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

    def baseline_port(self, workload: Workload) -> int:
        """The port of a C server, which runs on a processor that no measured client uses."""
        if workload.name not in self._baselines:
            other = Options(server_cpu=self.options.client_cpu)
            server = self._baselines[workload.name] = ServerSampler(None, workload, other, self)
            server.ready()
        return self._baselines[workload.name]._port

    def close(self) -> None:
        for server in self._baselines.values():
            server.stop()
        if self._generator is not None:
            self._generator.stop()
        self._directory.cleanup()


def samplers_of(
    workload: Workload, loops: Sequence[Loop], baseline: bool, options: Options, bench: Bench
) -> Makers:
    """Functions that make the samplers of a workload; the C baseline is the last."""
    makers: Makers = []
    for loop in loops:
        if workload.side in ("server", "quiet"):
            makers.append(partial(ServerSampler, loop, workload, options, bench))
        elif workload.side == "idle":
            makers.append(partial(MemorySampler, loop, workload, options, bench))
        elif workload.side == "import":
            makers.append(partial(ImportSampler, loop, options))
        else:
            makers.append(partial(InProcessSampler, loop, options, bench))
    if baseline and workload.side in ("server", "quiet"):
        makers.append(partial(ServerSampler, None, workload, options, bench))
    elif baseline and workload.side == "idle":
        makers.append(partial(MemorySampler, None, workload, options, bench))
    elif baseline and workload.side == "client":
        makers.append(partial(BaselineClientSampler, options, bench))
    return makers
