"""An unmodified uvicorn, started by its own command line, serves an ASGI application."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

WAIT_S = 20.0
LOOPS = {"asyncio": "asyncio", "uvloop": "uvloop", "mioloop": "mioloop:new_event_loop"}
MODULES = {"asyncio": "asyncio.", "uvloop": "uvloop.", "mioloop": "mioloop."}


class Uvicorn:
    """A uvicorn process and the lines that it logs."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "asgi_app:app"),
                *("--app-dir", str(Path(__file__).parent), "--no-use-colors", *arguments),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,     # so that its workers can be ended with it
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        while (line := self._lines.get(timeout=WAIT_S)) is not None:
            self.log.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"uvicorn ended without logging {pattern!r}: {self.log}")

    def stop(self) -> list[str]:
        """End it by SIGTERM; all it has logged."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)
        while (line := self._lines.get(timeout=WAIT_S)) is not None:
            self.log.append(line)
        return self.log


@contextmanager
def uvicorn(*arguments: str) -> Iterator[Uvicorn]:
    server = Uvicorn(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait(WAIT_S)


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "uvloop":
        pytest.importorskip("uvloop")
    return name


@pytest.fixture(params=["h11", "httptools"])
def http_parser(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@contextmanager
def uvicorn_on_tcp(loop_name: str, *arguments: str) -> Iterator[tuple[Uvicorn, int]]:
    """A server and the port it chose."""
    with uvicorn("--loop", LOOPS[loop_name], "--port", "0", *arguments) as server:
        yield server, int(server.wait_for_line(r"running on https?://127\.0\.0\.1:(\d+)")[1])


def connect(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S))


def loop_class(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    return str(json.loads(connection.getresponse().read())["loop"])


def test_requests_are_answered_on_one_keep_alive_connection(
    loop_name: str, http_parser: str
) -> None:
    with uvicorn_on_tcp(loop_name, "--http", http_parser) as (_, port), connect(port) as client:
        assert loop_class(client).startswith(MODULES[loop_name])
        own_port = client.sock.getsockname()[1]

        body = bytes(range(256)) * 4096         # 1 MiB
        client.request("POST", "/echo", body)
        assert client.getresponse().read() == body

        for _ in range(50):
            client.request("GET", "/stream")
            assert client.getresponse().read() == b"".join(b"%9d\n" % n for n in range(1000))
        assert client.sock.getsockname()[1] == own_port


def test_sigterm_ends_the_lifespan_and_the_process(loop_name: str, http_parser: str) -> None:
    with uvicorn_on_tcp(loop_name, "--http", http_parser) as (server, port):
        with connect(port) as client:
            loop_class(client)
        log = server.stop()

    text = "\n".join(log)
    assert text.index("app: startup") < text.index("app: shutdown")
    assert re.search(r"Finished server process", log[-1])
    assert "Traceback" not in text
    # uvicorn raises the signal once more when it is done, so that its parent sees the cause.
    assert server.process.returncode in (0, -signal.SIGTERM)


def test_application_hears_of_a_client_that_left(loop_name: str, http_parser: str) -> None:
    with uvicorn_on_tcp(loop_name, "--http", http_parser) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf")
            assert client.recv(1)
        server.wait_for_line("app: disconnect")
        with connect(port) as other:
            assert loop_class(other).startswith(MODULES[loop_name])


def test_pipelined_requests_are_answered_in_order(loop_name: str, http_parser: str) -> None:
    count = 20
    request = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n%03d"
    last = b"POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend"
    with (
        uvicorn_on_tcp(loop_name, "--http", http_parser) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client,
    ):
        client.sendall(b"".join(request % number for number in range(count)) + last)
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    bodies = re.findall(rb"\r\n3\r\n(...)\r\n0\r\n", answer)
    assert bodies == [*(b"%03d" % number for number in range(count)), b"end"]


def test_websocket_messages_come_back(loop_name: str) -> None:
    client_module = pytest.importorskip("websockets.sync.client")
    with (
        uvicorn_on_tcp(loop_name) as (_, port),
        client_module.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=WAIT_S) as websocket,
    ):
        for message in ("", "text", b"\x00\xff", "x" * 70_000, b"y" * 500_000):
            websocket.send(message)
            assert websocket.recv(timeout=WAIT_S) == message


def test_https_is_served(loop_name: str, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)

    arguments = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(certificate))
    with uvicorn_on_tcp(loop_name, *arguments) as (server, port):
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=WAIT_S, context=tls)
        with closing(client):
            body = b"z" * 300_000
            client.request("POST", "/echo", body)
            assert client.getresponse().read() == body
        assert "Traceback" not in "\n".join(server.stop())


def test_unix_socket_is_served(loop_name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with uvicorn("--loop", LOOPS[loop_name], "--uds", path) as server:
        server.wait_for_line("running on unix socket")
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(path)
            client = http.client.HTTPConnection("localhost")
            client.sock = sock
            assert loop_class(client).startswith(MODULES[loop_name])


def test_two_worker_processes_share_one_listener(loop_name: str) -> None:
    with uvicorn_on_tcp(loop_name, "--workers", "2") as (server, port):
        for _ in range(2):
            server.wait_for_line("Application startup complete")
        for _ in range(20):
            with connect(port) as client:
                assert loop_class(client).startswith(MODULES[loop_name])
        assert "Traceback" not in "\n".join(server.stop())
