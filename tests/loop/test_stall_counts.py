"""loop.stats() counts the stalls that the stall watch has reported."""

from __future__ import annotations

import asyncio
import threading
import time

from mioloop.loop.event_loop import EventLoop
from mioloop.loop.stall import Stall

LIMIT_S = 20.0


def stats_after(*blocks_s: float) -> tuple[dict[str, int], list[Stall]]:
    """The figures of a loop that callbacks have blocked for so long, and the reports."""
    loop = EventLoop(stall=0.15)     # long, because a busy machine stops the process
    reports = []
    ended = threading.Semaphore(0)

    def on_stall(stall: Stall) -> None:
        reports.append(stall)
        if stall.ended:
            ended.release()

    loop.on_stall = on_stall
    for block_s in blocks_s:
        loop.call_soon(time.sleep, block_s)
        loop.run_until_complete(asyncio.sleep(0))
        # The watch sees the end of the stall at its next look.
        loop.run_until_complete(loop.run_in_executor(None, ended.acquire, True, LIMIT_S))
    loop.run_until_complete(loop.shutdown_default_executor())
    stats = loop.stats()
    loop.close()
    assert loop.stats()["stalls"] == stats["stalls"]
    return stats, reports


def test_a_stall_that_is_reported_several_times_counts_once() -> None:
    stats, reports = stats_after(0.8)
    assert len(reports) > 2
    assert stats["stalls"] == 1
    assert stats["stalled_ns"] == int(reports[-1].seconds * 1e9) >= 0.7e9


def test_the_lengths_of_stalls_add_up() -> None:
    stats, _ = stats_after(0.4, 0.4)
    assert stats["stalls"] == 2
    assert stats["stalled_ns"] >= 0.7e9


def test_a_loop_without_a_stall_watch_counts_none(mioloop_loop: EventLoop) -> None:
    mioloop_loop.call_soon(time.sleep, 0.05)
    mioloop_loop.run_until_complete(asyncio.sleep(0))
    stats = mioloop_loop.stats()
    assert (stats["stalls"], stats["stalled_ns"]) == (0, 0)
