"""Attention, point 4: only readable and writable exist everywhere.

A peer closes in three ways. Each is handled twice: by a handler that sees the event as it came,
and by one that sees it without error and hup, as on a system that does not report them. Both only
try to read, and both come to one result: zero bytes, or an error.

You should see, in each of the three cases, the same outcome twice.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpStream

PORTABLE = Ready.READABLE | Ready.WRITABLE


def half_close(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)


def close(peer: socket.socket) -> None:
    peer.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def read_to_end(stream: TcpStream) -> str | None:
    """How the connection ended; None if it has not."""
    try:
        while stream.read(4096):
            pass
    except BlockingIOError:
        return None
    except OSError as error:
        return type(error).__name__
    return "end of stream"


def outcome(selector: str, leave: Callable[[socket.socket], None], mask: Ready) -> str:
    """The outcome after *leave*, for a handler that sees only the bits of *mask*."""
    limit = program.TimeLimit(10.0)
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE | Ready.WRITABLE, PollOpt.EDGE)
        peer.sendall(b"last words")
        leave(peer)
        while True:
            poll.poll(events, timeout=limit.left())
            for event in events:
                seen = event.readiness & mask
                # An event without any bit left still means: try to read.
                if seen.is_readable() or seen.is_error() or seen.is_hup() or seen.is_empty():
                    end = read_to_end(stream)
                    if end is not None:
                        return end


def main() -> None:
    options = program.arguments(__doc__).parse_args()

    for leave in (half_close, close, reset):
        full = outcome(options.selector, leave, Ready.ALL)
        masked = outcome(options.selector, leave, PORTABLE)
        verdict = "same" if full == masked else "DIFFERENT"
        print(f"{leave.__name__}: all bits: {full}; portable bits: {masked}; {verdict}")


if __name__ == "__main__":
    main()
