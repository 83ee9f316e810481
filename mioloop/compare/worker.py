"""The child processes of a comparison: ``python -m mioloop.compare.worker ROLE JSON``.

A server says on which port it listens and serves until it is killed. The others answer each
line of JSON on their standard input by one on their standard output, which nobody else writes
to: what a program under test prints goes to standard error.
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

from mioloop.compare import client, cpu, local, network
from mioloop.compare.loops import FLOOR, Loop
from mioloop.compare.workloads import BY_NAME

Job = dict[str, Any]

IDLE_BATCH = 100


def class_of(loop: object) -> str:
    return f"{type(loop).__module__}.{type(loop).__qualname__}"


class Wire:
    """Standard input and output, kept from everybody else."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **message: Any) -> None:
        print(json.dumps(message), file=self._out, flush=True)

    def jobs(self) -> Iterator[Job]:
        for line in sys.stdin:
            yield json.loads(line)


# -- servers -----------------------------------------------------------------------------


def serve_floor(wire: Wire, config: Job) -> None:
    workload = BY_NAME[config["workload"]]
    client.serve_floor(
        lambda port: wire.say(port=port, loop=FLOOR),
        transport=workload.transport,
        protocol=workload.protocol,
        address=config["path"] or "127.0.0.1",
        certificate=config["certificate"] if workload.tls else None,
        head_size=workload.head_size,
        response=network.HTTP_RESPONSE,
    )


def serve(wire: Wire, config: Job) -> None:
    """A workload's server, or the user's --app, on a loop."""
    loop = Loop(config["loop"]).factory()()
    asyncio.set_event_loop(loop)
    if "app" in config:
        from mioloop.compare import program

        starting = program.serve_app(config["app"])
    else:
        tls = None
        if BY_NAME[config["workload"]].tls:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(config["certificate"])
        starting = network.serve(config["workload"], network.Place(config["path"], tls))
    port = loop.run_until_complete(starting)
    wire.say(port=port, loop=class_of(loop))
    loop.run_forever()


def execute(wire: Wire, config: Job) -> None:
    """Become the user's command."""
    os.environ.update(config["environment"])
    os.execvp(config["command"][0], config["command"])


# -- the load generator --------------------------------------------------------------------


def generate(wire: Wire, config: Job) -> None:
    """Jobs are the keywords of `client.open_load`, with `warm_s`, `seconds` and `pid`."""
    for job in wire.jobs():
        try:
            wire.say(**_measure(job))
        except (client.LoadError, OSError) as exc:
            wire.say(error=str(exc))


def _measure(job: Job) -> Job:
    pid, warm_s, seconds = job.pop("pid"), job.pop("warm_s"), job.pop("seconds")
    ours = job.pop("measure_client", False)
    idle = job.pop("idle", False)
    job["request"] = job["request"].encode()
    if idle:
        return _measure_memory(job, pid)
    with client.open_load(**job) as load:
        if warm_s:
            load.run(warm_s)
        meter, before_s = cpu.Meter(os.getpid() if ours else pid), time.process_time()
        found: Job = dict(load.run(seconds))
        used, ours_s = meter.read(), time.process_time() - before_s
    found["client_busy"] = 0.0 if ours else ours_s / found["elapsed_s"]
    if used.total_s is not None:
        found |= {"cpu_s": used.total_s, "user_s": used.user_s, "system_s": used.system_s}
    if used.waited_s is not None:
        found["waited"] = used.waited_s / found["elapsed_s"]
    return found


def _measure_memory(job: Job, pid: int) -> Job:
    """One echo on each connection, so that all are in use; then what each has added."""
    connections = job.pop("connections")
    with contextlib.ExitStack() as loads:
        # What the server allocates once; and as many at a time as its backlog can take.
        loads.enter_context(client.open_load(**job, connections=IDLE_BATCH)).run(0)
        before = cpu.resident_bytes(pid)
        started = time.perf_counter()
        for first in range(0, connections, IDLE_BATCH):
            count = min(IDLE_BATCH, connections - first)
            loads.enter_context(client.open_load(**job, connections=count)).run(0)
        elapsed_s = time.perf_counter() - started
        after = cpu.resident_bytes(pid)
    if before is None or after is None:
        raise OSError("the memory of a process is read from /proc, which this system has not")
    return {
        "requests": connections, "elapsed_s": elapsed_s, "bytes": (after - before) / connections
    }


# -- in one process ---------------------------------------------------------------------------


def work(wire: Wire, config: Job) -> None:
    """Jobs name a local workload or the aiohttp client, and say for how long."""
    factory = Loop(config["loop"]).factory()
    loop = factory()
    asyncio.set_event_loop(loop)
    wire.say(port=0, loop=class_of(loop))
    for job in wire.jobs():
        meter = cpu.Meter(os.getpid())
        try:
            if job["workload"] == "loop-creation":
                found = local.make_loops(factory, job["seconds"])
            elif job["workload"] == "aiohttp-client":
                found = local.run_aiohttp_client(
                    loop, job["port"], job["connections"], job["seconds"], network.BODY
                )
            else:
                found = local.run(loop, job["workload"], job["seconds"])
        except Exception as exc:
            wire.say(error=f"{type(exc).__name__}: {exc}")
        else:
            used = meter.read()
            if used.waited_s is not None:
                found["waited"] = used.waited_s / found["elapsed_s"]
            wire.say(**found)


ROLES = {
    "floor": serve_floor,
    "serve": serve,
    "execute": execute,
    "generate": generate,
    "work": work,
}


def main() -> None:
    role, text = sys.argv[1:]
    config = json.loads(text)
    client.die_with_parent()
    if os.getppid() != config["parent"]:    # it ended before we could say so
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN if role != "execute" else signal.SIG_DFL)
    cpu.pin(config["cpu"])
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ROLES[role](Wire(), config)


if __name__ == "__main__":
    main()
