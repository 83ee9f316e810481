"""The functions that the workers of the tests run. A worker process imports this module."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mioloop.group import Channel, Worker, current_worker


async def identity(worker: Worker) -> tuple[int, int, str, int, int]:
    return worker.index, worker.count, worker.kind, os.getpid(), threading.get_ident()


async def show_loop(worker: Worker) -> str:
    return repr(asyncio.get_running_loop())


def no_coroutine(worker: Worker) -> int:
    return 7


async def idle(worker: Worker) -> None:
    await asyncio.Event().wait()


async def wait_for_stop(worker: Worker) -> str:
    await worker.stopping.wait()
    return f"{worker.index} has seen it"


async def listen_late(worker: Worker) -> None:
    await worker.stopping.wait()
    worker.listen("127.0.0.1", 0)


async def stop_by_callback(worker: Worker) -> str:
    told = asyncio.get_running_loop().create_future()
    worker.on_stop(told.set_result, "told")
    answer: str = await told
    return answer


async def answer_by_index(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line by the number of the worker."""
    try:
        while await reader.readline():
            writer.write(b"%d\n" % current_worker().index)
            await writer.drain()
    finally:
        writer.close()


async def serve(worker: Worker, *ports: int) -> None:
    for port in ports or (0,):
        sock = worker.listen("127.0.0.1", port)
        await asyncio.start_server(answer_by_index, sock=sock)
    await asyncio.Event().wait()


async def ports_of_worker(count: int = 1) -> list[int]:
    """The ports of the worker of this loop, once it listens on *count*."""
    worker = current_worker()
    while len(worker._listeners) < count:
        await asyncio.sleep(0.005)
    return [sock.getsockname()[1] for sock in worker._listeners]


# -- failures --------------------------------------------------------------------------------------


class Odd(Exception):
    """Cannot be pickled: it refuses the arguments that it passes to Exception."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__("odd")


async def fail(worker: Worker) -> None:
    if worker.index == 1:
        raise KeyError("of worker 1")
    await idle(worker)


async def fail_oddly(worker: Worker) -> None:
    raise Odd(1, 2)


async def leave(worker: Worker) -> None:
    sys.exit(5)


async def unpicklable_result(worker: Worker) -> Any:
    return threading.Lock()


async def fail_until(path: str, times: int, worker: Worker) -> str:
    """Fail *times* times, counted in a file; then return."""
    with open(path, "a") as file:
        file.write("x")
    runs = Path(path).stat().st_size
    if runs <= times:
        raise OSError(f"run {runs}")
    return f"run {runs}"


def pid() -> int:
    return os.getpid()


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def serve_and_die_once(path: str, worker: Worker) -> list[int]:
    """Fail in the first run, after listening; return the port of both runs."""
    port = worker.listen("127.0.0.1", 0).getsockname()[1]
    with open(path, "a") as file:
        file.write(f"{port}\n")
    ports = [int(line) for line in Path(path).read_text().split()]
    if len(ports) == 1:
        raise OSError("first run")
    return ports


# -- calls -----------------------------------------------------------------------------------------


async def whoami(*args: object) -> tuple[int, tuple[object, ...]]:
    await asyncio.sleep(0)
    return current_worker().index, args


def divide(one: float, other: float) -> float:
    return one / other


def raise_oddly() -> None:
    raise Odd(1, 2)


def make_lock() -> object:
    return threading.Lock()


async def forever() -> None:
    await asyncio.Event().wait()


async def ask_the_next() -> Any:
    """Ask the next worker, and let a call to it fail."""
    worker = current_worker()
    index = (worker.index + 1) % worker.count
    answer = await asyncio.wrap_future(worker.call(index, whoami, "from", worker.index))
    try:
        await asyncio.wrap_future(worker.call(index, divide, 1, 0))
    except ZeroDivisionError:
        return answer


def call_worker(index: int) -> None:
    current_worker().call(index, pid)


# -- channels --------------------------------------------------------------------------------------


async def pass_numbers(channel: Channel, count: int, worker: Worker) -> list[int]:
    """Worker 0 puts numbers, and a None for each other worker; these return the numbers."""
    if worker.index == 0:
        for number in range(count):
            await channel.put(number)
        for _ in range(worker.count - 1):
            await channel.put(None)
        return []
    found = []
    while (number := await channel.get()) is not None:
        found.append(number)
    return found


async def put_until_full(channel: Channel, worker: Worker) -> int:
    """Return how many items the channel takes before it lets the sender wait."""
    taken = 0
    try:
        while True:
            await asyncio.wait_for(channel.put(taken), 0.5)
            taken += 1
    except asyncio.TimeoutError:
        return taken


async def cancel_gets(channel: Channel, count: int, worker: Worker) -> list[int]:
    """Get all numbers by calls that are often cancelled while they wait."""
    if worker.index == 0:
        for number in range(count):
            await channel.put(number)
        await channel.put(None)
        return []
    found: list[int] = []
    while True:
        get = asyncio.ensure_future(channel.get())
        for _ in range(len(found) % 4):
            await asyncio.sleep(0)
        get.cancel()
        try:
            number = await get
        except asyncio.CancelledError:
            number = await channel.get()
        if number is None:
            return found
        found.append(number)


async def echo(there: Channel, back: Channel, worker: Worker) -> None:
    item: object = 0
    while item is not None:
        item = await there.get()
        await back.put(item)
