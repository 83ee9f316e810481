"""Waiting for a condition, or for some turns of the loop, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PAUSE_S = 0.001         # long enough that each turn of the loop polls


async def until(
    condition: Callable[[], object],
    timeout_s: float = 5.0,
    pause_s: float = 0.0,
    describe: Callable[[], str] = lambda: "",
) -> None:
    """Return when *condition* is true. It is tested once a turn, with *pause_s* between turns."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout_s
    while not condition():
        assert loop.time() < give_up, f"waited too long {describe()}"
        await asyncio.sleep(pause_s)


async def until_waiting(*tasks):
    """Return when each task waits for a future."""
    await until(lambda: all(task._fut_waiter is not None for task in tasks))


def future_is_set(task):
    """True if the future that *task* waits for has a result."""
    return task._fut_waiter is not None and task._fut_waiter.done()


async def turns(count: int = 5, pause_s: float = PAUSE_S) -> None:
    """Let the loop make *count* turns, each of which polls."""
    for _ in range(count):
        await asyncio.sleep(pause_s)


def run_until(loop, condition, timeout_s=10.0):
    """Run *loop* until *condition* is true."""
    loop.run_until_complete(until(condition, timeout_s, PAUSE_S))


def run_turns(loop, count=3, pause_s=0.002):
    """Run *loop* for *count* turns, each of which polls."""
    loop.run_until_complete(turns(count, pause_s))


class Turns:
    """Counts the turns of a loop by a chain of call_soon()."""

    def __init__(self, loop):
        self.loop = loop
        self.count = 0
        self.chain = loop.call_soon(self.next)

    def next(self):
        self.count += 1
        self.chain = self.loop.call_soon(self.next)
