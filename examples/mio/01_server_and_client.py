"""A server and a client on one Poll.

Two handles, two tokens, one loop. The listener becomes readable when a connection waits to be
accepted; the server accepts it and drops it at once. The client then becomes readable too,
because the end of a stream is something to read: zero bytes.

You should see:

    server accepted
    client done
"""

from __future__ import annotations

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener, TcpStream

SERVER = Token(0)
CLIENT = Token(1)


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(128)

    with (
        Poll(selector=options.selector) as poll,
        TcpListener.bind("127.0.0.1:0") as server,
        TcpStream.connect(server.local_addr()) as client,
    ):
        poll.register(server, SERVER, Ready.READABLE, PollOpt.EDGE)
        poll.register(client, CLIENT, Ready.READABLE, PollOpt.EDGE)

        connected = True
        while connected:
            poll.poll(events, timeout=limit.left())
            for event in events:
                if event.token == SERVER:
                    accept_and_drop(server)
                elif event.token == CLIENT:
                    connected = not at_end(client)
    print("client done")


def accept_and_drop(server: TcpListener) -> None:
    """Accept until no connection is left: with an edge, no event may come for the rest."""
    while True:
        try:
            accepted, _ = server.accept()
        except BlockingIOError:
            return
        accepted.close()
        print("server accepted")


def at_end(client: TcpStream) -> bool:
    """An event says "try", not "it will work": only the read itself tells the end."""
    try:
        return client.read(64) == b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    main()
