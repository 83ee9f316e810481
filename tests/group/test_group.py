"""LoopGroup: `main` runs once in each loop, and the group leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mioloop
from mioloop.group import LoopGroup, current_worker
from tests.group import mains
from tests.support.groups import running

pytestmark = pytest.mark.slow


def test_main_runs_once_in_each_loop(kind: str) -> None:
    with LoopGroup(workers=3, kind=kind) as group:
        results = group.run(mains.identity)
    assert [each[:3] for each in results] == [(index, 3, kind) for index in range(3)]
    pids = {each[3] for each in results}
    if kind == "process":
        assert len(pids) == 3 and os.getpid() not in pids
    else:
        assert pids == {os.getpid()}
        assert threading.get_ident() not in {each[4] for each in results}


def test_a_group_runs_again(kind: str) -> None:
    with LoopGroup(workers=1, kind=kind) as group:
        assert group.run(mains.identity)[0][0] == 0
        assert group.run(mains.identity)[0][0] == 0


def test_options_reach_the_loops(kind: str) -> None:
    with LoopGroup(workers=1, kind=kind, trigger="level") as group:
        assert "trigger=level" in group.run(mains.show_loop)[0]


def test_threads_take_any_function() -> None:
    seen: list[int] = []

    async def main(worker: Any) -> None:
        seen.append(worker.index)

    with LoopGroup(workers=2, kind="thread") as group:
        group.run(main)
    assert sorted(seen) == [0, 1]


def test_the_kind_is_processes_where_there_is_a_gil() -> None:
    gil_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert LoopGroup(workers=1).kind == ("process" if gil_enabled else "thread")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers must be a number of at least 1, not 0"),
        ({"workers": True}, "workers must be a number of at least 1, not True"),
        ({"kind": "proces"}, "no kind 'proces'; did you mean process?"),
        ({"grace": -1}, "grace must be a number of seconds of at least 0, not -1"),
        ({"grace": float("nan")}, "grace must be .* not nan"),
        ({"on_failure": "again"}, "no on_failure 'again'.*stop, restart"),
        ({"restarts": -1}, "restarts must be a number of at least 0, not -1"),
        ({"balance": "fair"}, "no balance 'fair'.*kernel, handover"),
        ({"backend": "uvloop"}, "backend must be 'mio' for a group, not 'uvloop'"),
        ({"trigger": "hair"}, "hair"),
    ],
)
def test_a_wrong_argument_is_named_with_the_valid_ones(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoopGroup(**arguments)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="worker"):
        LoopGroup(worker=2)     # type: ignore[call-arg]


def test_run_refuses_a_second_run_and_a_closed_group(kind: str) -> None:
    with running(mains.idle, kind=kind) as run:
        run.call(0, mains.pid)
        with pytest.raises(RuntimeError, match="the group is running"):
            run.group.run(mains.idle)
    with pytest.raises(RuntimeError, match="the group is closed"):
        run.group.run(mains.idle)


def test_run_refuses_a_running_loop() -> None:
    async def main() -> None:
        with LoopGroup(workers=1) as group:
            with pytest.raises(RuntimeError, match="from a running event loop"):
                group.run(mains.idle)

    asyncio.run(main())


def test_main_must_be_a_function_that_returns_a_coroutine(kind: str) -> None:
    with LoopGroup(workers=1, kind=kind) as group:
        with pytest.raises(TypeError, match="main must be a function .* not 7"):
            group.run(7)        # type: ignore[arg-type]
        with pytest.raises(TypeError, match="main must return a coroutine, not 7"):
            group.run(mains.no_coroutine)


def test_a_main_that_cannot_be_pickled_is_refused_before_a_process_starts() -> None:
    with LoopGroup(workers=1, kind="process") as group:
        with pytest.raises(TypeError, match="main must be picklable.*kind 'thread' take any"):
            group.run(lambda worker: None)


def test_there_is_no_current_worker_outside() -> None:
    with pytest.raises(RuntimeError, match="no worker"):
        current_worker()


def test_import_mioloop_does_not_import_the_group() -> None:
    code = "import sys, mioloop; print('mioloop.group' in sys.modules); mioloop.LoopGroup"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert "LoopGroup" in mioloop.__all__


# -- scripts ---------------------------------------------------------------------------------------

SCRIPT = """\
import mioloop

async def main(worker):
    return worker.index, __name__

def run():
    with mioloop.LoopGroup(workers=2, kind="process") as group:
        print(group.run(main))

"""


def run_script(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)


def test_main_may_be_a_function_of_a_script(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT + "if __name__ == '__main__':\n    run()\n")
    assert (done.stdout, done.stderr) == ("[(0, '__mp_main__'), (1, '__mp_main__')]\n", "")


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT + "run()\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: a worker process imports")
    assert 'if __name__ == "__main__":' in done.stderr


def test_a_function_without_a_file_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + "run()\n"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "cannot import <function main" in done.stderr.splitlines()[-1]
    assert "write it into a file, or use kind='thread'" in done.stderr.splitlines()[-1]
