"""docs/frameworks.md: each command that starts a server serves a client on mioloop.

The application answers with the class of the loop that runs it.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.frameworks.page import LINES, Line
from tests.frameworks.server_process import WAIT_S

SAY = """\
import asyncio, json

def answer():
    kind = type(asyncio.get_running_loop())
    return {"module": kind.__module__, "name": kind.__qualname__}

"""
ASGI = SAY + """\
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer()).encode()})
"""
STARLETTE = SAY + """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def index(request):
    return JSONResponse(answer())

app = Starlette(routes=[Route("/", index)])
"""
FASTAPI = SAY + """\
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def index():
    return answer()
"""
AIOHTTP = SAY + """\
import sys
from aiohttp import web

async def index(request):
    return web.json_response(answer())

def make_app(arguments=()):
    app = web.Application()
    app.router.add_get("/", index)
    return app

app = make_app()
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""
LITESTAR = SAY + """\
from litestar import Litestar, get

@get("/")
async def index() -> dict[str, str]:
    return answer()

app = Litestar([index])
"""
SANIC = SAY + """\
from sanic import Sanic, response

app = Sanic("app")

@app.get("/")
async def index(request):
    return response.json(answer())
"""
TORNADO = SAY + """\
import sys
import tornado.web

class Index(tornado.web.RequestHandler):
    def get(self):
        self.write(answer())

async def main():
    tornado.web.Application([("/", Index)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Case:
    """The application of a line, and the arguments that choose its address."""

    app: str
    address: str
    needs: tuple[str, ...] = ()     # packages
    ends: bool = True       # by SIGINT; Sanic's manager waits on, on every loop


PORT = "--port {port}"
BIND = "--bind 127.0.0.1:{port}"
CASES = {
    "uvicorn": Case(ASGI, PORT, ("uvicorn",)),
    "uvicorn-workers": Case(ASGI, PORT, ("uvicorn",)),
    "uvicorn-reload": Case(ASGI, PORT, ("uvicorn",)),
    "uvicorn-loop": Case(ASGI, PORT, ("uvicorn",)),
    "hypercorn": Case(ASGI, BIND, ("hypercorn",)),
    "hypercorn-workers": Case(ASGI, BIND, ("hypercorn",)),
    "hypercorn-uvloop": Case(ASGI, BIND, ("hypercorn",)),
    "granian": Case(ASGI, PORT, ("granian",)),
    "daphne": Case(ASGI, PORT, ("daphne",)),
    "gunicorn-uvicorn": Case(ASGI, BIND, ("gunicorn", "uvicorn_worker")),
    "gunicorn-mioloop": Case(ASGI, BIND, ("gunicorn", "uvicorn_worker")),
    "gunicorn-aiohttp": Case(AIOHTTP, BIND, ("gunicorn", "aiohttp")),
    "starlette": Case(STARLETTE, PORT, ("starlette", "uvicorn")),
    "fastapi": Case(FASTAPI, PORT, ("fastapi", "uvicorn")),
    "aiohttp": Case(AIOHTTP, "{port}", ("aiohttp",)),
    "aiohttp-module": Case(AIOHTTP, "--port {port}", ("aiohttp",)),
    "litestar": Case(LITESTAR, PORT, ("litestar", "uvicorn")),
    "sanic": Case(SANIC, PORT, ("sanic",), ends=False),
    "tornado": Case(TORNADO, "{port}", ("tornado",)),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def skip_without(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def own_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MIOLOOP_", "PYTEST"))}


class Server:
    """The server of a line, and the text that it prints."""

    def __init__(self, line: Line, case: Case, directory: Path) -> None:
        self.port = free_port()
        (directory / "app.py").write_text(case.app)
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                line.command(*case.address.format(port=self.port).split()),
                cwd=directory, env=own_environment(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )

    def ask(self) -> dict[str, str]:
        """The answer of the application, as soon as the server listens."""
        give_up = time.monotonic() + 2 * WAIT_S
        while True:
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
            with contextlib.closing(client):
                try:
                    client.request("GET", "/")
                    answer: dict[str, str] = json.loads(client.getresponse().read())
                    return answer
                except ConnectionError:
                    assert self.process.poll() is None, self.output.read_text()
                    assert time.monotonic() < give_up, self.output.read_text()
                    time.sleep(0.02)

    def stop(self) -> str:
        """End it as a user does at the keyboard. Returns the text that it has printed."""
        os.killpg(self.process.pid, signal.SIGINT)     # also its workers
        self.process.wait(WAIT_S)
        return self.output.read_text()


@contextlib.contextmanager
def serving(line: Line, case: Case, directory: Path) -> Iterator[Server]:
    server = Server(line, case, directory)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(WAIT_S)


@pytest.mark.parametrize("name", CASES)
def test_line_serves_on_mioloop(tmp_path: Path, name: str) -> None:
    case, line = CASES[name], LINES[f"servers[{name}]"]
    skip_without(*case.needs)
    with serving(line, case, tmp_path) as server:
        answer = server.ask()
        assert answer["module"].startswith("mioloop."), server.output.read_text()
        assert answer["name"] == line.loop
        if case.ends:
            assert "mioloop run:" not in server.stop()      # it would say that mioloop never ran
