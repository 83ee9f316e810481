"""The child processes of a comparison: ``python -m mioloop.compare.measure.worker ROLE JSON``.

A server writes the port on which it listens, and serves until it is killed. Every other role
answers each line of JSON on standard input with one on standard output. File descriptor 1 is
redirected to standard error, so that the output of a measured program does not mix with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

from mioloop.compare.load import client
from mioloop.compare.measure import cpu, in_process, servers, syscalls
from mioloop.compare.measure.loops import BASELINE, Loop
from mioloop.compare.measure.workloads import BY_NAME

Job = dict[str, Any]

IDLE_BATCH = 100        # connections made at a time
IDLE_CHECK = 1000       # connections after which the memory of all is estimated
SETTLE_S = 0.05


def class_of(loop: object) -> str:
    return f"{type(loop).__module__}.{type(loop).__qualname__}"


class Wire:
    """Standard input and output of this worker, hidden from the measured program."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def send(self, **message: Any) -> None:
        print(json.dumps(message), file=self._out, flush=True)

    def jobs(self) -> Iterator[Job]:
        for line in sys.stdin:
            yield json.loads(line)


# -- servers -----------------------------------------------------------------------------


def serve_baseline(wire: Wire, config: Job) -> None:
    workload = BY_NAME[config["workload"]]
    client.serve_baseline(
        lambda port: wire.send(port=port, loop=BASELINE),
        transport=workload.transport,
        protocol=workload.protocol,
        address=config["path"] or "127.0.0.1",
        certificate=config["certificate"] if workload.tls else None,
        head_size=workload.head_size,
        response=servers.HTTP_RESPONSE,
    )


def serve(wire: Wire, config: Job) -> None:
    """Serve a workload, or the user's --app, on a loop."""
    loop = Loop(config["loop"]).factory()()
    asyncio.set_event_loop(loop)
    if "app" in config:
        from mioloop.compare.measure import user_program

        starting = user_program.serve_app(config["app"])
    else:
        tls = None
        if BY_NAME[config["workload"]].tls:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(config["certificate"])
        starting = servers.serve(config["workload"], servers.ListenAddress(config["path"], tls))
    port = loop.run_until_complete(starting)
    wire.send(port=port, loop=class_of(loop))
    loop.run_forever()


def execute(wire: Wire, config: Job) -> None:
    """Replace this process by the user's command."""
    os.environ.update(config["environment"])
    os.execvp(config["command"][0], config["command"])


# -- the load generator --------------------------------------------------------------------


def generate(wire: Wire, config: Job) -> None:
    """Jobs have the keywords of `client.open_load`, the process to measure, and the purpose."""
    for job in wire.jobs():
        try:
            wire.send(**_measure(job))
        except (client.LoadError, OSError) as exc:
            wire.send(error=str(exc))


def _measure(job: Job) -> Job:
    pid, warm_s, seconds = job.pop("pid"), job.pop("warm_s"), job.pop("seconds")
    purpose, count, server_cpu = job.pop("purpose"), job.pop("count", False), job.pop("server_cpu")
    job["request"] = job["request"].encode()
    if purpose == "idle":
        return _measure_memory(job, pid)
    if purpose == "quiet":
        return _measure_quiet(job, pid, seconds)
    measures_itself = purpose == "client"
    with client.open_load(**job) as load, contextlib.ExitStack() as stack:
        if warm_s:
            load.run(warm_s)
        added: Job = {}
        if count:
            try:
                added["syscalls"] = stack.enter_context(syscalls.counted(pid))
            except syscalls.NotCounted as exc:
                added["not_counted"] = str(exc)
        measured = cpu.Meter(os.getpid() if measures_itself else pid)
        own_meter = cpu.Meter(os.getpid())
        machine = cpu.StealMeter({server_cpu} | cpu.allowed_processors())
        before_s = time.process_time()
        sample: Job = dict(load.run(seconds))
        used, ours_s = measured.read(), time.process_time() - before_s
        sample |= _disturbances(own_meter, sample["elapsed_s"], "client_waited")
        sample["stolen"] = machine.share(sample["elapsed_s"])
    if not measures_itself:
        sample["client_busy"] = ours_s / sample["elapsed_s"]
    return sample | added | _usage_figures(used, sample["elapsed_s"])


