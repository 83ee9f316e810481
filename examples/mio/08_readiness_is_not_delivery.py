"""Wrong on purpose, then right: set_readiness does not promise an event in the next poll.

The tempting way sets the readiness, polls once and takes the event for granted. But mio
promises only that a later poll will report it; so the right way polls until the event was seen.
In practice that takes one poll, as the printed number shows, but a program that relies on one
poll will fail some day.

You should see: seen after 1 poll(s), which is not promised
"""

from __future__ import annotations

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Registration, Token


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    limit = program.TimeLimit(10.0)
    events = Events(8)
    registration, set_readiness = Registration.new2()

    with Poll(selector=options.selector) as poll, registration:
        poll.register(registration, Token(0), Ready.READABLE, PollOpt.EDGE)
        set_readiness.set_readiness(Ready.READABLE)

        # Wrong: poll.poll(events, timeout=...) once, then events[0].
        polls = 0
        while events.is_empty():
            poll.poll(events, timeout=limit.left())
            polls += 1
        print("event:", events[0].token, events[0].readiness)
    print(f"seen after {polls} poll(s), which is not promised")


if __name__ == "__main__":
    main()
