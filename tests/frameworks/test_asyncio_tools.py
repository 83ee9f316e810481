"""Tools of asyncio see the tasks of a loop in another process: `python -m asyncio ps PID`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.frameworks.server_process import SERVED_LOOPS, ServedLoop

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 14), reason="Python has the tools since 3.14"),
    pytest.mark.unsanitized("the tools read the memory of another process"),
]

LIMIT_S = 30.0

PROGRAM = """
import asyncio
import sys

async def read_orders():
    print("waits", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

async def main():
    await asyncio.create_task(read_orders(), name="order 17")

asyncio.run(main())
"""


@pytest.fixture(params=[each for each in SERVED_LOOPS if each.name != "uvloop"], ids=str)
def pid(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process in which a task waits for another one."""
    served: ServedLoop = request.param
    child = subprocess.Popen(
        [sys.executable, "-m", "mioloop", "run", *served.policy_options, "-c", PROGRAM],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=served.environment,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        assert child.stdout.readline() == "waits\n"
        yield child.pid
    finally:
        child.communicate(timeout=LIMIT_S)


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_the_tools_of_asyncio_see_the_tasks(pid: int, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", command, str(pid)],
        capture_output=True, text=True, timeout=LIMIT_S,
    )
    if done.returncode != 0 and "ermission" in done.stdout + done.stderr:
        pytest.skip("this process may not read the memory of another one")
    assert done.returncode == 0, done.stderr
    for word in ("Task-1", "main", "order 17", "read_orders"):
        assert word in done.stdout
