"""Several threads, each with a Poll of its own.

The acceptor's Poll knows the listener and nothing else. It passes each new stream on,
unregistered, since a socket belongs to the first Poll it is registered with for life. A worker
has a Poll, a table of its connections and a queue; beside the queue stands a Registration, so
that putting something in and then saying "readable" ends the worker's poll. No stream gets
lost, because every such call counts as news, even if the readiness was set already. A None in
the queue means: finish.

Do not share one Poll among the workers instead: only one thread at a time can be inside.

Under the GIL, several workers wait and make system calls side by side, but run no Python code
side by side; so expect little, or even a loss, from more than one. A free-threaded Python, or
processes with a listener each, gain more. The figures printed are those measured, good or bad.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import threading
import time

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Registration, Token
from mioloop.mio.net import TcpListener, TcpStream

LISTENER = Token(0)
INBOX = Token(0)
WORKER_COUNTS = (1, 2, 4)
MESSAGE = b"a request of some length........"


class Worker(threading.Thread):
    """Echoes the bytes that its connections send."""

    def __init__(self, selector: str) -> None:
        super().__init__()
        self._poll = Poll(selector=selector)
        self._registration, self._inbox_ready = Registration.new2()
        self._inbox: queue.SimpleQueue[TcpStream | None] = queue.SimpleQueue()
        self._connections: dict[int, TcpStream] = {}
        self._finishing = False
        self.accepted = 0
        self.requests = 0
        self._poll.register(self._registration, INBOX, Ready.READABLE, PollOpt.EDGE)

    def put(self, stream: TcpStream | None) -> None:
        """From any thread: a stream to serve, or None to finish when all are closed."""
        self._inbox.put(stream)
        self._inbox_ready.set_readiness(Ready.READABLE)

    def run(self) -> None:
        events = Events(256)
        with self._poll, self._registration:
            while self._connections or not self._finishing:
                self._poll.poll(events)
                for event in events:
                    if event.token == INBOX:
                        self._take_streams()
                    else:
                        self._echo(event.token)

    def _take_streams(self) -> None:
        while True:
            try:
                stream = self._inbox.get_nowait()
            except queue.Empty:
                return
            if stream is None:
                self._finishing = True
                continue
            self.accepted += 1
            token = Token(self.accepted)
            self._connections[token] = stream
            self._poll.register(stream, token, Ready.READABLE, PollOpt.EDGE)

    def _echo(self, token: int) -> None:
        stream = self._connections[token]
        try:
            while True:
                data = stream.read(4096)
                if not data:
                    break
                # A client has one short request under way, so the buffer has room for it.
                stream.write_all(data)
                self.requests += 1
        except BlockingIOError:
            return
        except ConnectionError as error:
            print("lost a connection:", error, file=sys.stderr)
        stream.close()
        del self._connections[token]


def load(selector: str, port: int, connections: int, requests: int) -> None:
    """The clients, in a process of their own: *requests* each, one after the other."""
    limit = program.TimeLimit(60.0)
    events = Events(256)
    left = dict.fromkeys(range(connections), requests)
    with Poll(selector=selector) as poll:
        streams = [TcpStream.connect(("127.0.0.1", port)) for _ in range(connections)]
        connecting = set(left)
        for number, stream in enumerate(streams):
            poll.register(stream, Token(number), Ready.WRITABLE, PollOpt.EDGE)
        while left:
            poll.poll(events, timeout=limit.left())
            for event in events:
                stream = streams[event.token]
                if event.token in connecting:
                    error = stream.take_error()
                    if error is not None:
                        raise error
                    connecting.remove(event.token)
                    stream.write_all(MESSAGE)
                    poll.reregister(stream, event.token, Ready.READABLE, PollOpt.EDGE)
                else:
                    take_answers(stream, event.token, left)
        for stream in streams:
            stream.close()


def take_answers(stream: TcpStream, number: int, left: dict[int, int]) -> None:
    """Read an answer and send the next request, until "would block" or the last."""
    try:
        while number in left:
            if stream.read(4096) != MESSAGE:
                raise ValueError(f"connection {number} got an answer that is not its request")
            left[number] -= 1
            if left[number] == 0:
                del left[number]
            else:
                stream.write_all(MESSAGE)
    except BlockingIOError:
        return


def serve(selector: str, worker_count: int, connections: int, requests: int) -> None:
    """Accept *connections*, share them out in turn, and print the figures of the workers."""
    limit = program.TimeLimit(60.0)
    events = Events(64)
    workers = [Worker(selector) for _ in range(worker_count)]
    spawn = multiprocessing.get_context("spawn")

    with Poll(selector=selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        poll.register(listener, LISTENER, Ready.READABLE, PollOpt.EDGE)
        clients = spawn.Process(
            target=load, args=(selector, listener.local_addr()[1], connections, requests)
        )
        clients.start()
        for worker in workers:
            worker.start()
        try:
            start = time.monotonic()
            accepted = 0
            while accepted < connections:
                poll.poll(events, timeout=limit.left())
                while True:
                    try:
                        stream, _ = listener.accept()
                    except BlockingIOError:
                        break
                    if accepted == 0:
                        start = time.monotonic()    # the clients took a while to start
                    workers[accepted % worker_count].put(stream)
                    accepted += 1
        finally:
            for worker in workers:
                worker.put(None)
        for worker in workers:
            worker.join()
        elapsed_s = time.monotonic() - start
        clients.join()
    if clients.exitcode != 0:
        raise RuntimeError(f"the clients ended with exit code {clients.exitcode}")

    total = sum(worker.requests for worker in workers)
    print(
        f"{worker_count} worker(s): connections {[worker.accepted for worker in workers]}, "
        f"requests {[worker.requests for worker in workers]}, {total} in all, "
        f"{total / elapsed_s:.0f} requests/s"
    )


def main() -> None:
    parser = program.arguments(__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, default=200, help="on each connection")
    options = parser.parse_args()

    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"{os.cpu_count()} processors, {'without' if free_threaded else 'with'} a GIL")
    for worker_count in WORKER_COUNTS:
        serve(options.selector, worker_count, options.connections, options.requests)


if __name__ == "__main__":
    main()
