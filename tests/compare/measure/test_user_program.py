"""The user's program on each loop: ``--app`` and ``-- COMMAND``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compare.conftest import Compare

pytest.importorskip("aiohttp")

PROGRAM = """\
import asyncio
import sys
from aiohttp import web


async def hello(request):
    return web.Response(text="hello")


def make():
    app = web.Application()
    app.router.add_get("/hello", hello)
    return app


app = make()


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")


async def serve(host, port):
    return await asyncio.start_server(answer, host, port)


number = 3

if __name__ == "__main__":
    if "--own-loop" in sys.argv:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(web._run_app(make(), host="127.0.0.1", port=int(sys.argv[1])))
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


@pytest.fixture
def program(compare: Compare) -> Compare:
    (compare.directory / "program.py").write_text(PROGRAM)
    return compare


COMMAND = ("--", sys.executable, "program.py", "{port}")


@pytest.mark.parametrize("name", ["app", "make", "asgi", "serve"])
def test_app_is_measured_on_each_loop(program: Compare, name: str) -> None:
    if name == "asgi":
        pytest.importorskip("uvicorn")
    loops = () if name == "app" else ("--loops", "mioloop")
    done = program.small(
        *loops, "--connections", "2", "--path", "/hello", "--app", f"program:{name}"
    )

    assert done.returncode == 0, done.stdout
    assert len(program.lines) == (3 if name == "app" else 1)
    assert all(line["rate"] > 0 for line in program.lines.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [("number", "is 3, and not an aiohttp.web.Application"), ("no", "has no attribute")],
)
def test_object_that_is_no_app_fails(program: Compare, name: str, message: str) -> None:
    assert message in failure_of(program, "--app", f"program:{name}")


def test_command_is_measured_on_each_loop_by_its_environment(program: Compare) -> None:
    done = program.small("--connections", "2", "--path", "/hello", *COMMAND)

    assert done.returncode == 0, done.stdout
    assert [loop for _, loop in program.lines] == ["uvloop", "asyncio", "mioloop"]
    assert all(line["rate"] > 0 for line in program.lines.values())


def failure_of(program: Compare, *arguments: str) -> str:
    done = program.small("--loops", "mioloop", "--connections", "2", *arguments)
    assert done.returncode == 1, done.stdout
    failed: str = program.lines["program", "mioloop"]["failed"]
    return failed


def test_wrong_answer_of_a_command_fails(program: Compare) -> None:
    assert "answered with status 404" in failure_of(program, "--path", "/no", *COMMAND)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
def test_command_that_makes_its_own_loop_fails(program: Compare) -> None:
    failed = failure_of(program, "--path", "/hello", *COMMAND, "--own-loop")

    assert "it makes its loop without the policy" in failed


def test_command_that_ends_fails_with_its_error_message(program: Compare) -> None:
    failed = failure_of(program, "--", sys.executable, "-c", "raise SystemExit('{port}: no more')")

    assert failed.endswith(": no more")
