"""The HTTP server of examples/mio, step by step: the server and a client on one thread."""

from __future__ import annotations

import gc
import importlib.util
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mioloop import mio

DIRECTORY = Path(__file__).parents[2] / "examples" / "mio"
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture
def http_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DIRECTORY))
    path = DIRECTORY / "13_http_server.py"
    spec = importlib.util.spec_from_file_location("http_server_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Served:
    """The server on this thread, moved by turns, and a client of it."""

    def __init__(self, module: ModuleType, poll: mio.Poll, listener: mio.net.TcpListener) -> None:
        self.server = module.HttpServer(poll, listener)
        self.client = socket.create_connection(listener.local_addr(), timeout=5)

    def accept(self) -> int:
        """Let the server accept the client; its token."""
        self.turn_until(lambda: self.server.connections)
        (token,) = self.server.connections
        return token

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the server did not come to it"
            self.server.turn(0.01)

    def receive(self, size: int) -> bytes:
        """*size* bytes of answers; fewer if the server closes the connection."""
        received = bytearray()
        self.client.setblocking(False)

        def enough() -> bool:
            try:
                while len(received) < size:
                    data = self.client.recv(65536)
                    if not data:
                        return True
                    received.extend(data)
            except BlockingIOError:
                return False
            return True

        self.turn_until(enough)
        return bytes(received)


@pytest.fixture
def served(http_module: ModuleType, selector: str) -> Iterator[Served]:
    with mio.Poll(selector=selector) as poll, mio.net.TcpListener.bind("127.0.0.1:0") as listener:
        served = Served(http_module, poll, listener)
        yield served
        served.client.close()
        served.server.close()


def test_http_request_and_end_of_stream_in_one_read_are_answered(
    served: Served, http_module: ModuleType
) -> None:
    served.client.sendall(REQUEST)
    served.client.shutdown(socket.SHUT_WR)
    answer = served.receive(1 << 16)        # more than there is: up to the server's close
    assert answer == http_module.HELLO
    assert served.server.connections == {}
    assert (served.server.answered, served.server.failed) == (1, 0)


def test_http_end_of_stream_without_a_request_closes(served: Served) -> None:
    served.accept()
    served.client.sendall(b"GET / HT")
    served.client.shutdown(socket.SHUT_WR)
    served.turn_until(lambda: not served.server.connections)
    assert (served.server.answered, served.server.failed) == (0, 0)


def test_http_buffers_of_a_closed_connection_are_freed(served: Served) -> None:
    token = served.accept()
    connection = weakref.ref(served.server.connections[token])
    served.client.sendall(b"GET / HTTP/1.1\r\nX-Unfinished: " + b"x" * 1000)
    served.turn_until(lambda: connection().received)
    served.client.close()
    served.turn_until(lambda: not served.server.connections)
    gc.collect()
    assert connection() is None


def test_http_failed_read_removes_the_connection(served: Served) -> None:
    served.accept()
    served.client.sendall(b"GET / HT")
    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    served.client.close()
    served.turn_until(lambda: not served.server.connections)


def test_http_full_send_buffer_keeps_the_rest_for_later(
    served: Served, http_module: ModuleType
) -> None:
    token = served.accept()
    connection = served.server.connections[token]
    connection.stream.set_send_buffer_size(1 << 15)
    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
    count = 2000
    served.client.sendall(REQUEST * count)

    # The client does not read, so some answers leave and the rest stays, across further turns.
    total = len(http_module.HELLO) * count
    served.turn_until(lambda: 0 < len(connection.unsent) < total)
    for _ in range(3):
        served.server.turn(0)
    assert connection.unsent
    assert token in served.server.connections

    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    assert served.receive(total) == http_module.HELLO * count
    served.turn_until(lambda: served.server.answered == count)
    assert served.server.failed == 0


def test_http_answers_cut_off_by_a_reset_are_counted_as_failed(served: Served) -> None:
    token = served.accept()
    connection = served.server.connections[token]
    connection.stream.set_send_buffer_size(1 << 15)
    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
    served.client.sendall(REQUEST * 2000)
    served.turn_until(lambda: connection.unsent)
    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    served.client.close()
    served.turn_until(lambda: not served.server.connections)
    assert served.server.failed > 0


def test_http_pipelined_requests_are_all_answered(
    served: Served, http_module: ModuleType
) -> None:
    served.client.sendall(REQUEST * 3 + REQUEST[:10])
    assert served.receive(3 * len(http_module.HELLO)) == http_module.HELLO * 3
    served.client.sendall(REQUEST[10:])
    assert served.receive(len(http_module.HELLO)) == http_module.HELLO


def test_http_request_bodies_are_not_taken_for_requests(
    served: Served, http_module: ModuleType
) -> None:
    post = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(REQUEST), REQUEST)
    served.client.sendall(post + post)
    served.client.shutdown(socket.SHUT_WR)
    assert served.receive(1 << 16) == http_module.HELLO * 2


def test_http_answer_has_lines_that_end_with_cr_lf(served: Served) -> None:
    served.client.sendall(REQUEST)
    served.client.shutdown(socket.SHUT_WR)
    head, empty_line, body = served.receive(1 << 16).partition(b"\r\n\r\n")
    assert empty_line and body == b"hello\n"
    assert b"\n" not in head.replace(b"\r\n", b"")
    status, *fields = head.decode("ascii").split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert dict(field.split(": ") for field in fields) == {
        "Content-Type": "text/html",
        "Connection": "keep-alive",
        "Content-Length": "6",
    }


@pytest.mark.parametrize("bits", [mio.Ready.ERROR, mio.Ready.HUP, mio.Ready.ERROR | mio.Ready.HUP])
def test_http_event_with_only_error_or_hup_is_tried_like_any_other(
    served: Served, http_module: ModuleType, bits: mio.Ready
) -> None:
    token = served.accept()
    served.server.on_event(mio.Event(bits, token))      # false: the connection is well
    served.client.sendall(REQUEST)
    assert served.receive(len(http_module.HELLO)) == http_module.HELLO

    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    served.client.close()
    served.server.on_event(mio.Event(bits, token))
    assert served.server.connections == {}
    served.server.on_event(mio.Event(bits, token))      # late, for a token already gone


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\xb2\r\n\r\n", b"400 Bad Request"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501 Not Implemented"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"200 OK"),
    ],
)
def test_http_server_closes_after_its_last_answer(
    served: Served, request_head: bytes, status: bytes
) -> None:
    served.client.sendall(request_head)
    answer = served.receive(1 << 16)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Connection: close\r\n" in answer
    assert served.server.connections == {}
