"""An unmodified hypercorn, its asyncio worker: on the loop that runs, and chosen by the policy."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import asgi_app
from tests.frameworks.certificates import Certificates
from tests.frameworks.server_process import WAIT_S, ServedLoop, ServerProcess, server_process

hypercorn_asyncio = pytest.importorskip("hypercorn.asyncio")
hypercorn_config = pytest.importorskip("hypercorn.config")

Run = Callable[..., Any]

# The policy of a parent is not that of the workers it spawns: they import the program again.
PROGRAM = """
import sys

import mioloop

mioloop.install(backend={backend!r})

if __name__ == "__main__":
    from hypercorn.__main__ import main

    sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def hypercorn(
    served_loop: ServedLoop, *arguments: str, program: Path | None = None
) -> Iterator[tuple[ServerProcess, int]]:
    """A server, chosen by the policy, and the port that the system chose."""
    start = (
        ("-m", "mioloop", "run", *served_loop.policy_options, "-m", "hypercorn")
        if program is None
        else (str(program),)
    )
    command = (*start, "asgi_app:app", "--bind", "127.0.0.1:0", "--workers", "0", *arguments)
    with server_process(served_loop, *command) as server:
        yield server, int(server.wait_for_line(r"Running on https?://127\.0\.0\.1:(\d+)")[1])


def connect(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S))


def which_loop(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def test_requests_are_answered_on_the_loop_of_the_policy(served_loop: ServedLoop) -> None:
    with hypercorn(served_loop) as (server, port):
        with connect(port) as client:
            assert served_loop.runs(which_loop(client))
            body = bytes(range(256)) * 4096         # 1 MiB
            client.request("POST", "/echo", body)
            assert client.getresponse().read() == body
            for _ in range(3):
                client.request("GET", "/stream")
                assert client.getresponse().read() == b"".join(b"%9d\n" % n for n in range(1000))
        text = "\n".join(server.stop())
    assert text.index("app: startup") < text.index("app: shutdown")
    assert "Traceback" not in text
    assert server.process.returncode == 0


def test_request_in_progress_is_finished_after_sigterm(served_loop: ServedLoop) -> None:
    with hypercorn(served_loop, "--graceful-timeout", "20") as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(
                b"POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                b"Content-Length: 8\r\n\r\nhalf"
            )
            answer = b""
            while b"half" not in answer:
                answer += client.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            client.sendall(b"rest")
            answer += b"".join(iter(lambda: client.recv(4096), b""))
        assert "Traceback" not in "\n".join(server.ended())
    assert b"rest" in answer


def test_workers_that_are_processes_have_the_policy_of_the_program(
    served_loop: ServedLoop, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    backend = "mio" if served_loop.name == "mioloop" else served_loop.name
    program.write_text(PROGRAM.format(backend=backend))
    with hypercorn(served_loop, "--workers", "2", program=program) as (server, port):
        for _ in range(10):
            with connect(port) as client:
                assert served_loop.runs(which_loop(client))


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[str]:
    """The address at which asgi_app is served, on the loop that runs."""
    config = hypercorn_config.Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 5
    for name, value in settings.items():
        setattr(config, name, value)
    running: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Log:
        """Hypercorn says in its log where it listens."""

        def __init__(self, config: Any) -> None:
            pass

        async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
            if match := re.search(r"https?://127\.0\.0\.1:\d+", message):
                running.set_result(match[0])

        async def ignore(self, *args: Any, **kwargs: Any) -> None:
            pass

        access = debug = ignore

    config.logger_class = Log
    end = asyncio.Event()
    task = asyncio.ensure_future(
        hypercorn_asyncio.serve(asgi_app.app, config, shutdown_trigger=end.wait)
    )
    try:
        await asyncio.wait([task, running], return_when=asyncio.FIRST_COMPLETED)
        yield await running if running.done() else await task
    finally:
        end.set()
        await task


async def test_http2_streams_of_one_tls_connection_do_not_mix(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    """Twenty requests at once over one HTTP/2 connection, which ALPN chose."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("h2")
    pem = certificates.server_pem
    async with (
        serving(certfile=pem, keyfile=pem) as url,
        httpx.AsyncClient(http2=True, verify=certificates.client, timeout=WAIT_S) as client,
    ):
        async def echo(number: int) -> None:
            body = b"%05d" % number * 5000
            answer = await client.post(f"{url}/echo", content=body)
            assert answer.http_version == "HTTP/2"
            assert answer.content == body

        await asyncio.gather(*map(echo, range(20)))


async def test_websocket_messages_come_back(loop: asyncio.AbstractEventLoop) -> None:
    client_module = pytest.importorskip("websockets.asyncio.client")
    async with serving() as url:
        address = url.replace("http", "ws") + "/ws"
        async with client_module.connect(address) as websocket:
            for message in ("text", b"\x00\xff", "x" * 70_000, b"y" * 500_000):
                await websocket.send(message)
                assert await websocket.recv() == message
