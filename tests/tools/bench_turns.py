"""The cost of a turn while callbacks are ready: nothing watched, and 64 idle connections watched.

    python tests/tools/bench_turns.py --rounds 9

Each figure is processor time for one callback, in a process of its own; rounds are interleaved,
ratios are taken within a round. docs/performance.md, "A look in every turn", has results.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

LOOPS = ("mioloop", "mioloop without io_uring", "uvloop", "asyncio")
COUNT = 60_000


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    import mioloop

    return mioloop.new_event_loop(io_uring=name == "mioloop")


def chain(loop: asyncio.AbstractEventLoop, count: int) -> asyncio.Future[None]:
    """A call_soon() callback that schedules the next one, *count* times."""
    done = loop.create_future()

    def link() -> None:
        nonlocal count
        count -= 1
        if count:
            loop.call_soon(link)
        else:
            done.set_result(None)

    loop.call_soon(link)
    return done


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def measure(connections: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    idle = []
    for _ in range(connections):
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        idle.append((transport, right))
    await chain(loop, COUNT // 10)      # warm
    figures = {}
    for name, make in (
        ("call_soon chain", lambda: chain(loop, COUNT)),
        ("sleep(0)", lambda: turns(COUNT)),
        ("20 tasks", lambda: asyncio.gather(*(turns(COUNT // 20) for _ in range(20)))),
    ):
        began = time.process_time()
        await make()
        figures[name] = (time.process_time() - began) / COUNT * 1e9
    for transport, right in idle:
        transport.close()
        right.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, connections = options.one
        loop = new_loop(name)
        print(json.dumps(loop.run_until_complete(measure(int(connections)))))
        loop.close()
        return
    for connections in ("0", "64"):
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in LOOPS}
        for _ in range(options.rounds):
            for name in LOOPS:
                command = [sys.executable, __file__, "--one", name, connections]
                samples[name].append(json.loads(subprocess.check_output(command)))
        print(f"{connections} idle connections")
        for figure in samples[LOOPS[0]][0]:
            for name in LOOPS:
                ns = statistics.median(sample[figure] for sample in samples[name])
                ratios = sorted(
                    base[figure] / sample[figure]
                    for base, sample in zip(samples["uvloop"], samples[name])
                )
                print(
                    f"  {figure:16} {name:25} {ns:6.0f} ns   uvloop's time / this one's: "
                    f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                )


if __name__ == "__main__":
    main()
