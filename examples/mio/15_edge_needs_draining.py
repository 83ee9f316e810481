"""Attention, point 1: with edge, go on until "would block".

2 kB arrive and the program reads 1 kB. Level-triggered, the next poll reports the stream again,
for as long as something is left. Edge-triggered, nothing new happened, so nothing is reported,
and a program that waits for the rest waits for ever. The rest is there nevertheless: reading
until BlockingIOError gets it.

You should see 0 further events with edge, 1 with level, and 1024 bytes by draining.
"""

from __future__ import annotations

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpStream


def drain(stream: TcpStream) -> int:
    """Read until "would block"; the number of bytes."""
    total = 0
    while True:
        try:
            data = stream.read(4096)
        except BlockingIOError:
            return total
        if not data:
            return total
        total += len(data)


def read_half(selector: str, trigger: PollOpt) -> None:
    limit = program.TimeLimit(10.0)
    events = Events(8)
    stream, peer = connected_pair()

    with Poll(selector=selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE, trigger)
        peer.sendall(bytes(2048))
        while events.is_empty():
            poll.poll(events, timeout=limit.left())
        print(f"{trigger}: {len(events)} event, read {len(stream.read(1024))} of 2048 bytes")

        poll.poll(events, timeout=0.1)
        print(f"{trigger}: {len(events)} further events")
        print(f"{trigger}: {drain(stream)} bytes by draining")


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    read_half(options.selector, PollOpt.EDGE)
    read_half(options.selector, PollOpt.LEVEL)


if __name__ == "__main__":
    main()
