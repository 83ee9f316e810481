"""deregister is the real cancellation.

The stream is registered and deregistered again. The peer writes, so a registered stream would
be readable at once; this one is not heard of, and the poll waits its whole second. (A spent
oneshot registration is something else: it is kept, only switched off.)

You should see: 0 events after 1.00 s
"""

from __future__ import annotations

import time

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=options.selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        poll.deregister(stream)
        peer.sendall(b"hello")

        start = time.monotonic()
        count = poll.poll(events, timeout=1.0)
        elapsed_s = time.monotonic() - start
    print(f"{count} events after {elapsed_s:.3f} s")


if __name__ == "__main__":
    main()
