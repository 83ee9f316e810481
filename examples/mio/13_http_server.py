"""An HTTP keep-alive server: a state machine that turns by reregister.

A connection is in one of two states, and its registration says which:

    reading     readable, edge               until an empty line ends a request
    answering   writable, edge + oneshot     until the whole answer has left

Writable is asked for only while an answer waits. Asked for all the time it would report, again
and again, that an idle connection could be written to. One may instead keep only the readable
interest and hand the answer to a thread, a pool or a future.

The bits of an event are never relied on: error and hup are hints, and a program that is told only
"hup" must still act. So the state decides whether to read or to write, and the result of the read
or write decides the next step.

Try it with one of

    ab -n 1000000 -c 128 -k http://127.0.0.1:8080/
    wrk -d 30s -t 4 -c 128 http://127.0.0.1:8080/
    python 13_http_load.py --port 8080 --requests 100000

It ends after --seconds or --requests, or by Ctrl-C, and prints requests/s and the number of
requests that could not be answered. Ctrl-C is an event as well, by a Registration: an exception
in the middle of the program would cut off an answer, and an event does not.
"""

from __future__ import annotations

import errno
import re
import signal
import time

import program

from mioloop.mio import Event, Events, Poll, PollOpt, Ready, Registration, Token
from mioloop.mio.net import TcpListener, TcpStream

LISTENER = Token(0)
STOP = Token(1)
FIRST_CONNECTION = Token(2)

READ_SIZE = 16 * 1024
READS_PER_EVENT = 4             # then it is another connection's turn
MAX_HEAD_SIZE = 16 * 1024

HEAD_END = re.compile(rb"\r?\n\r?\n")
CONTENT_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([^\r\n]*?)[ \t]*\r?$")
BODY_SIZE = re.compile(rb"\d{1,15}")
TRANSFER_ENCODING = re.compile(rb"(?im)^transfer-encoding:")
CONNECTION_CLOSE = re.compile(rb"(?im)^connection:[^\r\n]*\bclose\b")
CONNECTION_KEEP_ALIVE = re.compile(rb"(?im)^connection:[^\r\n]*\bkeep-alive\b")
REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.([01])\r?(?:\n|$)")


def response(status: str, body: bytes, connection: str) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\n"
        "Content-Type: text/html\r\n"
        f"Connection: {connection}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body


HELLO = response("200 OK", b"hello\n", "keep-alive")
HELLO_AND_CLOSE = response("200 OK", b"hello\n", "close")
BAD_REQUEST = response("400 Bad Request", b"bad request\n", "close")
HEAD_TOO_LARGE = response("431 Request Header Fields Too Large", b"head too large\n", "close")
NOT_IMPLEMENTED = response("501 Not Implemented", b"no transfer encodings here\n", "close")