def _usage_figures(used: cpu.Usage, elapsed_s: float) -> Job:
    figures: Job = {}
    if used.total_s is not None:
        figures |= {"cpu_s": used.total_s, "user_s": used.user_s, "system_s": used.system_s}
    if used.waited_s is not None:
        figures["waited"] = used.waited_s / elapsed_s
    return figures


def _measure_quiet(job: Job, pid: int, seconds: float) -> Job:
    """Measure the processor time of a server with open connections that send nothing."""
    with client.open_load(**job) as load:
        load.run(0)
        time.sleep(SETTLE_S)
        meter, started = cpu.Meter(pid), time.perf_counter()
        time.sleep(seconds)
        used, elapsed_s = meter.read(), time.perf_counter() - started
    return {"requests": elapsed_s, "elapsed_s": elapsed_s, "cpu_s": used.total_s}


def _disturbances(meter: cpu.Meter, elapsed_s: float, name: str) -> Job:
    waited_s = meter.read().waited_s
    return {} if waited_s is None else {name: waited_s / elapsed_s}


def _measure_memory(job: Job, pid: int) -> Job:
    """Use each connection for one echo, then measure the memory that each has added."""
    connections = job.pop("connections")
    with contextlib.ExitStack() as loads:

        def open_more(count: int) -> None:
            loads.enter_context(client.open_load(**job, connections=count)).run(0)

        # The first batch makes the server allocate its fixed memory. A batch fits its backlog.
        open_more(IDLE_BATCH)
        before = _settled_bytes(pid)
        started = time.perf_counter()
        for first in range(0, connections, IDLE_BATCH):
            open_more(min(IDLE_BATCH, connections - first))
            if first == IDLE_CHECK:
                _check_memory((cpu.resident_bytes(pid) or 0) - before, first, connections)
        elapsed_s = time.perf_counter() - started
        after = _settled_bytes(pid)
    return {
        "requests": connections, "elapsed_s": elapsed_s, "bytes": (after - before) / connections
    }


def _settled_bytes(pid: int) -> int:
    time.sleep(SETTLE_S)        # the server may still run code after it has sent the answer
    resident = cpu.resident_bytes(pid)
    if resident is None:
        raise OSError("this system has no /proc, from which the memory of a process is read")
    return resident


def _check_memory(used: int, made: int, connections: int) -> None:
    """Raise OSError if the remaining connections would use up the memory of the machine."""
    needed, free = used / made * (connections - made), cpu.available_bytes()
    if free is not None and needed > free * 0.8:
        raise OSError(
            f"{connections:,} connections would need another {needed / 2**30:.1f} GiB of memory,"
            f" and {free / 2**30:.1f} GiB are free: try fewer, by --connections"
        )


# -- in one process ---------------------------------------------------------------------------


def work(wire: Wire, config: Job) -> None:
    """Jobs name an in-process workload or the aiohttp client, and its length in seconds."""
    factory = Loop(config["loop"]).factory()
    loop = factory()
    asyncio.set_event_loop(loop)
    wire.send(port=0, loop=class_of(loop))
    for job in wire.jobs():
        meter, machine = cpu.Meter(os.getpid()), cpu.StealMeter(cpu.allowed_processors())
        try:
            if job["workload"] == "loop-creation":
                sample = in_process.make_loops(factory, job["seconds"])
            elif job["workload"] == "aiohttp-client":
                sample = in_process.run_aiohttp_client(
                    loop, job["port"], job["connections"], job["seconds"], servers.BODY
                )
            else:
                sample = in_process.run(loop, job["workload"], job["seconds"], job["timers"])
        except Exception as exc:
            wire.send(error=f"{type(exc).__name__}: {exc}")
        else:
            if job["workload"] not in in_process.WAIT_BY_DESIGN:
                sample |= _disturbances(meter, sample["elapsed_s"], "waited")
            wire.send(**sample, stolen=machine.share(sample["elapsed_s"]))


ROLES = {
    "baseline": serve_baseline,
    "serve": serve,
    "execute": execute,
    "generate": generate,
    "work": work,
}


def main() -> None:
    role, text = sys.argv[1:]
    config = json.loads(text)
    client.die_with_parent()
    if os.getppid() != config["parent"]:    # the parent ended before die_with_parent()
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN if role != "execute" else signal.SIG_DFL)
    cpu.pin(config["cpu"])
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ROLES[role](Wire(), config)


if __name__ == "__main__":
    main()
