"""One client that floods, nine that whisper: who waits for whom?

All ten are served by one loop. The flood is faster than the server can work through it, so
"read until would block" does not end while it lasts, and the nine wait for all of it. Two
remedies, each of which bounds the cost of one event:

    budget     at most so many reads an event. An edge that is not drained need not come again,
               so the token goes on a list of the still ready, and the next poll does not block
    oneshot    at most so many reads as well; then reregister, which looks at the state again
               and so raises the next event

The nine send a byte, wait for its echo, and send again. Printed are the longest wait of any of
them, and the most reads in a row for one event, which are the cause of that wait. You should see
large figures without a budget and small ones with it.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener, TcpStream

QUIET_CLIENTS = 9
FLOOD_SIZE = 48 * 1024 * 1024
READ_SIZE = 16 * 1024
READS_PER_EVENT = 4
FLOOD = 0                       # its token; the quiet clients have 1 to 9

STRATEGIES = ("until would block", "budget", "oneshot")


class Server:
    """Echoes the quiet clients, and works through the flood."""

    def __init__(self, poll: Poll, strategy: str, connections: list[TcpStream]) -> None:
        self._poll = poll
        self._budget = None if strategy == "until would block" else READS_PER_EVENT
        self._opts = PollOpt.EDGE
        if strategy == "oneshot":
            self._opts |= PollOpt.ONESHOT
        self._events = Events(64)
        self._connections = dict(enumerate(connections))
        self._still_ready: set[int] = set()
        self._digest = hashlib.sha3_512()        # slower than the flood comes in
        self.flood_received = 0
        self.most_reads_for_event = 0
        for token, stream in self._connections.items():
            poll.register(stream, Token(token), Ready.READABLE, self._opts)

    @property
    def finished(self) -> bool:
        return not self._connections

    def turn(self, timeout: float) -> None:
        self._poll.poll(self._events, 0 if self._still_ready else timeout)
        ready = {int(event.token) for event in self._events} | self._still_ready
        self._still_ready.clear()
        for token in ready:
            self._serve(token)

    def _serve(self, token: int) -> None:
        stream = self._connections[token]
        reads = 0
        try:
            while self._budget is None or reads < self._budget:
                data = stream.read(READ_SIZE)
                reads += 1
                self.most_reads_for_event = max(self.most_reads_for_event, reads)
                if not data:
                    stream.close()
                    del self._connections[token]
                    return
                if token == FLOOD:
                    self.flood_received += len(data)
                    self._digest.update(data)
                else:
                    stream.write(data)
        except BlockingIOError:
            drained = True
        else:
            drained = False

        if self._opts.is_oneshot():
            self._poll.reregister(stream, Token(token), Ready.READABLE, self._opts)
        elif not drained:
            self._still_ready.add(token)


def flood(client: socket.socket, over: threading.Event) -> None:
    try:
        with client:
            client.sendall(bytes(FLOOD_SIZE))
    finally:
        over.set()


def whisper(clients: list[socket.socket], over: threading.Event, delays_s: list[float]) -> None:
    """A byte from each, all echoes, again and again until the flood is over."""
    try:
        while not over.is_set():
            sent_at = time.monotonic()
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                if client.recv(1) != b"x":
                    raise EOFError("the server left a quiet client without its echo")
                delays_s.append(time.monotonic() - sent_at)
    finally:
        for client in clients:
            client.close()


def connect(listener: TcpListener, poll: Poll) -> tuple[TcpStream, socket.socket]:
    """A connection, both ends."""
    limit = program.TimeLimit(5.0)
    client = socket.create_connection(listener.local_addr(), timeout=30.0)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    events = Events(1)
    while True:
        try:
            return listener.accept()[0], client
        except BlockingIOError:
            poll.poll(events, timeout=limit.left())


def measure(selector: str, strategy: str) -> None:
    limit = program.TimeLimit(60.0)
    with Poll(selector=selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        listener_token = Token(1024)
        poll.register(listener, listener_token, Ready.READABLE, PollOpt.EDGE)
        pairs = [connect(listener, poll) for _ in range(1 + QUIET_CLIENTS)]
        poll.deregister(listener)

        server = Server(poll, strategy, [stream for stream, _ in pairs])
        (_, loud), *quiet = pairs
        over = threading.Event()
        delays_s: list[float] = []
        threads = [
            threading.Thread(target=flood, args=(loud, over)),
            threading.Thread(target=whisper, args=([c for _, c in quiet], over, delays_s)),
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        while not server.finished:
            server.turn(limit.left())
        elapsed_s = time.monotonic() - start
        for thread in threads:
            thread.join()

    print(
        f"{strategy}: flood of {server.flood_received} bytes in {elapsed_s:.3f} s; "
        f"{len(delays_s)} echoes, the slowest after {max(delays_s) * 1000:.1f} ms; "
        f"at most {server.most_reads_for_event} reads for one event"
    )


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    for strategy in STRATEGIES:
        measure(options.selector, strategy)


if __name__ == "__main__":
    main()
