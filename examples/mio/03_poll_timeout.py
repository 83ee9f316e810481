"""A poll with nothing registered only waits.

It returns 0 events once the timeout has passed: never earlier, and not much later. This is how
a program waits for "something, but no longer than half a second".

You should see: 0 events after 0.50 s
"""

from __future__ import annotations

import time

import program

from mioloop.mio import Events, Poll


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    events = Events(8)

    with Poll(selector=options.selector) as poll:
        start = time.monotonic()
        count = poll.poll(events, timeout=0.5)
        elapsed_s = time.monotonic() - start
    print(f"{count} events after {elapsed_s:.3f} s")


if __name__ == "__main__":
    main()
