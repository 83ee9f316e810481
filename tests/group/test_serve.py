"""``python -m mioloop serve``: applications of both kinds on all cores, and clear mistakes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.groups import WAIT_S

pytestmark = pytest.mark.slow

SHOP = """\
import os
from aiohttp import web

async def index(request):
    return web.Response(text="aiohttp")

def make():
    app = web.Application()
    app.add_routes([web.get("/", index)])
    return app

async def make_later():
    return make()

app = make()
price = 7

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})

async def slow(scope, receive, send):
    if scope["type"] == "lifespan":
        return await asgi(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    await send({"type": "http.response.body", "body": b"last"})

async def no_start(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mioloop", "serve", *arguments]


def failed(directory: Path, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        command("--workers", "2", *arguments), cwd=directory, capture_output=True, text=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


@contextmanager
def served(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        command("--workers", "2", "--port", "0", *arguments), cwd=directory,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(
            r"mioloop: serving on http://127\.0\.0\.1:(\d+) \(2 workers, kind \w+\)\n", line
        )
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def get(port: int) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as client:
        client.request("GET", "/")
        return client.getresponse().read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "answer"),
    [("app", "aiohttp"), ("make", "aiohttp"), ("make_later", "aiohttp"), ("asgi", "asgi")],
)
def test_an_application_is_served_until_a_signal(
    directory: Path, kind: str, name: str, answer: str, number: signal.Signals
) -> None:
    if (name, kind) == ("app", "thread"):
        pytest.skip("one Application cannot have several loops: see below")
    with served(directory, f"shop:{name}", "--kind", kind) as (process, port):
        for _ in range(10):
            assert get(port) == answer
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    # The slower worker may not have begun when the signal came.
    assert out.count("shutdown") in ((1, 2) if name == "asgi" else (0,))
    assert "Traceback" not in err and "accepted, most to least:" in err


def test_a_request_under_way_is_answered_after_a_signal(directory: Path, kind: str) -> None:
    with served(directory, "shop:slow", "--kind", kind, "--grace", "60") as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
            answer = b""
            while b"first" not in answer:
                answer += sock.recv(4096)
            process.send_signal(signal.SIGTERM)
            sock.sendall(b"lf")
            while data := sock.recv(4096):
                answer += data
        assert b"last" in answer
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["make", "asgi"])
def test_a_signal_to_all_processes_is_one_orderly_stop(
    directory: Path, name: str, number: signal.Signals
) -> None:
    """Ctrl-C at a terminal, and systemd, signal parent and workers."""
    with served(directory, f"shop:{name}", "--kind", "process") as (process, port):
        for _ in range(10):
            get(port)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err and "accepted, most to least:" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["shpo:app"], 1, "there is no module 'shpo'"),
        (["shop.cart:app"], 1, "there is no module 'shop.cart'"),
        (["shop:ap"], 1, "module 'shop' has no 'ap'; did you mean app?"),
        (["shop:price"], 1, "shop:price is of type int, and not an aiohttp.web.Application, "),
        (["shop:app", "--kind", "thread"], 1, "only one loop can run it: name a function"),
        (["shop"], 2, "'shop' is not MODULE:NAME, such as shop:app"),
        (["shop:app", "--workers", "0"], 2, "'0' is no number of workers, 1 or more"),
        (["shop:app", "--port", "65536"], 2, "'65536' is no port, 0 to 65535"),
        (["shop:app", "--grace", "-1"], 2, "'-1' is no number of seconds, 0 or more"),
        (["shop:app", "--kind", "proces"], 2, "no kind 'proces'; did you mean process?"),
        (["shop:app", "--worker", "2"], 2, "no option '--worker'; did you mean --workers?"),
        ([], 2, "MODULE:NAME"),
    ],
)
def test_a_mistake_is_one_clear_line(
    directory: Path, arguments: list[str], status: int, message: str
) -> None:
    found, lines = failed(directory, *arguments)
    assert found == status
    assert lines[0].startswith("python -m mioloop serve: ") and message in lines[0], lines
    assert len(lines) == (2 if "did you mean" in message and status == 2 else 1)


def test_a_taken_port_is_one_clear_line(directory: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, lines = failed(directory, "shop:make", "--port", str(port), "--kind", kind)
    assert status == 1
    assert lines == [f"python -m mioloop serve: port {port} of 127.0.0.1 is in use"]


def test_a_failing_startup_is_told(directory: Path, kind: str) -> None:
    status, lines = failed(directory, "shop:no_start", "--port", "0", "--kind", kind)
    assert status == 1 and "the startup of the application has failed" in lines[-1]


def test_an_error_in_the_module_has_its_traceback(directory: Path) -> None:
    status, lines = failed(directory, "broken:app")
    assert status == 1 and "ModuleNotFoundError: No module named 'no_such_package'" in lines
    assert any("broken.py" in line for line in lines)
