"""An unmodified pytest-asyncio suite runs on mioloop: one conftest.py chooses the loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_asyncio import plugin

# Not one line of it knows of mioloop.
SUITE = '''
import asyncio
import sys

import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def echo_port():
    async def echo(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_loop():
    yield asyncio.get_running_loop()


@pytest.mark.asyncio
async def test_streams(echo_port):
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
    writer.write(b"x" * 100_000)
    assert await reader.readexactly(100_000) == b"x" * 100_000
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_tasks_and_timers():
    async def value(n):
        await asyncio.sleep(0.001 * (3 - n))
        return n

    assert await asyncio.gather(*map(value, range(3))) == [0, 1, 2]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)


@pytest.mark.asyncio
async def test_executor_and_queue():
    queue = asyncio.Queue()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(
        None, lambda: loop.call_soon_threadsafe(queue.put_nowait, "from a thread")
    )
    assert await queue.get() == "from a thread"


@pytest.mark.asyncio
async def test_subprocess():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input()[::-1])",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    assert (await child.communicate(b"abc\\n"))[0] == b"cba\\n"
    assert child.returncode == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_parametrized(number):
    await asyncio.sleep(0)
    assert number


@pytest.mark.asyncio(loop_scope="module")
async def test_one_loop_for_the_module(module_loop):
    assert asyncio.get_running_loop() is module_loop


@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    async def test_first(self):
        type(self).loop = asyncio.get_running_loop()

    async def test_second(self):
        assert asyncio.get_running_loop() is type(self).loop
'''
SUITE_TESTS = 9

# The one that does know: run beside the suite, it fails if the choice had no effect.
WHICH_LOOP = '''
import asyncio

import pytest


@pytest.mark.asyncio
async def test_runs_on_mioloop():
    assert type(asyncio.get_running_loop()).__module__.startswith("mioloop.")
'''

POLICY_FIXTURE = '''
import pytest
import mioloop


@pytest.fixture(scope="session")
def event_loop_policy():
    return mioloop.EventLoopPolicy()
'''

LOOP_FACTORIES_HOOK = '''
import mioloop


def pytest_asyncio_loop_factories(config, item):
    return {"mioloop": mioloop.new_event_loop}
'''

INSTALL = '''
import mioloop

mioloop.install()
'''


def run_suite(directory: Path, conftest: str) -> str:
    """Return the output of pytest for the suite in *directory*, without this suite's options."""
    (directory / "conftest.py").write_text(conftest)
    (directory / "test_suite.py").write_text(SUITE)
    (directory / "test_which_loop.py").write_text(WHICH_LOOP)
    (directory / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
        # The fixture is on its way out of pytest-asyncio, policies out of asyncio; both work.
        "filterwarnings =\n    error\n    ignore:.*policy:DeprecationWarning\n"
        "    ignore:.*event_loop_policy:pytest.PytestDeprecationWarning\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MIOLOOP"))}
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-ra"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 0, completed.stdout
    return completed.stdout


@pytest.mark.parametrize(
    "conftest",
    [
        pytest.param(POLICY_FIXTURE, id="event_loop_policy-fixture"),
        pytest.param(
            LOOP_FACTORIES_HOOK,
            id="loop_factories-hook",
            marks=pytest.mark.skipif(
                not hasattr(plugin, "PytestAsyncioSpecs"), reason="this pytest-asyncio has no hook"
            ),
        ),
        pytest.param(INSTALL, id="install"),
    ],
)
def test_suite_passes_on_mioloop_chosen_by(tmp_path: Path, conftest: str) -> None:
    output = run_suite(tmp_path, conftest)

    assert f"{SUITE_TESTS + 1} passed" in output.splitlines()[-1]
