"""The console finds tasks, transports and executors that are probably in trouble."""

from __future__ import annotations

import asyncio
import threading

import pytest

import mioloop
from mioloop.console import findings
from mioloop.console.findings import Notebook
from mioloop.console.recorder import Summing
from tests.console.test_top import a_record
from tests.support.waiting import until_waiting


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def kinds(notebook, loop):
    return [each["kind"] for each in notebook.findings(loop)]


async def waits(future):
    await future


async def serve_forever(future):
    await future


async def cancel(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_task_that_waits_for_an_hour_is_found(clock):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        tasks = [asyncio.create_task(waits(future)), asyncio.create_task(serve_forever(future))]
        await until_waiting(*tasks)
        notebook = Notebook(clock)
        notebook.look(loop)
        clock.now += findings.LONG_WAIT_S - 1
        notebook.look(loop)
        assert kinds(notebook, loop) == []
        clock.now += 1
        notebook.look(loop)
        (found,) = notebook.findings(loop)
        assert found["kind"] == "long wait" and "1 task of waits() waited" in found["text"]
        await cancel(*tasks)

    mioloop.run(main())


def test_a_task_that_waits_for_another_future_meanwhile_is_not_found(clock):
    async def twice(first, second):
        await first
        await second

    async def main():
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        task = asyncio.create_task(twice(first, second))
        await until_waiting(task)
        notebook = Notebook(clock)
        notebook.look(loop)
        clock.now += findings.LONG_WAIT_S
        first.set_result(None)
        await asyncio.sleep(0)
        await until_waiting(task)
        notebook.look(loop)
        assert kinds(notebook, loop) == []
        await cancel(task)

    mioloop.run(main())


def test_a_task_that_only_its_future_refers_to_is_found():
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        held = asyncio.create_task(waits(future))
        await until_waiting(held)
        assert findings.unheld(loop, list(asyncio.all_tasks())) == []
        asyncio.create_task(waits(future), name="unheld")           # noqa: RUF006
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (found,) = findings.unheld(loop, list(asyncio.all_tasks()))
        assert found["text"].startswith("1 task of waits() is held by no part of the program")
        future.set_result(None)
        await held

    mioloop.run(main())


def test_a_task_that_another_task_awaits_is_held():
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        async def awaits():
            await asyncio.create_task(waits(future))

        task = asyncio.create_task(awaits())
        await until_waiting(task)
        await asyncio.sleep(0)
        assert findings.unheld(loop, list(asyncio.all_tasks())) == []
        future.set_result(None)
        await task

    mioloop.run(main())


def test_a_transport_that_is_paused_for_a_minute_is_found(clock):
    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        notebook = Notebook(clock)
        writer.transport.pause_reading()
        notebook.look(loop)
        clock.now += findings.PAUSED_S - 1
        notebook.look(loop)
        assert kinds(notebook, loop) == []
        clock.now += 1
        notebook.look(loop)
        (found,) = notebook.findings(loop)
        assert found["kind"] == "paused transport" and "('127.0.0.1', " in found["text"]
        writer.transport.resume_reading()
        notebook.look(loop)
        assert kinds(notebook, loop) == []
        writer.close()
        await writer.wait_closed()
        server.close()

    mioloop.run(main())


def test_an_executor_with_a_growing_queue_is_found(clock):
    async def main():
        loop = asyncio.get_running_loop()
        gate = threading.Event()
        notebook = Notebook(clock)
        calls = [loop.run_in_executor(None, gate.wait) for _ in range(50)]
        for _ in range(findings.GROWING_LOOKS):
            notebook.look(loop)
            assert kinds(notebook, loop) == []
            clock.now += findings.BETWEEN_QUEUES_S
            calls.append(loop.run_in_executor(None, gate.wait))
        notebook.look(loop)
        assert kinds(notebook, loop) == ["growing executor"]
        clock.now += findings.BETWEEN_QUEUES_S
        notebook.look(loop)
        assert kinds(notebook, loop) == []
        gate.set()
        await asyncio.gather(*calls)

    mioloop.run(main())


def test_a_task_that_spins_is_found_until_it_waits():
    summing = Summing()
    summing.take(1, [a_record(spins=True)] * findings.SPINS, 0)
    (found,) = findings.of_records(summing, 1, {7: "busy"})
    assert found["kind"] == "spinning task" and "'busy'" in found["text"]
    assert findings.of_records(summing, 2, {7: "busy"}) == []
    assert findings.of_records(summing, 1, {}) == []            # it has ended
    summing.take(1, [a_record()], 0)
    assert findings.of_records(summing, 1, {7: "busy"}) == []


def test_long_steps_of_one_function_are_one_finding():
    summing = Summing()
    summing.take(1, [a_record(ended_ns=60_000_000), a_record(ended_ns=90_000_000)], 0)
    (found,) = findings.of_records(summing, 1, {})
    assert found["kind"] == "long step" and "2 steps of f() took up to 90 ms" in found["text"]
    summing = Summing()
    summing.take(1, [a_record(ended_ns=49_000_000)], 0)
    assert findings.of_records(summing, 1, {}) == []
