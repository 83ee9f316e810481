"""The console shows where each task is suspended, and which tasks wait for it."""

from __future__ import annotations

import asyncio
import sys

import pytest

import mioloop
from mioloop.console import tasks, text
from tests.support.waiting import until, until_waiting


async def waits(future):
    await future


async def passes_on(future):
    await waits(future)


async def generates(future):
    yield 1
    await future


async def iterates(future):
    async for _ in generates(future):
        pass


async def gathers(task):
    await asyncio.gather(task, asyncio.sleep(60))


async def shields(task):
    await asyncio.shield(task)


async def gathers_a_shield(task):
    await asyncio.gather(asyncio.shield(task))


async def waits_for_any(task):
    await asyncio.wait([task])


async def has_a_limit(task):
    await asyncio.wait_for(task, 60)


async def groups(task):
    async with asyncio.TaskGroup() as group:
        group.create_task(waits(task), name="grouped")


WAYS = [waits, passes_on, gathers, shields, gathers_a_shield, waits_for_any, has_a_limit]


def run(main):
    async def bounded():
        await asyncio.wait_for(main(), 10)

    mioloop.run(bounded())


def described():
    return {each["name"]: each for each in tasks.describe_tasks(asyncio.get_running_loop())}


async def cancel(*these):
    for task in these:
        task.cancel()
    await asyncio.gather(*these, return_exceptions=True)


@pytest.mark.parametrize("way", WAYS)
def test_a_task_knows_the_task_that_waits_for_it(way):
    async def main():
        awaited = asyncio.create_task(waits(asyncio.get_running_loop().create_future()), name="it")
        awaiter = asyncio.create_task(way(awaited), name="awaiter")
        await until_waiting(awaited, awaiter)
        found = described()
        assert found["it"]["awaited_by"] == [found["awaiter"]["id"]]
        await cancel(awaiter, awaited)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
def test_a_group_shows_its_tasks_below_the_task_that_has_it():
    async def main():
        awaited = asyncio.create_task(waits(asyncio.get_running_loop().create_future()), name="it")
        awaiter = asyncio.create_task(groups(awaited), name="awaiter")
        await until(lambda: "grouped" in described() and described()["it"]["awaited_by"])
        found = described()
        assert found["grouped"]["awaited_by"] == [found["awaiter"]["id"]]
        assert found["it"]["awaited_by"] == [found["grouped"]["id"]]
        await cancel(awaiter, awaited)

    run(main)


@pytest.mark.parametrize(
    ("coroutine", "names"),
    [(passes_on, ["passes_on", "waits"]), (iterates, ["iterates", "generates"])],
)
def test_the_chain_of_a_task_goes_to_the_innermost_await(coroutine, names):
    async def main():
        task = asyncio.create_task(coroutine(asyncio.get_running_loop().create_future()), name="it")
        await until_waiting(task)
        found = described()["it"]
        assert [frame["function"] for frame in found["stack"]] == names
        assert all(frame["file"] == __file__ and frame["line"] > 0 for frame in found["stack"])
        assert found["state"] == "waiting" and found["coroutine"] == names[0]
        await cancel(task)

    run(main)


def test_a_new_task_is_ready_and_the_current_one_runs():
    async def main():
        task = asyncio.create_task(asyncio.sleep(0), name="new")
        assert described()["new"]["state"] == "ready"
        assert described()[asyncio.current_task().get_name()]["state"] == "running"
        await task

    run(main)


def a_task(number, *awaited_by):
    return {
        "id": number, "name": f"T{number}", "coroutine": "f", "state": "waiting",
        "waits_for": "Future", "stack": [], "awaited_by": list(awaited_by),
    }


def test_the_tree_has_awaited_tasks_below_their_awaiters():
    lines = list(text.trees_of([a_task(1), a_task(2, 1), a_task(3, 2), a_task(4, 1), a_task(5)]))
    assert [line.replace(" f() waiting", "") for line in lines] == [
        "T1", "├─ T2", "│  └─ T3", "└─ T4", "T5",
    ]


def test_the_tree_shows_a_circle_once():
    lines = list(text.trees_of([a_task(1, 2), a_task(2, 1)]))
    assert lines == ["T1 f() waiting", "└─ T2 f() waiting", "   └─ T1 f() waiting (shown above)"]


def test_the_tree_of_a_long_chain_is_not_recursive():
    chain = [a_task(1), *(a_task(n, n - 1) for n in range(2, 5000))]
    assert len(list(text.trees_of(chain))) == 4999


def test_the_last_reference_to_a_task_is_dropped_by_the_loop():
    """Its end closes the coroutine, which may run code of the program."""
    ended_in = []

    class Noting(asyncio.Task):
        def __del__(self):
            ended_in.append(asyncio.get_running_loop())
            super().__del__()

    async def main():
        loop = asyncio.get_running_loop()
        held = [Noting(asyncio.sleep(0), loop=loop)]
        await held[0]
        await asyncio.to_thread(tasks.give_back, held, loop)
        while not ended_in:
            await asyncio.sleep(0)
        assert ended_in == [loop]

    run(main)
