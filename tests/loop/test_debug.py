"""Debug mode: R14, R85."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import traceback

import pytest


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.known_difference("uvloop", "does not look at callbacks before it calls them")
def test_callbacks_are_checked_in_debug_only(loop, reports):
    """R85: call_soon(None) passes else, and fails when it is called."""
    loop.set_debug(True)
    with pytest.raises(TypeError):
        loop.call_soon(None)
    with pytest.raises(TypeError):
        loop.call_later(0, 3)
    with pytest.raises(TypeError):
        loop.call_soon_threadsafe("text")
    loop.set_debug(False)
    loop.call_soon(None)
    turn(loop)
    (report,) = reports
    assert isinstance(report["exception"], TypeError)


def test_debug_mode_can_be_switched_while_running(loop):
    """R85: set_debug() takes effect at once, get_debug() says so."""

    async def main():
        assert not loop.get_debug()
        loop.set_debug(True)
        assert loop.get_debug()
        await asyncio.sleep(0)
        loop.set_debug(False)
        assert not loop.get_debug()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_slow_callback_is_logged_in_debug(loop, caplog):
    """R85, section 4: 'Executing %s took %.3f seconds'."""
    loop.slow_callback_duration = 0.01

    def slow():
        time.sleep(0.03)

    loop.call_soon(slow)
    turn(loop)
    assert not caplog.records
    loop.set_debug(True)
    loop.call_soon(slow)
    turn(loop)
    (record,) = [r for r in caplog.records if "took" in r.getMessage()]
    assert record.name == "asyncio" and record.levelname == "WARNING"
    assert "slow" in record.getMessage()


def test_slow_task_step_is_logged_with_its_task(loop, caplog):
    """R85: the log names the task, not only its step."""
    loop.slow_callback_duration = 0.01
    loop.set_debug(True)

    async def lazy():
        time.sleep(0.03)

    loop.run_until_complete(lazy())
    messages = [r.getMessage() for r in caplog.records if "took" in r.getMessage()]
    assert messages and "lazy" in messages[0]


def test_handles_know_where_they_were_made_in_debug(loop, reports):
    """R85: source_traceback is in the report."""
    loop.set_debug(True)

    def fails():
        raise ValueError

    loop.call_soon(fails)
    turn(loop)
    (report,) = reports
    frames = traceback.StackSummary.from_list(report["source_traceback"])
    assert frames[-1].filename == __file__


def test_every_kind_of_handle_knows_where_it_was_made_in_debug(loop):
    """R85: soon, later, at, threadsafe; and none of them otherwise."""
    for debug in (True, False):
        loop.set_debug(debug)
        handles = [
            loop.call_soon(print),
            loop.call_later(10, print),
            loop.call_at(loop.time() + 10, print),
            loop.call_soon_threadsafe(print),
        ]
        for handle in handles:
            handle.cancel()
            assert bool(handle._source_traceback) is debug
            assert ("created at" in repr(handle)) is debug
            if debug:
                assert handle._source_traceback[-1].filename == __file__


def from_here(frames):
    return any(frame.filename == __file__ for frame in frames)


def test_tasks_and_futures_know_where_they_were_made_in_debug(loop, reports):
    """R85: their reports carry it."""

    async def fails():
        raise ValueError("nobody looks at me")

    loop.set_debug(True)
    assert from_here(loop.create_future()._source_traceback)
    task = loop.create_task(fails())
    turn(loop)
    turn(loop)
    del task
    gc.collect()
    (report,) = reports
    assert from_here(report["source_traceback"])


def test_coroutine_that_was_never_awaited_says_where_it_was_made_in_debug(loop):
    """R85: origins are tracked while a loop in debug mode runs, and no longer."""
    depth = sys.get_coroutine_origin_tracking_depth()

    async def forgotten():
        pass

    async def main():
        assert (sys.get_coroutine_origin_tracking_depth() > depth) is loop.get_debug()
        with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
            forgotten()
            gc.collect()
        assert ("Coroutine created at" in str(caught[0].message)) is loop.get_debug()

    for debug in (True, False):
        loop.set_debug(debug)
        loop.run_until_complete(main())
        assert sys.get_coroutine_origin_tracking_depth() == depth


def test_destroyed_pending_task_is_reported(loop, reports):
    """Section 4: the handler of the loop gets the reports of tasks."""

    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    turn(loop)
    del task
    gc.collect()
    assert any("was destroyed but it is pending" in r["message"] for r in reports)


def test_exception_never_retrieved_is_reported(loop, reports):
    """Section 4: futures report to the loop's handler."""

    async def fails():
        raise ValueError("nobody looks at me")

    task = loop.create_task(fails())
    turn(loop)
    turn(loop)
    del task
    gc.collect()
    assert any("never retrieved" in r["message"] for r in reports)


@pytest.mark.known_difference("uvloop", "its handles are not Python's")
def test_replaced_handle_run_sees_every_callback(loop, monkeypatch):
    """R14: monitors patch events.Handle._run."""
    seen = []
    original = asyncio.events.Handle._run

    def monitored(self):
        seen.append(repr(self))
        return original(self)

    async def work():
        await asyncio.sleep(0)

    monkeypatch.setattr(asyncio.events.Handle, "_run", monitored)
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_later(0.001, ran.append, 2)
    loop.call_soon_threadsafe(ran.append, 3)
    loop.run_until_complete(work())
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert sorted(ran) == [1, 2, 3]
    assert len(seen) >= 6
    monkeypatch.undo()
    count = len(seen)
    turn(loop)
    assert len(seen) == count
