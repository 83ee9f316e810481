"""`pytest -p mioloop.pytest`: the loops of every plugin are mioloop's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks.page import LINES

MODULE = """\
import asyncio, unittest

def assert_mioloop(trigger=None):
    loop = asyncio.get_running_loop()
    assert any(base.__module__ == "mioloop.loop.event_loop" for base in type(loop).__mro__), loop
    assert trigger is None or loop.trigger == trigger
    print("loop", type(loop).__qualname__)
"""
TESTS = {
    "pytest_asyncio": "import pytest\n@pytest.mark.asyncio\nasync def test(): assert_mioloop()\n",
    "anyio": "import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"
    "@pytest.mark.anyio\nasync def test(): assert_mioloop()\n",
    "unittest": "class Test(unittest.IsolatedAsyncioTestCase):\n"
    "    async def test(self): assert_mioloop()\n",
    "starlette": "from starlette.testclient import TestClient\n"
    "async def app(scope, receive, send):\n"
    "    assert_mioloop()\n"
    "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
    "    await send({'type': 'http.response.body', 'body': b''})\n"
    "def test(): assert TestClient(app).get('/').status_code == 200\n",
    "pytest_aiohttp": "from aiohttp import web\nasync def test(aiohttp_client):\n"
    "    async def handler(request):\n        assert_mioloop()\n        return web.Response()\n"
    "    app = web.Application()\n    app.router.add_get('/', handler)\n"
    "    client = await aiohttp_client(app)\n    assert (await client.get('/')).status == 200\n",
}
# pytest-aiohttp takes coroutines for tests only where pytest-asyncio does.
INI = {"pytest_aiohttp": "asyncio_mode = auto\n"}


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MIOLOOP_", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rP", "-W", "ignore",
         *arguments],
        capture_output=True, text=True, timeout=100, cwd=directory, env=environment,
    )


@pytest.mark.parametrize("plugin", TESTS)
def test_loops_of_every_plugin_are_mioloops(tmp_path: Path, plugin: str) -> None:
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed")
    (tmp_path / "test_it.py").write_text(MODULE + TESTS[plugin])
    (tmp_path / "pytest.ini").write_text("[pytest]\n" + INI.get(plugin, ""))
    assert run_pytest(tmp_path).returncode == 1         # asyncio's own loop, without the plugin
    line = LINES[f"plugins[{plugin}]"]
    program, *options = line.line.split()
    done = run_pytest(tmp_path, *options)
    assert done.returncode == 0, done.stdout
    assert f"loop {line.loop}" in done.stdout
    assert "1 passed" in done.stdout


def test_options_choose_the_trigger_and_switch_it_off(tmp_path: Path) -> None:
    body = TESTS["unittest"].replace("assert_mioloop()", "assert_mioloop('oneshot')")
    (tmp_path / "test_it.py").write_text(MODULE + body)
    options = "addopts = -p mioloop.pytest\n"
    for lines, status in [("mioloop_trigger = oneshot\n", 0), ("mioloop_loop = false\n", 1)]:
        (tmp_path / "pytest.ini").write_text("[pytest]\n" + options + lines)
        done = run_pytest(tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
    (tmp_path / "pytest.ini").write_text("[pytest]\n" + options + "mioloop_trigger = egde\n")
    done = run_pytest(tmp_path)
    assert "mioloop_trigger must be one of edge, level, oneshot, not 'egde'" in done.stderr
