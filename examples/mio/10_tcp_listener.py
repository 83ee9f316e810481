"""A passive socket: readable means that a connection waits to be accepted.

No client connects during the first 100 ms, so there is no event. Then one connects: there is
one event, and accept gives the connection.

You should see 0 events, then "Token(0) Readable" and "accepted".
"""

from __future__ import annotations

import socket

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(8)

    with Poll(selector=options.selector) as poll, TcpListener.bind("127.0.0.1:0") as listener:
        poll.register(listener, Token(0), Ready.READABLE, PollOpt.EDGE)

        poll.poll(events, timeout=0.1)
        print(f"alone: {len(events)} events")

        with socket.create_connection(listener.local_addr(), timeout=5.0) as client:
            while events.is_empty():
                poll.poll(events, timeout=limit.left())
            for event in events:
                print("with a client:", event.token, event.readiness)
            stream, address = listener.accept()
            with stream:
                same = address[1] == client.getsockname()[1]
                print("accepted the client" if same else f"accepted a stranger: {address}")


if __name__ == "__main__":
    main()
