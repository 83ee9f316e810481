"""group.call(): a function runs in the loop of another worker, and its end comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mioloop.group import LoopGroup, WorkerFailed
from tests.group import mains
from tests.support.groups import WAIT_S, running

pytestmark = pytest.mark.slow


def test_a_call_runs_in_the_loop_of_that_worker(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        assert run.call(1, mains.whoami, "a", 2) == (1, ("a", 2))
        assert run.call(0, mains.divide, 6, 3) == 2


def test_a_loop_awaits_a_call(kind: str) -> None:
    async def ask(group: LoopGroup) -> Any:
        calls = [group.call(index % 2, mains.whoami, index) for index in range(50)]
        return await asyncio.gather(*map(asyncio.wrap_future, calls))

    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        answers = asyncio.run(ask(run.group))
    assert answers == [(index % 2, (index,)) for index in range(50)]


def test_workers_call_each_other(kind: str) -> None:
    with running(mains.idle, workers=3, kind=kind) as run:
        answers = [run.call(index, mains.ask_the_next) for index in range(3)]
    assert answers == [((index + 1) % 3, ("from", index)) for index in range(3)]


def test_an_exception_comes_back(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        with pytest.raises(ZeroDivisionError) as raised:
            run.call(1, mains.divide, 1, 0)
        if kind == "process":
            assert "in divide\n" in str(raised.value.__cause__)
        expected = mains.Odd if kind == "thread" else WorkerFailed
        with pytest.raises(expected, match="odd"):
            run.call(1, mains.raise_oddly)
        assert run.call(1, mains.divide, 6, 3) == 2


def test_arguments_and_results_that_cannot_be_pickled_are_refused() -> None:
    with running(mains.idle, kind="process") as run:
        run.call(0, mains.pid)
        with pytest.raises(TypeError, match="a function of call.* must be picklable"):
            run.group.call(0, lambda: 1)
        with pytest.raises(TypeError, match="the result of a call must be picklable"):
            run.call(0, mains.make_lock)


@pytest.mark.parametrize("index", [-1, 2, True, "0", None])
def test_a_wrong_index_is_named_with_the_valid_ones(kind: str, index: Any) -> None:
    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        with pytest.raises(ValueError, match=f"a worker, 0 to 1, not {index!r}"):
            run.group.call(index, mains.pid)


def test_a_worker_is_told_the_valid_indices(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        with pytest.raises(ValueError, match="a worker, 0 to 1, not 2"):
            run.call(0, mains.call_worker, 2)


def test_a_call_needs_a_function_and_a_running_group(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        with pytest.raises(TypeError, match="function must be callable, not 7"):
            run.group.call(0, 7)        # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the group is not running"):
        run.group.call(0, mains.pid)


def test_a_call_that_was_not_answered_fails_when_the_worker_ends(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        waiting = run.group.call(0, mains.forever)
        run.group.stop()
        with pytest.raises(WorkerFailed):
            waiting.result(WAIT_S)


def test_a_cancelled_call_does_not_disturb_the_next_one(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        assert run.group.call(0, mains.forever).cancel()
        assert run.call(0, mains.divide, 6, 3) == 2
