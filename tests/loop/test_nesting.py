"""Tools that drive a loop by hand, as nest_asyncio 1.6 does: section 3 of the contract."""

from __future__ import annotations

import asyncio
import heapq
import socket

import pytest

pytestmark = pytest.mark.known_difference("uvloop", "cannot be nested", run=False)


def run_once_by_hand(loop):
    """One turn over the private names of BaseEventLoop."""
    ready, scheduled = loop._ready, loop._scheduled
    while scheduled and scheduled[0]._cancelled:
        heapq.heappop(scheduled)
    timeout = 0 if ready or loop._stopping else 0.01
    if scheduled:
        timeout = min(timeout, max(0, scheduled[0]._when - loop.time()))
    loop._process_events(loop._selector.select(timeout))
    end_time = loop.time() + loop._clock_resolution
    while scheduled and scheduled[0]._when < end_time:
        ready.append(heapq.heappop(scheduled))
    for _ in range(len(ready)):
        if not ready:
            break
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()


def run_nested(loop, coroutine):
    """run_until_complete() inside a callback of the same loop."""
    outer_task = asyncio.current_task(loop)
    asyncio.tasks._leave_task(loop, outer_task)
    try:
        task = asyncio.ensure_future(coroutine, loop=loop)
        give_up = loop.time() + 10
        while not task.done():
            assert loop.time() < give_up
            run_once_by_hand(loop)
        return task.result()
    finally:
        asyncio.tasks._enter_task(loop, outer_task)


def test_nested_run_makes_progress(loop):
    """Callbacks, timers and sockets work in a turn made by hand."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)

        async def inner():
            await asyncio.sleep(0)
            await asyncio.sleep(0.005)
            await loop.sock_sendall(left, b"x")
            return await loop.sock_recv(right, 10)

        async def outer():
            result = run_nested(loop, inner())
            await asyncio.sleep(0.001)
            return result

        assert loop.run_until_complete(outer()) == b"x"


def test_thread_wakes_a_nested_run(loop):
    """call_soon_threadsafe reaches a select() made by hand."""

    async def inner():
        return await loop.run_in_executor(None, lambda: "from a thread")

    async def outer():
        return run_nested(loop, inner())

    assert loop.run_until_complete(outer()) == "from a thread"
