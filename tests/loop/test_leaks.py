"""A closed loop leaves nothing behind. R22."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter

import pytest


def objects_by_type():
    gc.collect()
    return Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def use_everything():
    loop = asyncio.get_running_loop()

    async def echo(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    assert await reader.read() == b"x"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    loop.call_later(1000, print).cancel()
    loop.call_soon_threadsafe(int)
    await asyncio.sleep(0.0001)


def test_a_thousand_loops_leave_nothing(mioloop_kind, no_leaked_descriptor):
    """R22: no descriptor, no object of mioloop's or asyncio's types, no reference to a type."""

    def one():
        loop = mioloop_kind.new()
        loop.run_until_complete(asyncio.sleep(0))
        loop.call_later(1000, print)
        loop.close()

    for _ in range(10):
        one()
    before, type_references = objects_by_type(), references_to_types()
    for _ in range(1000):
        one()
    grown = {
        name: (before[name], count)
        for name, count in objects_by_type().items()
        if name.startswith(("mioloop", "asyncio")) and count > before[name]
    }
    assert grown == {}
    for name, count in references_to_types().items():
        assert count - type_references[name] < 50, name


def references_to_types():
    """How often each type that a loop is made of is referred to: once per live object, at least."""
    import mioloop

    types = [*mioloop.EventLoop.__mro__, asyncio.Handle, asyncio.TimerHandle, asyncio.Future]
    return {t.__qualname__: sys.getrefcount(t) for t in types if t is not object}


def test_loops_that_did_real_work_leave_nothing(loop_kind, no_leaked_descriptor):
    """R22: servers, connections, timers, thread wakeups."""

    def one():
        loop = loop_kind.new()
        try:
            loop.run_until_complete(use_everything())
        finally:
            loop.close()

    for _ in range(5):
        one()
    before = objects_by_type()
    for _ in range(50):
        one()
    grown = {
        name: (before[name], count)
        for name, count in objects_by_type().items()
        if name.startswith(("mioloop", "asyncio", "uvloop", "socket", "_asyncio"))
        and count > before[name] + 2
    }
    assert grown == {}


def test_unclosed_loops_are_collected(mioloop_kind, no_leaked_descriptor):
    """R22: dropping the last reference is enough; no object of mioloop keeps a cycle alive."""
    for _ in range(3):
        with pytest.warns(ResourceWarning):
            loop = mioloop_kind.new()
            loop.call_soon(print, loop)
            loop.call_later(100, print, loop)
            del loop
            gc.collect()
    import mioloop

    assert not [o for o in gc.get_objects() if isinstance(o, mioloop.EventLoop)]


def test_connections_of_one_loop_leave_nothing(loop):
    """R39: after five hundred connections the loop holds as many objects as before."""

    async def main():
        async def echo(reader, writer):
            writer.write(await reader.read(100))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def connect():
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x")
            assert await reader.read() == b"x"
            writer.close()
            await writer.wait_closed()

        async def settled():
            for _ in range(5):
                await asyncio.sleep(0.001)
            return objects_by_type()

        for _ in range(20):
            await connect()
        before = await settled()
        for _ in range(500):
            await connect()
        after = await settled()
        server.close()
        await server.wait_closed()
        return {
            name: (before[name], count)
            for name, count in after.items()
            if name.startswith(("mioloop", "asyncio", "uvloop", "socket", "_asyncio"))
            and count > before[name] + 5
        }

    assert loop.run_until_complete(asyncio.wait_for(main(), 30)) == {}


def test_stats_are_counts(mioloop_loop):
    """loop.stats(): ints, always on; current numbers and totals."""
    loop = mioloop_loop
    first = loop.stats()
    assert {"turns", "callbacks", "events", "timers", "sources", "ready"} <= set(first)
    assert all(type(value) is int for value in first.values())
    timer = loop.call_later(1000, print)
    assert loop.stats()["timers"] == first["timers"] + 1
    handle = loop.call_soon(print)
    assert loop.stats()["ready"] == first["ready"] + 1
    timer.cancel()
    handle.cancel()
    loop.run_until_complete(asyncio.sleep(0.001))
    second = loop.stats()
    assert second["turns"] > first["turns"]
    assert second["callbacks"] > first["callbacks"]
    assert second["timers"] == first["timers"]


@pytest.mark.unsanitized("freed memory is kept, to find who still uses it")
def test_memory_does_not_grow_with_callbacks(mioloop_loop):
    """After a million callbacks and timers the memory in use has not grown."""
    loop = mioloop_loop

    def round_of_callbacks():
        for i in range(10_000):
            loop.call_soon(int)
            loop.call_later(1000 + i, int).cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()

    for _ in range(10):
        round_of_callbacks()
    gc.collect()
    before = resident_bytes()
    for _ in range(40):
        round_of_callbacks()
    gc.collect()
    assert resident_bytes() - before < 4 * 1024 * 1024
