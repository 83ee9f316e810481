"""The load generator: its counts are right, and it notices every wrong answer."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mioloop.compare.load import client
from mioloop.compare.measure.servers import HTTP_REQUEST, HTTP_RESPONSE

BASELINE = """\
import json, sys
from mioloop.compare.load import client
options = json.loads(sys.argv[1])
options["response"] = options.pop("response", "").encode()
client.die_with_parent()
client.serve_baseline(lambda port: print(port, flush=True), **options)
"""


@contextlib.contextmanager
def baseline(**options: object) -> Iterator[int]:
    """A C server in another process, as in a comparison."""
    import json

    with subprocess.Popen(
        [sys.executable, "-c", BASELINE, json.dumps(options)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("connections", [1, 32])
@pytest.mark.parametrize("size", [1, 1024, 300_000])
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls", "head", "reconnect"])
def test_answers_of_every_size_come_back_whole(
    kind: str, size: int, connections: int, tmp_path: Path
) -> None:
    if kind == "head" and size > 1024:
        pytest.skip("the C server sends a head for each read, and so several for a large request")
    shared: dict = {
        "transport": "unix" if kind == "unix" else "tcp",
        "protocol": "echo",
        "address": str(tmp_path / "socket") if kind == "unix" else "127.0.0.1",
        "head_size": 64 if kind == "head" else 0,
    }
    certificate = None
    if kind == "tls":
        certificate = str(tmp_path / "pem")
        client.make_certificate(certificate)
    with (
        baseline(**shared, certificate=certificate) as port,
        client.open_load(
            **shared, port=port, size=size, connections=connections, tls=kind == "tls",
            reconnect=kind == "reconnect",
        ) as load,
    ):
        found = load.run(0.02)
        assert found["requests"] >= connections
        assert 0 < found["p50_s"] <= found["p99_s"] <= found["p999_s"] <= found["max_s"]
        assert found["max_s"] <= found["elapsed_s"]
        again = load.run(0)
        assert again["requests"] == connections     # each sends at least one request
        assert load.message == ""


def test_datagrams_come_back() -> None:
    shared = {"transport": "udp", "protocol": "echo", "address": "127.0.0.1"}
    with baseline(**shared) as port, client.open_load(
        **shared, port=port, size=1024, connections=4
    ) as load:
        assert load.run(0.02)["requests"] >= 4


def test_http_answers_are_read_to_their_end() -> None:
    shared = {"transport": "tcp", "protocol": "http", "address": "127.0.0.1"}
    with baseline(**shared, response=HTTP_RESPONSE.decode()) as port, client.open_load(
        **shared, port=port, request=HTTP_REQUEST % b"/", connections=4
    ) as load:
        assert load.run(0.02)["requests"] >= 4


def test_active_connections_take_turns() -> None:
    """Of 5 connections 2 at a time have a request in flight, and all 5 send equally often."""
    seen: list[int] = []
    at_a_time: list[int] = []

    def answer_in_pairs(listener: socket.socket) -> None:
        conns = [listener.accept()[0] for _ in range(5)]
        waiting: list[tuple[socket.socket, bytes]] = []
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for index, conn in enumerate(conns):
                selector.register(conn, selectors.EVENT_READ, index)
            while selector.get_map():
                # Wait for two requests. The last one of a run may stay alone.
                ready = selector.select(0.1 if waiting else None)
                for key, _ in ready:
                    data = key.fileobj.recv(16)
                    if not data:
                        selector.unregister(key.fileobj)
                        continue
                    waiting.append((key.fileobj, data))
                    seen.append(key.data)
                if len(waiting) > 1 or not ready:
                    at_a_time.append(len(waiting))
                    for conn, data in waiting:
                        conn.sendall(data)
                    waiting = []
        for conn in conns:
            conn.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_in_pairs, args=(listener,))
        thread.start()
        with client.open_load(
            transport="tcp", protocol="echo", address="127.0.0.1",
            port=listener.getsockname()[1], size=16, connections=5, active=2, timeout_s=10,
        ) as load:
            requests = load.run(0.05)["requests"]
        thread.join(20)
    assert not thread.is_alive()
    assert len(seen) == requests
    assert max(at_a_time) == 2
    uses = [seen.count(index) for index in range(5)]
    assert max(uses) - min(uses) <= 2


def test_interval_keeps_requests_of_a_connection_apart() -> None:
    shared = {"transport": "tcp", "protocol": "echo", "address": "127.0.0.1"}
    with baseline(**shared) as port, client.open_load(
        **shared, port=port, size=1024, connections=2, interval_s=0.05
    ) as load:
        found = load.run(0.12)

    # At 0, 50 and 100 ms. Fewer requests are possible if the machine is very slow.
    assert 2 <= found["requests"] <= 2 * 3


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"active": -1}, {"interval_s": -1.0}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OSError, match="load generator: Invalid argument"), client.open_load(
        transport="tcp", protocol="echo", address="127.0.0.1", port=1, size=1, **wrong
    ):
        pass


def test_certificate_is_private_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "pem"
    client.make_certificate(str(path))

    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        client.make_certificate(str(path))


# -- servers with a fault --------------------------------------------------------------------


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that accepts one connection and calls *answer* with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            conn, _ = listener.accept()
            with conn, contextlib.suppress(ConnectionError):
                answer(conn)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


def failure(answer: Callable[[socket.socket], None], protocol: str = "echo") -> str:
    with serving(answer) as port, client.open_load(
        transport="tcp", protocol=protocol, address="127.0.0.1", port=port, size=1024,
        request=HTTP_REQUEST % b"/" if protocol == "http" else b"", timeout_s=0.3,
    ) as load, pytest.raises(client.LoadError) as caught:
        load.run(0.5)
    return str(caught.value)


def read_all(conn: socket.socket) -> bytes:
    received = b""
    while len(received) < 1024:
        received += conn.recv(4096)
    return received


def test_wrong_echo_fails() -> None:
    def change_a_byte(conn: socket.socket) -> None:
        data = bytearray(read_all(conn))
        data[700] ^= 1
        conn.sendall(data)
        conn.recv(1)

    assert "wrong bytes in the answer" in failure(change_a_byte)


def test_echo_of_an_older_request_fails() -> None:
    def repeat(conn: socket.socket) -> None:
        first = read_all(conn)
        conn.sendall(first)
        read_all(conn)
        conn.sendall(first)
        conn.recv(1)

    assert "request 2: wrong bytes" in failure(repeat)


def test_bytes_behind_the_answer_fail() -> None:
    def too_much(conn: socket.socket) -> None:
        conn.sendall(read_all(conn) + b"x")
        conn.recv(1)

    assert "wrong bytes in the answer" in failure(too_much)


def test_missing_answer_fails_after_the_timeout() -> None:
    def keep_silent(conn: socket.socket) -> None:
        read_all(conn)
        conn.recv(1)

    assert "1 of 1 requests failed" in failure(keep_silent)
    assert "no answer in 0.3 s" in failure(keep_silent)


def test_connection_that_ends_early_fails() -> None:
    def half(conn: socket.socket) -> None:
        conn.sendall(read_all(conn)[:512])

    assert "closed by the server after 512 bytes" in failure(half)


def test_refused_connection_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(client.LoadError, match="connect: Connection refused"), client.open_load(
        transport="tcp", protocol="echo", address="127.0.0.1", port=port, size=1
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "answered with status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nlong", "more bytes than the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "no answer in 0.3 s"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not HTTP/1.1, or of unknown length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP/1.1"),
        (b"nonsense\r\n\r\n", "not HTTP/1.1"),
    ],
)
def test_wrong_http_answer_fails(answer: bytes, message: str) -> None:
    def send(conn: socket.socket) -> None:
        conn.recv(4096)
        conn.sendall(answer)
        conn.recv(1)

    assert message in failure(send, "http")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: 1\r\n\r\n",
    ],
    ids=["length", "continue", "no-content", "chunked"],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_http_answer_in_any_form_and_in_any_pieces_counts(answer: bytes, piece: int) -> None:
    def send(conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.recv(4096)
        for at in range(0, len(answer), piece):
            conn.sendall(answer[at : at + piece])
        conn.recv(1)

    with serving(send) as port, client.open_load(
        transport="tcp", protocol="http", address="127.0.0.1", port=port,
        request=HTTP_REQUEST % b"/",
    ) as load:
        assert load.run(0)["requests"] == 1
