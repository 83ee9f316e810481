"""An unmodified uvicorn, started by its own command line, serves an ASGI application."""

from __future__ import annotations

import http.client
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.frameworks.certificates import Certificates
from tests.frameworks.server_process import WAIT_S, ServedLoop, ServerProcess, server_process


@contextmanager
def uvicorn(served_loop: ServedLoop, *arguments: str) -> Iterator[ServerProcess]:
    command = ("-m", "uvicorn", "asgi_app:app", "--no-use-colors", "--loop", served_loop.factory)
    with server_process(served_loop, *command, *arguments) as server:
        yield server


@pytest.fixture(params=["h11", "httptools"])
def http_parser(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@contextmanager
def uvicorn_on_tcp(
    served_loop: ServedLoop, *arguments: str
) -> Iterator[tuple[ServerProcess, int]]:
    """A server and the port it chose."""
    with uvicorn(served_loop, "--port", "0", *arguments) as server:
        yield server, int(server.wait_for_line(r"running on https?://127\.0\.0\.1:(\d+)")[1])


def connect(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S))


def which_loop(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def test_requests_are_answered_on_one_keep_alive_connection(
    served_loop: ServedLoop, http_parser: str
) -> None:
    with uvicorn_on_tcp(served_loop, "--http", http_parser) as (_, port), connect(port) as client:
        assert served_loop.runs(which_loop(client))
        own_port = client.sock.getsockname()[1]

        body = bytes(range(256)) * 4096         # 1 MiB
        client.request("POST", "/echo", body)
        assert client.getresponse().read() == body

        for _ in range(50):
            client.request("GET", "/stream")
            assert client.getresponse().read() == b"".join(b"%9d\n" % n for n in range(1000))
        assert client.sock.getsockname()[1] == own_port


def test_application_hears_of_a_client_that_left(served_loop: ServedLoop, http_parser: str) -> None:
    with uvicorn_on_tcp(served_loop, "--http", http_parser) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf")
            assert client.recv(1)
        server.wait_for_line("app: disconnect")
        with connect(port) as other:
            assert served_loop.runs(which_loop(other))


def test_pipelined_requests_are_answered_in_order(
    served_loop: ServedLoop, http_parser: str
) -> None:
    count = 20
    request = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n%03d"
    last = b"POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend"
    with (
        uvicorn_on_tcp(served_loop, "--http", http_parser) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client,
    ):
        client.sendall(b"".join(request % number for number in range(count)) + last)
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    bodies = re.findall(rb"\r\n3\r\n(...)\r\n0\r\n", answer)
    assert bodies == [*(b"%03d" % number for number in range(count)), b"end"]


def test_sigterm_ends_the_process_once_its_requests_are_answered(
    served_loop: ServedLoop, http_parser: str
) -> None:
    with uvicorn_on_tcp(served_loop, "--http", http_parser) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf")
            answer = b""
            while b"half" not in answer:
                answer += client.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("Waiting for connections to close|Shutting down")
            client.sendall(b"rest")
            answer += b"".join(iter(lambda: client.recv(4096), b""))
        log = server.ended()
    assert b"rest" in answer and answer.endswith(b"0\r\n\r\n")

    text = "\n".join(log)
    assert text.index("app: startup") < text.index("app: shutdown")
    assert re.search(r"Finished server process", log[-1])
    assert "Traceback" not in text
    # uvicorn raises the signal once more when it is done, so that its parent sees the cause.
    assert server.process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("implementation", ["websockets", "wsproto"])
def test_websocket_messages_come_back(served_loop: ServedLoop, implementation: str) -> None:
    pytest.importorskip(implementation)
    client_module = pytest.importorskip("websockets.sync.client")
    with (
        uvicorn_on_tcp(served_loop, "--ws", implementation) as (server, port),
        client_module.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=WAIT_S) as websocket,
    ):
        for message in ("", "text", b"\x00\xff", "x" * 70_000, b"y" * 500_000):
            websocket.send(message)
            assert websocket.recv(timeout=WAIT_S) == message
        assert websocket.ping().wait(WAIT_S)


def test_https_is_served(served_loop: ServedLoop, certificates: Certificates) -> None:
    pem = certificates.server_pem
    with uvicorn_on_tcp(served_loop, "--ssl-certfile", pem, "--ssl-keyfile", pem) as (server, port):
        client = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=WAIT_S, context=certificates.client
        )
        with closing(client):
            body = b"z" * 300_000
            client.request("POST", "/echo", body)
            assert client.getresponse().read() == body
        assert "Traceback" not in "\n".join(server.stop())


def test_unix_socket_is_served(served_loop: ServedLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with uvicorn(served_loop, "--uds", path) as server:
        server.wait_for_line("running on unix socket")
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(path)
            client = http.client.HTTPConnection("localhost")
            client.sock = sock
            assert served_loop.runs(which_loop(client))


def test_two_worker_processes_share_one_listener(served_loop: ServedLoop) -> None:
    with uvicorn_on_tcp(served_loop, "--workers", "2") as (server, port):
        for _ in range(2):
            server.wait_for_line("Application startup complete")
        for _ in range(20):
            with connect(port) as client:
                assert served_loop.runs(which_loop(client))
        assert "Traceback" not in "\n".join(server.stop())
