"""A worker that fails stops the group with its exception, or is started again."""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

import pytest

from mioloop.group import LoopGroup, WorkerFailed
from tests.group import mains
from tests.support.groups import running

pytestmark = pytest.mark.slow


def test_a_failing_worker_stops_the_group_with_its_exception(kind: str) -> None:
    with LoopGroup(workers=3, kind=kind, report=False) as group:
        with pytest.raises(KeyError, match="of worker 1") as raised:
            group.run(mains.fail)
    if kind == "process":
        assert "in fail\n" in str(raised.value.__cause__)       # the traceback of the worker


def test_an_exception_that_cannot_be_pickled_is_described(kind: str) -> None:
    expected = mains.Odd if kind == "thread" else WorkerFailed
    with LoopGroup(workers=2, kind=kind, report=False) as group:
        with pytest.raises(expected, match="odd"):
            group.run(mains.fail_oddly)


def test_sys_exit_in_a_worker_leaves_the_program(kind: str) -> None:
    with LoopGroup(workers=1, kind=kind, on_failure="restart", report=False) as group:
        with pytest.raises(SystemExit) as raised:
            group.run(mains.leave)
    assert raised.value.code == 5


def test_a_result_that_cannot_be_pickled_is_refused() -> None:
    with LoopGroup(workers=1, kind="process", report=False) as group:
        with pytest.raises(TypeError, match="the result of main must be picklable"):
            group.run(mains.unpicklable_result)


def test_a_killed_process_stops_the_group() -> None:
    with running(mains.idle, kind="process") as run:
        with pytest.raises(WorkerFailed):
            run.call(0, mains.kill_this_process)
        with pytest.raises(WorkerFailed, match=r"worker 0 \(process \d+\) has ended by SIGKILL"):
            run.end()


def test_sigterm_to_a_worker_process_ends_that_worker_and_so_the_group() -> None:
    with running(mains.wait_for_stop, kind="process") as run:
        os.kill(run.call(1, mains.pid), signal.SIGTERM)
        with pytest.raises(WorkerFailed, match=r"worker 1 \(process \d+\) was ended by SIGTERM"):
            run.end()


def test_a_failing_worker_is_started_again(kind: str, tmp_path: Path) -> None:
    main = functools.partial(mains.fail_until, str(tmp_path / "runs"), 2)
    with LoopGroup(workers=1, kind=kind, on_failure="restart") as group:
        assert group.run(main) == ["run 3"]


def test_a_worker_that_always_fails_is_given_up_after_growing_delays(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main = functools.partial(mains.fail_until, str(tmp_path / "runs"), 99)
    began = time.monotonic()
    with LoopGroup(
        workers=1, kind=kind, on_failure="restart", restarts=2, report=False
    ) as group:
        with pytest.raises(OSError, match="run 3"):
            group.run(main)
    assert time.monotonic() - began >= 0.3      # 0.1 + 0.2
    logged = [record for record in caplog.records if record.name == "mioloop.group"]
    assert [record.getMessage() for record in logged] == [
        "worker 0 has failed; it is started again in 0.1 s (1 of 2)",
        "worker 0 has failed; it is started again in 0.2 s (2 of 2)",
    ]
    assert all(record.exc_info for record in logged)


def test_a_stop_ends_the_wait_for_the_next_start(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main = functools.partial(mains.fail_until, str(tmp_path / "runs"), 99)
    with running(main, workers=1, kind=kind, on_failure="restart", restarts=99) as run:
        while "started again in 0.8 s" not in caplog.text:
            time.sleep(0.01)
        run.group.stop()
        assert run.end() == [None]
