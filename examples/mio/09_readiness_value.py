"""readiness() is a value that the program set, not news from a Poll.

The thread that sets it reads it back at once. That says nothing about any event: this pair is
registered nowhere, so no poll ever reports it. When several threads set it, each call replaces
the value of the call before.

You should see "(empty)", then "Readable", and 0 events.
"""

from __future__ import annotations

import program

from mioloop.mio import Events, Poll, Ready, Registration


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    events = Events(8)
    registration, set_readiness = Registration.new2()

    with Poll(selector=options.selector) as poll, registration:
        print("before:", set_readiness.readiness())
        set_readiness.set_readiness(Ready.READABLE)
        print("after:", set_readiness.readiness())

        set_readiness.clone().set_readiness(Ready.WRITABLE)
        print("after another setter:", set_readiness.readiness())

        poll.poll(events, timeout=0.1)
        print("events of an unregistered pair:", len(events))


if __name__ == "__main__":
    main()
