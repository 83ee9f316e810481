"""Attention, point 2: edge alone may report each chunk; oneshot reports once and keeps the rest.

Three chunks arrive, with a poll after each. Edge gives an event for each on epoll (other
selectors may wait until the stream was drained). Oneshot gives one, and then the registration
is switched off. Nothing is lost by that: the bytes wait in the socket's buffer. reregister
looks at the state as it is then, so it gives exactly one event more, for any number of chunks
that came meanwhile.

You should see 1 event with oneshot, 0 for two more chunks, 1 after reregister, 30 bytes.
"""

from __future__ import annotations

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token

CHUNK = b"0123456789"


def events_of_three_chunks(selector: str, opts: PollOpt) -> None:
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE, opts)
        counts = []
        for _ in range(3):
            peer.sendall(CHUNK)
            counts.append(poll.poll(events, timeout=0.1))
        print(f"{opts}: events after each chunk: {counts}")

        if opts.is_oneshot():
            poll.reregister(stream, Token(0), Ready.READABLE, opts)
            counts = [poll.poll(events, timeout=0.1) for _ in range(3)]
            print(f"{opts}: events of three polls after reregister: {counts}")
        print(f"{opts}: {len(stream.read(4096))} bytes were waiting")


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    events_of_three_chunks(options.selector, PollOpt.EDGE)
    events_of_three_chunks(options.selector, PollOpt.EDGE | PollOpt.ONESHOT)


if __name__ == "__main__":
    main()
