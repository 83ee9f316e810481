"""docs/frameworks.md: each program of another kind than a server runs on mioloop.

The program prints the class of its loop, in each of its processes that has one.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.frameworks.page import LINES
from tests.frameworks.test_page_servers import own_environment, skip_without

SAY = """\
import asyncio

def say(*_):
    kind = type(asyncio.get_running_loop())
    return f"loop {kind.__module__} {kind.__qualname__}"

async def main():
    print(say())

"""
PLAIN = SAY + """\
import mioloop

LINE
"""
ANYIO = SAY + """\
import anyio
import mioloop

LINE
"""
HTTPX = SAY + """\
import httpx

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    writer.close()

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 204
    print(say())

asyncio.run(main())
"""
TEST_CLIENT = SAY + """\
import mioloop
from starlette.testclient import TestClient

async def app(scope, receive, send):
    print(say())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

client = LINE
assert client.get("/").status_code == 200
"""
DASK = SAY + """\
from distributed import Client, LocalCluster

async def say_soon():
    return say()

if __name__ == "__main__":
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster, Client(cluster) as client:
        assert client.submit(pow, 2, 10).result(30) == 1024
        print(*client.run(say_soon).values(), sep="\\n")
        print(client.run_on_scheduler(say_soon))
"""
KERNEL = SAY + '''\
from jupyter_client import KernelManager

CODE = """
import asyncio, nest_asyncio2
kind = type(asyncio.get_running_loop())
print("loop", kind.__module__, kind.__qualname__)
await asyncio.sleep(0)
nest_asyncio2.apply()

async def nested():
    await asyncio.sleep(0.01)
    kind = type(asyncio.get_running_loop())
    print("loop", kind.__module__, kind.__qualname__)

asyncio.get_running_loop().run_until_complete(nested())
"""

if __name__ == "__main__":
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        reply = client.execute_interactive(CODE, timeout=60)
        assert reply["content"]["status"] == "ok", reply
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
'''
TEXTUAL = SAY + """\
from textual.app import App

class Shown(App):
    async def on_key(self, event):
        print(say())
        self.exit(event.key)

async def main():
    app = Shown()
    async with app.run_test() as pilot:
        await pilot.press("x")
    assert app.return_value == "x"

import sys
out = sys.stdout
_print = print
def print(text):
    _print(text, file=out)

asyncio.run(main())
"""
VLLM = SAY + """\
import signal, socket, threading, urllib.request
import uvicorn, uvloop

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": say().encode()})

async def main():
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(server, "should_exit", True))
    serving = loop.create_task(server.serve(sockets=[sock]))

    def ask():
        with urllib.request.urlopen("http://127.0.0.1:%d/" % sock.getsockname()[1]) as answer:
            print(answer.read().decode())
        signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    await serving
    thread.join()

if __name__ == "__main__":
    uvloop.run(main())
"""
SGLANG = SAY + """\
import warnings
import uvloop

warnings.simplefilter("ignore", DeprecationWarning)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

def engine():
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:        # from 3.14 on
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    assert isinstance(loop, uvloop.Loop)
    loop.run_until_complete(main())
    loop.close()

engine()
"""
RAY = SAY + """\
import threading
import uvloop

def get_new_event_loop():
    return uvloop.new_event_loop()

def in_thread():
    loop = get_new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())
    loop.close()

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
uvloop.install()
asyncio.run(main())
"""
TRY_USE_UVLOOP = SAY + """\
from sanic.server.loop import try_use_uvloop

try_use_uvloop()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


@dataclass(frozen=True)
class Case:
    """A program, and how many of its loops it prints."""

    program: str
    loops: int
    needs: tuple[str, ...]
    more: tuple[str, ...] = ()      # arguments
    policies: bool = False          # names a policy, which CPython 3.16 has not


# The prompt runs a cell on the loop if the cell has an `await`.
IPYTHON = """\
import asyncio
kind = type(await asyncio.sleep(0, asyncio.get_running_loop()))
print("loop", kind.__module__, kind.__qualname__)
"""
CASES = {
    "asyncio": Case(PLAIN, 1, ()),
    "mioloop-run": Case(PLAIN, 1, ()),
    "anyio": Case(ANYIO, 1, ("anyio",)),
    "httpx": Case(HTTPX, 1, ("httpx",)),
    "testclient": Case(TEST_CLIENT, 1, ("starlette", "httpx")),
    "dask": Case(DASK, 2, ("distributed",)),
    "ipython": Case(IPYTHON, 1, ("IPython",), ("--quick", "--simple-prompt", "--no-banner")),
    "ipykernel": Case(KERNEL, 2, ("ipykernel", "jupyter_client", "nest_asyncio2")),
    "textual": Case(TEXTUAL, 1, ("textual",)),
    "vllm": Case(VLLM, 1, ("uvicorn",)),
    "sglang": Case(SGLANG, 1, (), policies=True),
    "ray": Case(RAY, 2, (), policies=True),
    "sanic": Case(TRY_USE_UVLOOP, 1, ("sanic",), policies=True),
}


@pytest.mark.parametrize("name", CASES)
def test_line_runs_on_mioloop(tmp_path: Path, name: str) -> None:
    case, line = CASES[name], LINES[f"programs[{name}]"]
    skip_without(*case.needs)
    if case.policies and sys.version_info >= (3, 16):
        pytest.skip("there are no policies")
    program = tmp_path / "program.py"
    if line.line.startswith("mioloop run"):
        program.write_text(case.program)
        command = line.command(*case.more)
    else:                                       # a line of the program itself
        if sys.version_info < (3, 11) and "Runner" in line.line:
            pytest.skip("there is no asyncio.Runner")
        program.write_text(case.program.replace("LINE", line.line))
        command = [sys.executable, str(program)]
    done = subprocess.run(
        command, cwd=tmp_path, env=own_environment() | {"IPYTHONDIR": str(tmp_path)},
        input=case.program if name == "ipython" else "", capture_output=True, text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [text.partition("loop ")[2].split() for text in done.stdout.splitlines()]
    found = [words for words in found if words]
    assert len(found) == case.loops, done.stdout + done.stderr
    for module, name_of_class in found:
        assert module.startswith("mioloop."), done.stdout
        assert name_of_class == line.loop
    assert "mioloop run:" not in done.stderr
