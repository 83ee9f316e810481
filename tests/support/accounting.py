"""Counts of a process's objects by type, memory blocks and descriptors, and of loop.stats()."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mioloop
from mioloop import mio

TURNS_TO_REST = 500
# Each is referred to once by every object that was not let go. Where they are immortal (from
# CPython 3.12) the singletons say nothing.
SHARED = (None, True, False, (), b"", 0, asyncio.Future, asyncio.Task, asyncio.Protocol,
          mio.Token, mio.Event, *mioloop.EventLoop.__mro__)


@dataclass
class Account:
    blocks_before: int                  # this account itself
    objects: Counter[str]
    references: list[int]
    loop_references: int
    held: dict[str, int]
    descriptors: dict[str, int]
    blocks_after: int = 0


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Within it, an object in a cycle stays; other objects go with the last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def descriptors() -> Counter[str]:
    """Open descriptors by kind."""
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            kinds[os.readlink(f"/proc/self/fd/{name}").partition(":")[0]] += 1
        except FileNotFoundError:       # the one that listdir itself had open
            continue
    return kinds


def account(loop: Any) -> Account:
    """All of it, now. *loop* must have nothing left to do."""
    gc.collect()
    blocks = sys.getallocatedblocks()
    objects = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    stats = loop.stats()
    taken = Account(
        blocks, objects, [sys.getrefcount(shared) for shared in SHARED],
        sys.getrefcount(loop), {name: stats[name] for name in ("ready", "timers", "sources")},
        descriptors())
    taken.blocks_after = sys.getallocatedblocks()
    return taken


def growth(before: Account, after: Account, rounds: int) -> dict[str, Any]:
    """Return the counts that each of *rounds* may have increased; empty if there are none.

    A count that grows by less than half of *rounds* is noise: caches, free lists, tables that
    were enlarged. Exact are the loop's own counts and the descriptors.
    """
    grown: dict[str, Any] = {
        name: count - before.objects[name] for name, count in after.objects.items()
        if count - before.objects[name] >= rounds // 2}
    if after.blocks_before - before.blocks_after >= rounds // 2:
        grown["memory blocks"] = after.blocks_before - before.blocks_after
    for shared, was, now in zip(SHARED, before.references, after.references):
        if now - was >= rounds // 2:
            grown[f"references to {shared!r}"] = now - was
    if after.loop_references - before.loop_references >= rounds // 2:
        grown["references to the loop"] = after.loop_references - before.loop_references
    for name in ("held", "descriptors"):
        if getattr(before, name) != getattr(after, name):
            grown[name] = (getattr(before, name), getattr(after, name))
    return grown


def lasting_growth(accounts: list[Account], rounds: int) -> dict[str, Any]:
    """Return the counts that grew in every step; noise does not. *rounds* passed in each step."""
    steps = [growth(before, after, rounds) for before, after in itertools.pairwise(accounts)]
    return steps[-1] if all(steps) else {}


async def at_rest(loop: Any) -> None:
    """Return when nothing is queued, and no source comes or goes."""
    quiet = 0
    for _ in range(TURNS_TO_REST):
        before = loop.stats()
        await asyncio.sleep(0.0001)
        after = loop.stats()
        same = before["sources"] == after["sources"] and before["events"] == after["events"]
        quiet = quiet + 1 if same and after["ready"] == 0 else 0
        if quiet == 10:
            return
    raise AssertionError(f"does not come to rest: {loop.stats()}")


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
