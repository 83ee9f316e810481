"""A load generator for the HTTP server, for machines without ab and wrk.

Many keep-alive connections on one Poll: each sends a request, waits for the whole answer,
sends the next, until all requests are done. Both directions use edge, and meet BlockingIOError
before they wait.

It prints requests/s and how many requests failed; with one failed it exits with 1.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpStream

READ_SIZE = 16 * 1024
STATUS_OK = b"HTTP/1.1 200 "
CONTENT_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r?$")


class Client:
    """One keep-alive connection: at most one request under way."""

    def __init__(self, stream: TcpStream, request: bytes) -> None:
        self.stream = stream
        self.waiting = False            # an answer, or the rest of it, has not come yet
        self.answers = 0                # the number of whole answers
        self._request = request
        self._unsent = b""
        self._received = bytearray()

    def run(self, take_request: Callable[[], bool]) -> None:
        """Go on until "would block", or until there is no request left to take.

        Raises:
            OSError: the connection is lost.
            ValueError: the answer is not the one expected.
            EOFError: the server closed the connection with a request under way.
        """
        try:
            while self.waiting or take_request():
                if not self.waiting:
                    self.waiting = True
                    self._unsent = self._request
                while self._unsent:
                    self._unsent = self._unsent[self.stream.write(self._unsent) :]
                while self.waiting:
                    data = self.stream.read(READ_SIZE)
                    if not data:
                        raise EOFError("the server closed the connection")
                    self._received += data
                    self.waiting = not self._take_answer()
                self.answers += 1
        except BlockingIOError:
            return

    def _take_answer(self) -> bool:
        head, empty_line, body = bytes(self._received).partition(b"\r\n\r\n")
        if not empty_line:
            return False
        length = CONTENT_LENGTH.search(head)
        if not head.startswith(STATUS_OK) or length is None:
            raise ValueError(f"unexpected answer {head!r}")
        if len(body) > int(length[1]):
            raise ValueError(f"{len(body)} bytes of body, where {int(length[1])} were announced")
        if len(body) < int(length[1]):
            return False
        self._received.clear()
        return True


class Load:
    """A fixed number of requests over a fixed number of connections."""

    def __init__(self, poll: Poll, port: int, connections: int, requests: int) -> None:
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode("ascii")
        self._poll = poll
        self._events = Events(1024)
        self._not_begun = requests
        self._clients: dict[int, Client] = {}
        self.answered = 0
        self.failed = 0
        for number in range(connections):
            stream = TcpStream.connect(("127.0.0.1", port))
            self._clients[number] = Client(stream, request)
            poll.register(
                stream, Token(number), Ready.READABLE | Ready.WRITABLE, PollOpt.EDGE
            )

    @property
    def finished(self) -> bool:
        return not self._clients

    def turn(self, timeout: float) -> None:
        """Poll once and move every client that is ready."""
        self._poll.poll(self._events, timeout)
        for event in self._events:
            client = self._clients.get(event.token)
            if client is not None:
                self._move(event.token, client)
        if not self._clients:
            self.give_up()              # no connection is left to send the other requests

    def _move(self, token: int, client: Client) -> None:
        try:
            client.run(self._take_request)
        except (OSError, ValueError, EOFError) as error:
            print(f"connection {token}: {type(error).__name__}: {error}", file=sys.stderr)
            self.failed += 1
        else:
            if client.waiting or self._not_begun:
                return
        self._drop(token, client)

    def give_up(self) -> None:
        """Count every request that is under way or not begun as failed."""
        for token, client in list(self._clients.items()):
            self.failed += client.waiting
            self._drop(token, client)
        self.failed += self._not_begun
        self._not_begun = 0

    def _drop(self, token: int, client: Client) -> None:
        self.answered += client.answers
        del self._clients[token]
        client.stream.close()

    def _take_request(self) -> bool:
        if self._not_begun == 0:
            return False
        self._not_begun -= 1
        return True


def main() -> int:
    parser = program.arguments(__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="give up after this time")
    options = parser.parse_args()
    limit = program.TimeLimit(options.seconds)

    with Poll(selector=options.selector) as poll:
        load = Load(poll, options.port, options.connections, options.requests)
        start = time.monotonic()
        try:
            while not load.finished:
                load.turn(limit.left())
        except TimeoutError as error:
            print(error, file=sys.stderr)
            load.give_up()
        elapsed_s = time.monotonic() - start
    print(f"{load.answered} requests on {options.connections} connections in {elapsed_s:.2f} s")
    print(f"{load.answered / elapsed_s:.0f} requests/s, {load.failed} failed")
    return 1 if load.failed else 0


if __name__ == "__main__":
    sys.exit(main())
