"""A token for each connection, and two loops that run until there is nothing left.

A thread opens 33 connections and closes each at once. The server gives tokens 0, 1, 2 ... to
the first 32 (the listener's own is 1024, out of their way), reads each until its end and
forgets it then; the 33rd is where it stops. Closing happens meanwhile, so how many of the 32
were already over by then differs from run to run.

Both loops, accept and read, end with BlockingIOError: that is no failure, it says "now wait
for the next event". Any other error is handled by its kind, and ends only the connection that
met it.

How many connections fit? Each is a descriptor of this process: its own limit (RLIMIT_NOFILE)
comes first, the system's total (fs.file-max) later. Both are printed.

You should see tokens 0 to 31 accepted, the number closed, and "33rd connection: stop".
"""

from __future__ import annotations

import errno
import resource
import socket
import threading
from pathlib import Path

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener, TcpStream

LISTENER = Token(1024)
MAX_CONNECTIONS = 32


class Server:
    """Accepts MAX_CONNECTIONS connections and reads them to their end."""

    def __init__(self, poll: Poll, listener: TcpListener) -> None:
        self._poll = poll
        self._listener = listener
        self._connections: dict[Token, TcpStream] = {}
        self.accepted = 0
        self.closed = 0
        self.full = False
        poll.register(listener, LISTENER, Ready.READABLE, PollOpt.EDGE)

    def accept_all(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue                # it ended while it waited; the next may be fine
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # The loop ends without BlockingIOError, so this edge will not come again
                    # by itself. A server that stays up re-arms the listener later.
                    print("out of descriptors:", error)
                    self.full = True
                    return
                raise
            if self.accepted == MAX_CONNECTIONS:
                stream.close()
                self.full = True
                return
            token = Token(self.accepted)
            self.accepted += 1
            self._connections[token] = stream
            self._poll.register(stream, token, Ready.READABLE, PollOpt.EDGE)
            print("accepted", token)

    def read_all(self, token: Token) -> None:
        stream = self._connections.get(token)
        if stream is None:
            return                      # closed earlier in this very batch of events
        try:
            while stream.read(4096):
                pass
        except BlockingIOError:
            return
        except (ConnectionResetError, BrokenPipeError, TimeoutError) as error:
            print("lost", token, type(error).__name__)
        stream.close()
        del self._connections[token]
        self.closed += 1

    def close(self) -> None:
        for stream in self._connections.values():
            stream.close()
        self._connections.clear()


def open_and_close(address: tuple[str, int], count: int) -> None:
    for _ in range(count):
        socket.create_connection(address, timeout=5.0).close()


def print_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(f"descriptors of this process (RLIMIT_NOFILE): {soft}, may be raised to {hard}")
    file_max = Path("/proc/sys/fs/file-max")
    total = file_max.read_text().strip() if file_max.exists() else "not known on this system"
    print("open files of the whole system (fs.file-max):", total)


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(64)

    with Poll(selector=options.selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        server = Server(poll, listener)
        client = threading.Thread(
            target=open_and_close, args=(listener.local_addr(), MAX_CONNECTIONS + 1)
        )
        client.start()
        while not server.full:
            poll.poll(events, timeout=limit.left())
            for event in events:
                if event.token == LISTENER:
                    server.accept_all()
                else:
                    server.read_all(event.token)
        client.join()
        server.close()

    print(f"33rd connection: stop; {server.accepted} accepted, {server.closed} closed so far")
    print_limits()


if __name__ == "__main__":
    main()