class Connection:
    """One connection: everything kept for its token, so that it all goes together."""

    def __init__(self, stream: TcpStream) -> None:
        self.stream = stream
        self.received = bytearray()     # not yet a whole request
        self.unsent = bytearray()       # of the answers
        self.body_left = 0              # bytes of a request's body still to be skipped
        self.requests_unsent = 0        # requests that the answers in `unsent` belong to
        self.at_end = False             # the peer sends nothing more
        self.last = False               # close once the answers have left

    def read(self) -> None:
        """Read all there is, within the budget. Raises OSError if the connection is lost."""
        for _ in range(READS_PER_EVENT):
            try:
                data = self.stream.read(READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self.at_end = True
                return
            self.received += data

    def answer(self) -> None:
        """Turn each whole request in `received` into an answer in `unsent`."""
        position = 0
        while not self.last:
            skipped = min(self.body_left, len(self.received) - position)
            self.body_left -= skipped
            position += skipped
            head_end = HEAD_END.search(self.received, position)
            if head_end is None:
                if len(self.received) - position > MAX_HEAD_SIZE:
                    self._add(HEAD_TOO_LARGE, last=True)
                break
            self._answer_head(bytes(self.received[position : head_end.start()]))
            position = head_end.end()
        del self.received[:position]

    def _answer_head(self, head: bytes) -> None:
        request_line = REQUEST_LINE.match(head)
        length = CONTENT_LENGTH.search(head)
        if request_line is None or (length and not BODY_SIZE.fullmatch(length[1])):
            self._add(BAD_REQUEST, last=True)
            return
        if TRANSFER_ENCODING.search(head):
            self._add(NOT_IMPLEMENTED, last=True)
            return
        self.body_left = int(length[1]) if length else 0
        if request_line[1] == b"1":
            keep = not CONNECTION_CLOSE.search(head)
        else:
            keep = bool(CONNECTION_KEEP_ALIVE.search(head))
        self._add(HELLO if keep else HELLO_AND_CLOSE, last=not keep)

    def _add(self, answer: bytes, *, last: bool) -> None:
        self.unsent += answer
        self.requests_unsent += 1
        self.last = last

    def write(self) -> None:
        """Write until the socket is full; the rest stays. OSError if the connection is lost."""
        while self.unsent:
            try:
                written = self.stream.write(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:written]


class HttpServer:
    """Answers every request with ``hello``."""

    def __init__(self, poll: Poll, listener: TcpListener) -> None:
        self._poll = poll
        self._listener = listener
        self._events = Events(1024)
        self._stop_asked, self._ask_to_stop = Registration.new2()
        self._next_token = FIRST_CONNECTION
        self._accept_later = False
        self.stopped = False
        self.connections: dict[int, Connection] = {}
        self.answered = 0
        self.failed = 0
        poll.register(listener, LISTENER, Ready.READABLE, PollOpt.EDGE)
        poll.register(self._stop_asked, STOP, Ready.READABLE, PollOpt.EDGE)

    def stop(self) -> None:
        """Have a turn set `stopped`; from any thread, or from a signal handler."""
        self._ask_to_stop.set_readiness(Ready.READABLE)

    def turn(self, timeout: float) -> None:
        """Poll once and serve every connection that is ready."""
        if self._accept_later:
            timeout = min(timeout, 0.1)
        self._poll.poll(self._events, timeout)
        for event in self._events:
            self.on_event(event)
        if self._accept_later:
            self._accept_later = False
            self._poll.reregister(self._listener, LISTENER, Ready.READABLE, PollOpt.EDGE)

    def on_event(self, event: Event) -> None:
        if event.token == LISTENER:
            self._accept_all()
            return
        if event.token == STOP:
            self.stopped = True
            return
        connection = self.connections.get(event.token)
        if connection is None:
            return                      # closed earlier in this very batch of events
        try:
            self._step(event.token, connection)
        except OSError:
            # Reset, broken pipe, timed out: any error ends this connection. _close counts the
            # answers that did not leave.
            self._close(event.token, connection)

    def _step(self, token: int, connection: Connection) -> None:
        """Read or write, as the state of the connection asks for, then register for the next."""
        if connection.unsent:
            connection.write()
            if not connection.unsent:
                self.answered += connection.requests_unsent
                connection.requests_unsent = 0
        else:
            connection.read()
            connection.answer()

        if connection.unsent:
            self._wait_for(token, connection, Ready.WRITABLE, PollOpt.EDGE | PollOpt.ONESHOT)
        elif connection.last or connection.at_end:
            self._close(token, connection)
        else:
            # Also after a read that only used up its budget: reregister looks at the state
            # again, so unread bytes raise an event by themselves.
            self._wait_for(token, connection, Ready.READABLE, PollOpt.EDGE)

    def _wait_for(
        self, token: int, connection: Connection, interest: Ready, opts: PollOpt
    ) -> None:
        self._poll.reregister(connection.stream, token, interest, opts)

    def _accept_all(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue                # it ended while it waited; the next may be fine
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # A connection still waits, but this edge is used up: ask again later.
                    self._accept_later = True
                    return
                raise
            token = self._next_token
            self._next_token = Token(token + 1)
            stream.set_nodelay(True)
            self.connections[token] = Connection(stream)
            self._poll.register(stream, token, Ready.READABLE, PollOpt.EDGE)

    def _close(self, token: int, connection: Connection) -> None:
        self.failed += connection.requests_unsent
        del self.connections[token]
        connection.stream.close()

    def close(self) -> None:
        for token, connection in list(self.connections.items()):
            self._close(token, connection)
        self._stop_asked.close()


def main() -> None:
    parser = program.arguments(__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0: the system picks one")
    parser.add_argument("--seconds", type=float, default=60.0, help="end after this time")
    parser.add_argument("--requests", type=int, help="end after this number of answers")
    options = parser.parse_args()

    with (
        Poll(selector=options.selector) as poll,
        TcpListener.bind(("127.0.0.1", options.port)) as listener,
    ):
        server = HttpServer(poll, listener)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: server.stop())
        print(f"listening on http://127.0.0.1:{listener.local_addr()[1]}/", flush=True)

        start = time.monotonic()
        left_s = options.seconds
        while left_s > 0 and not server.stopped:
            server.turn(left_s)
            if options.requests is not None and server.answered >= options.requests:
                break
            left_s = start + options.seconds - time.monotonic()
        elapsed_s = time.monotonic() - start
        still_open = len(server.connections)
        server.close()
    print(f"{server.answered} requests in {elapsed_s:.2f} s")
    print(f"{server.answered / elapsed_s:.0f} requests/s, {server.failed} failed")
    print(f"connections still open at the end: {still_open}")


if __name__ == "__main__":
    main()
