"""An event source made by the program: a deadline that can be polled.

Anything with register, reregister and deregister can be given to a Poll. `Deadline` passes all
three on to a Registration inside it, and a thread that sleeps until the time has come sets it
readable. To the program it looks like any other handle: it can get another token, and it can
be taken back.

You should see no event before the deadline, then one with the new token, and none from the
deadline that was deregistered.
"""

from __future__ import annotations

import threading
import time

import program

from mioloop.mio import Evented, Events, Interest, Poll, PollOpt, Ready, Registration, Token


class Deadline(Evented):
    """Becomes readable once *delay_s* seconds have passed."""

    def __init__(self, delay_s: float) -> None:
        self._when = time.monotonic() + delay_s
        self._registration, set_readiness = Registration.new2()

        def sleep_then_tell() -> None:
            time.sleep(delay_s)
            set_readiness.set_readiness(Ready.READABLE)

        threading.Thread(target=sleep_then_tell, daemon=True).start()

    def is_elapsed(self) -> bool:
        return time.monotonic() >= self._when

    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        self._registration.register(poll, token, interest, opts)

    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        # Equivalent to self._registration.reregister(poll, ...), the spelling used in register().
        poll.reregister(self._registration, token, interest, opts)

    def deregister(self, poll: Poll) -> None:
        self._registration.deregister(poll)


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(8)

    with Poll(selector=options.selector) as poll:
        start = time.monotonic()
        deadline = Deadline(0.5)
        cancelled = Deadline(0.1)
        poll.register(deadline, Token(0), Ready.READABLE, PollOpt.EDGE)
        poll.register(cancelled, Token(1), Ready.READABLE, PollOpt.EDGE)
        poll.reregister(deadline, Token(7), Ready.READABLE, PollOpt.EDGE)
        poll.deregister(cancelled)

        poll.poll(events, timeout=0.05)
        print(f"early: {len(events)} events, is_elapsed() is {deadline.is_elapsed()}")

        while events.is_empty():
            poll.poll(events, timeout=limit.left())
        for event in events:
            elapsed_s = time.monotonic() - start
            print(f"{event.token} {event.readiness} after {elapsed_s:.3f} s,", end=" ")
            print(f"is_elapsed() is {deadline.is_elapsed()}")

        poll.poll(events, timeout=0.05)
        print(f"from the cancelled one: {len(events)} events,", end=" ")
        print(f"is_elapsed() is {cancelled.is_elapsed()}")


if __name__ == "__main__":
    main()
