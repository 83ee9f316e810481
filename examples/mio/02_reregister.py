"""reregister replaces token, interest and options, all three.

The stream is registered as Token(0), readable; then, before any poll, registered again as
Token(2), writable. The peer even sends something, yet no event ever carries Token(0) or says
readable.

You should see "Token(2) Writable" and never "Token(0)".
"""

from __future__ import annotations

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=options.selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        poll.reregister(stream, Token(2), Ready.WRITABLE, PollOpt.EDGE)
        peer.sendall(b"nobody asked to hear of this")

        while True:
            poll.poll(events, timeout=limit.left())
            for event in events:
                print("event:", event.token, event.readiness)
            if not events.is_empty():
                break

        poll.poll(events, timeout=0.1)
        print("events in the next 100 ms:", len(events))


if __name__ == "__main__":
    main()
