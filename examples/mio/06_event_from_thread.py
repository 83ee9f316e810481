"""An event that no descriptor stands behind: another thread makes one.

A Registration is polled like a socket; its SetReadiness half may go to any thread, and says
when the Registration is ready. The poll below blocks without a socket in sight and ends when
the thread, half a second later, sets it readable.

You should see: Token(0) Readable after 0.50 s
"""

from __future__ import annotations

import threading
import time

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Registration, Token


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(8)
    registration, set_readiness = Registration.new2()

    with Poll(selector=options.selector) as poll, registration:
        poll.register(registration, Token(0), Ready.READABLE, PollOpt.EDGE)

        start = time.monotonic()
        timer = threading.Timer(0.5, set_readiness.set_readiness, args=(Ready.READABLE,))
        timer.start()
        while events.is_empty():        # a poll may end early with nothing
            poll.poll(events, timeout=limit.left())
        elapsed_s = time.monotonic() - start
        timer.join()

        for event in events:
            print(f"{event.token} {event.readiness} after {elapsed_s:.3f} s")


if __name__ == "__main__":
    main()
