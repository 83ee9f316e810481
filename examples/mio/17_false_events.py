"""Attention, point 3: an event can be false, and "would block" is how one finds out.

Part 1: two clones of one listener, as two workers would have, are both told of one client. The
first to accept gets it; the other gets BlockingIOError, which it ignores. Both stay in use: the
second client is accepted as well.

Part 2: an urgent byte makes the stream readable and priority, but it is not part of the stream,
so a read finds nothing.

You should see for each client one "accepted" and one BlockingIOError, then BlockingIOError for
the urgent byte, and an ordinary byte read afterwards.
"""

from __future__ import annotations

import socket

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener


def two_listeners(selector: str) -> None:
    limit = program.TimeLimit(10.0)
    events = Events(8)

    with (
        Poll(selector=selector) as poll,
        TcpListener.bind("127.0.0.1:0") as listener,
        listener.try_clone() as clone,
    ):
        workers = {Token(0): listener, Token(1): clone}
        for token, worker in workers.items():
            poll.register(worker, token, Ready.READABLE, PollOpt.EDGE)

        for number in (1, 2):
            with socket.create_connection(listener.local_addr(), timeout=5.0):
                told: set[Token] = set()
                while len(told) < 2:
                    poll.poll(events, timeout=limit.left())
                    told.update(event.token for event in events)
                for token in sorted(told):
                    try:
                        stream, _ = workers[token].accept()
                    except BlockingIOError:
                        print(f"client {number}: worker {token} got BlockingIOError, goes on")
                    else:
                        stream.close()
                        print(f"client {number}: worker {token} accepted")
                for worker in workers.values():
                    drain(worker)


def drain(listener: TcpListener) -> None:
    """Accept until "would block", so that the next client makes an edge on every selector."""
    while True:
        try:
            stream, _ = listener.accept()
        except BlockingIOError:
            return
        stream.close()


def urgent_byte(selector: str) -> None:
    limit = program.TimeLimit(10.0)
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE | Ready.PRIORITY, PollOpt.EDGE)
        peer.send(b"!", socket.MSG_OOB)
        while events.is_empty():
            poll.poll(events, timeout=limit.left())
        print("urgent byte: event", events[0].readiness)
        try:
            print("urgent byte: read", stream.read(16))
        except BlockingIOError:
            print("urgent byte: read got BlockingIOError, goes on")

        peer.send(b"x")
        data = b""
        while not data:
            poll.poll(events, timeout=limit.left())
            try:
                data = stream.read(16)
            except BlockingIOError:
                pass                    # false once more
        print("ordinary byte: read", data)


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    two_listeners(options.selector)
    if Ready.PRIORITY.is_empty():
        print("urgent byte: this system has no priority events")
    else:
        urgent_byte(options.selector)


if __name__ == "__main__":
    main()
