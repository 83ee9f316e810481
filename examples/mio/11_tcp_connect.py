"""An active socket: connect returns at once, and writable means that it has been decided.

Decided, not succeeded. A refused connection becomes writable as well, so the answer is in
take_error(): None, or the error, which is handed out once. On most systems the error and hup
bits tell of a refusal too, but a system may leave them out: take them for hints.

You should see "Writable" and no error with a listener, then "Writable | Error | Hup" and
ConnectionRefusedError without one.
"""

from __future__ import annotations

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpListener, TcpStream


def connect(selector: str, address: tuple[str, int]) -> None:
    limit = program.TimeLimit(10.0)
    events = Events(8)
    try:
        stream = TcpStream.connect(address)
    except ConnectionRefusedError as refusal:   # some systems refuse at once
        print("refused at once:", type(refusal).__name__)
        return
    with Poll(selector=selector) as poll, stream:
        poll.register(stream, Token(0), Ready.WRITABLE, PollOpt.EDGE)
        while events.is_empty():
            poll.poll(events, timeout=min(0.1, limit.left()))
        for event in events:
            print("event:", event.readiness)
        error = stream.take_error()
        print("take_error():", "None" if error is None else type(error).__name__)
        if error is None:
            print("connected:", stream.peer_addr()[1] == address[1])
        else:
            print("take_error() again:", stream.take_error())


def main() -> None:
    options = program.arguments(__doc__).parse_args()

    with TcpListener.bind("127.0.0.1:0") as listener:
        address = listener.local_addr()
        print("-- somebody listens")
        connect(options.selector, address)
    print("-- nobody listens any more")
    connect(options.selector, address)


if __name__ == "__main__":
    main()
