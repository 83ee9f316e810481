"""The workloads of side "in_process" and "client", which run in the measured process alone.

Each is a coroutine function that repeats one operation *count* times. It returns the seconds
that each repetition took, or None.
"""

from __future__ import annotations

import asyncio
import queue
import random
import resource
import shutil
import socket
import threading
import time
from array import array
from collections.abc import Callable, Coroutine
from functools import cache, partial
from typing import Any

from mioloop.compare.measure import bulk, streaming

Latencies = list[float]


def _nothing() -> None:
    pass


async def call_soon_chain(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def link() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(link)
        else:
            done.set_result(None)

    loop.call_soon(link)
    await done


async def call_soon_batch(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for _ in range(count - 1):
        loop.call_soon(_nothing)
    loop.call_soon(done.set_result, None)
    await done


async def sleep_zero(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _yield_once() -> None:
    await asyncio.sleep(0)


async def _return() -> None:
    pass


async def task_create(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count // 100):
        await asyncio.gather(*[loop.create_task(_return()) for _ in range(100)])


async def task_switch(count: int) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.create_task(sleep_zero(count // 100)) for _ in range(100)))


async def timers_cancelled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(60, _nothing).cancel()
    await asyncio.sleep(0)


async def timers_fired(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    when = loop.time()
    for _ in range(count - 1):
        loop.call_at(when, _nothing)
    loop.call_at(when, done.set_result, None)
    await done


async def timers_burst(count: int) -> None:
    """Timers for random moments of the next millisecond: most are due when the last is made."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    delays = _delays(count - 1)
    for delay in delays:
        loop.call_later(delay, _nothing)
    loop.call_later(0.002, done.set_result, None)
    await done


@cache
def _delays(count: int) -> list[float]:
    chance = random.Random(1)
    return [chance.random() / 1000 for _ in range(count)]


async def timer_accuracy(count: int) -> Latencies:
    """Seconds that each timer was late; negative if it fired early."""
    loop = asyncio.get_running_loop()
    late = []
    for _ in range(count):
        fired = loop.create_future()
        before = time.monotonic()
        # The callback reads the clock, so that waking the task is not part of the latency.
        loop.call_later(100e-6, lambda fired=fired: fired.set_result(time.monotonic()))  # type: ignore[misc]
        late.append(await fired - before - 100e-6)
    return late


async def wait_for(count: int) -> None:
    for _ in range(count):
        await asyncio.wait_for(_yield_once(), 10)


async def through_queue(count: int) -> None:
    items: asyncio.Queue[int] = asyncio.Queue(16)

    async def put() -> None:
        for i in range(count):
            await items.put(i)

    putting = asyncio.get_running_loop().create_task(put())
    for _ in range(count):
        await items.get()
    await putting


async def call_soon_threadsafe(count: int) -> Latencies:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()
    took: Latencies = []

    def wake() -> None:
        for _ in range(count):
            before = time.perf_counter()
            loop.call_soon_threadsafe(answers.put, None)
            answers.get()
            took.append(time.perf_counter() - before)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=wake)
    thread.start()
    await done
    thread.join()
    return took


async def threadsafe_burst(count: int) -> None:
    """A thread queues all callbacks, and waits for none."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def queue_all() -> None:
        for _ in range(count - 1):
            loop.call_soon_threadsafe(_nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=queue_all)
    thread.start()
    await done
    thread.join()


async def executor(count: int) -> Latencies:
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(count):
        before = time.perf_counter()
        await loop.run_in_executor(None, _nothing)
        took.append(time.perf_counter() - before)
    return took


async def socketpair(count: int) -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    message = bytes(1024)

    async def echo() -> None:
        for _ in range(count):
            await loop.sock_sendall(right, await loop.sock_recv(right, 65536))

    with left, right:
        echoing = loop.create_task(echo())
        for _ in range(count):
            await loop.sock_sendall(left, message)
            if await loop.sock_recv(left, 65536) != message:
                raise RuntimeError("the echo differs from the message")
        await echoing


async def subprocess(count: int) -> Latencies:
    program = shutil.which("true") or "true"
    took = []
    for _ in range(count):
        before = time.perf_counter()
        process = await asyncio.create_subprocess_exec(program)
        if await process.wait() != 0:
            raise RuntimeError(f"{program} ended with exit code {process.returncode}")
        took.append(time.perf_counter() - before)
    return took


class _ClosesAtOnce(asyncio.Protocol):
    """The server's end of a connection: it closes as soon as the connection is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _WaitsForTheEnd(asyncio.Protocol):
    """The client's end: `lost` is done when the connection is."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def churn_protocol(count: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_ClosesAtOnce, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(count):
        _, client = await loop.create_connection(_WaitsForTheEnd, *address)
        await client.lost
    server.close()
    await server.wait_closed()


async def churn_streams(count: int) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*address)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


Batch = Callable[[int], Coroutine[Any, Any, "Latencies | None"]]

# A count of each takes a few milliseconds; of a burst, up to 70. 0: the case sets the count.
BATCHES: dict[str, tuple[Batch, int]] = {
    "call-soon-chain": (call_soon_chain, 5000),
    "call-soon-batch": (call_soon_batch, 1000),
    "call-soon-burst": (call_soon_batch, 100_000),
    "sleep-0": (sleep_zero, 5000),
    "task-create": (task_create, 1000),
    "task-switch": (task_switch, 5000),
    "timers-cancelled": (timers_cancelled, 2000),
    "timers-fired": (timers_fired, 1000),
    "timers-burst": (timers_burst, 50_000),
    "scale-timers": (timers_fired, 0),
    "timer-accuracy": (timer_accuracy, 20),
    "wait-for": (wait_for, 500),
    "queue": (through_queue, 1000),
    "call-soon-threadsafe": (call_soon_threadsafe, 100),
    "threadsafe-burst": (threadsafe_burst, 20_000),
    "executor": (executor, 100),
    "socketpair": (socketpair, 500),
    "churn-protocol": (churn_protocol, 100),
    "churn-streams": (churn_streams, 100),
    "subprocess": (subprocess, 2),
    "chain-beside-idle": (bulk.beside_idle_connections(call_soon_chain), 50_000),
    "sleep-0-beside-idle": (bulk.beside_idle_connections(sleep_zero), 20_000),
    "task-create-beside-idle": (bulk.beside_idle_connections(task_create), 10_000),
    "stream-one-way": (bulk.stream_one_way, 50),
    "tls-one-way": (bulk.tls_one_way, 20),
    "sendfile": (bulk.sendfile, 50),
    "udp-one-way": (bulk.datagrams_one_way, 3200),
    "child-pipe": (bulk.child_pipe, 10),
    "websocket-broadcast": (bulk.websocket_broadcast, 5000),
    **streaming.BATCHES,
}


# These wait for the processor because their own threads or children use it.
WAIT_BY_DESIGN = (
    "call-soon-threadsafe", "threadsafe-burst", "executor", "subprocess", "child-pipe",
    *streaming.BATCHES,
)


# -- running a workload ------------------------------------------------------------------


def figures(requests: int, elapsed_s: float, latencies: array[float]) -> dict[str, float]:
    sample: dict[str, float] = {"requests": requests, "elapsed_s": elapsed_s}
    if latencies:
        ordered = sorted(latencies)
        last = len(ordered) - 1
        for name, share in (("p50_s", 0.5), ("p99_s", 0.99), ("p999_s", 0.999), ("max_s", 1)):
            sample[name] = ordered[min(last, int(len(ordered) * share))]
    return sample


def accuracy_figures(requests: int, elapsed_s: float, late: array[float]) -> dict[str, float]:
    """The deviation of the timers in either direction, and the share of early timers."""
    off = array("d", map(abs, late))
    early = sum(seconds < 0 for seconds in late) / len(late)
    return figures(requests, elapsed_s, off) | {"early": early}


def _with_cpu(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    before, before_s = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    sample = measure()
    after, after_s = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    user_s, system_s = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    share = user_s / (user_s + system_s) if user_s + system_s > 0 else 1.0
    total_s = after_s - before_s
    return sample | {
        "cpu_s": total_s, "user_s": total_s * share, "system_s": total_s * (1 - share)
    }


def run(
    loop: asyncio.AbstractEventLoop, workload: str, seconds: float, timers: int = 0
) -> dict[str, float]:
    """Run batches of a workload for *seconds* seconds.

    *timers* is the number of timers for the scaling workloads that have one.
    """
    if workload == "scale-pending":
        return _run_beside(loop, timers, partial(run, loop, "timers-cancelled", seconds))
    batch, count = BATCHES[workload]
    latencies = array("d")

    async def repeat() -> dict[str, float]:
        requests = 0
        started = now = time.perf_counter()
        while now < started + seconds:
            latencies.extend(await batch(timers or count) or ())
            requests += timers or count
            now = time.perf_counter()
        made = accuracy_figures if workload == "timer-accuracy" else figures
        return made(requests, now - started, latencies)

    return _with_cpu(lambda: loop.run_until_complete(repeat()))


def _run_beside(
    loop: asyncio.AbstractEventLoop, timers: int, measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Measure while *timers* timers are pending, in random order and due after an hour."""
    chance = random.Random(1)
    pending = [loop.call_later(3600 + chance.random(), _nothing) for _ in range(timers)]
    try:
        return measure()
    finally:
        for timer in pending:
            timer.cancel()
        loop.run_until_complete(asyncio.sleep(0))


def make_loops(
    factory: Callable[[], asyncio.AbstractEventLoop], seconds: float
) -> dict[str, float]:
    def repeat() -> dict[str, float]:
        latencies = array("d")
        started = before = time.perf_counter()
        while before < started + seconds:
            factory().close()
            now = time.perf_counter()
            latencies.append(now - before)
            before = now
        return figures(len(latencies), before - started, latencies)

    return _with_cpu(repeat)


def run_aiohttp_client(
    loop: asyncio.AbstractEventLoop, port: int, connections: int, seconds: float, body: bytes
) -> dict[str, float]:
    """Repeat GET http://127.0.0.1:port/ on *connections* connections for *seconds* seconds."""
    import aiohttp

    async def get_all() -> dict[str, float]:
        latencies = array("d")
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector) as session:
            started = time.perf_counter()

            async def get() -> None:
                before = time.perf_counter()
                while before < started + seconds:
                    async with session.get(f"http://127.0.0.1:{port}/") as response:
                        if response.status != 200 or await response.read() != body:
                            raise RuntimeError(f"wrong answer, with status {response.status}")
                    now = time.perf_counter()
                    latencies.append(now - before)
                    before = now

            await asyncio.gather(*(get() for _ in range(connections)))
            return figures(len(latencies), time.perf_counter() - started, latencies)

    return _with_cpu(lambda: loop.run_until_complete(get_all()))
