"""A sender that is told "writable" and an echoer that is told "readable".

The sender sends nine bytes whenever it is writable. A UDP socket on the loopback interface
nearly always is, so what stops it? With an edge only the lack of a new edge. On epoll each
send makes one itself: the packet leaves the send buffer at once, and the space it frees is a
change, even when no socket receives. So the pair goes on for ever, though mio never promised it:
the program did not meet "would block". The poll(2) selector shows that: one round, silence.

Part 1 sends on each edge that comes. Part 2 asks for the next event by reregister, which works
everywhere. Part 3 asks once more and sends nothing: one event, then silence.

You should see up to 5 rounds in part 1, and 5 rounds in part 2. The first poll hears only the
sender: there is nothing to receive yet.
"""

from __future__ import annotations

import program

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import UdpSocket

SENDER = Token(0)
ECHOER = Token(1)
MESSAGE = bytes([9] * 9)
ROUNDS = 5


class Pair:
    """Sender and echoer on one Poll."""

    def __init__(self, poll: Poll, sender: UdpSocket, echoer: UdpSocket) -> None:
        self._poll = poll
        self._sender = sender
        self._echoer = echoer
        self._events = Events(8)
        sender.connect(echoer.local_addr())
        poll.register(sender, SENDER, Ready.WRITABLE, PollOpt.EDGE)
        poll.register(echoer, ECHOER, Ready.READABLE, PollOpt.EDGE)

    def ask_again(self) -> None:
        self._poll.reregister(self._sender, SENDER, Ready.WRITABLE, PollOpt.EDGE)

    def run(self, *, rearm: bool) -> int:
        """Send up to ROUNDS messages, receive them all; the number of rounds."""
        sent = received = 0
        quiet = False
        while received < ROUNDS and not quiet:
            quiet = self._poll.poll(self._events, timeout=0.2) == 0
            print("poll:", ", ".join(self._name(event.token) for event in self._events) or "quiet")
            for event in self._events:
                if event.token == SENDER and sent < ROUNDS:
                    count = self._sender.send(MESSAGE)
                    sent += 1
                    print(f"sent {list(MESSAGE)} -> {count} bytes")
                    if rearm:
                        self.ask_again()
                elif event.token == ECHOER:
                    received += self._receive_all()
        return received

    def count_when_idle(self) -> list[int]:
        """The numbers of events of polls during which nothing is sent."""
        return [self._poll.poll(self._events, timeout=0.05) for _ in range(3)]

    def _receive_all(self) -> int:
        received = 0
        while True:
            try:
                data, _ = self._echoer.recv_from(64)
            except BlockingIOError:
                return received
            received += 1
            print(f"echo {list(data)} -> {len(data)}")

    @staticmethod
    def _name(token: Token) -> str:
        return "sender" if token == SENDER else "echoer"


def main() -> None:
    options = program.arguments(__doc__).parse_args()

    with (
        UdpSocket.bind("127.0.0.1:0") as sender,
        UdpSocket.bind("127.0.0.1:0") as echoer,
        Poll(selector=options.selector) as poll,
    ):
        pair = Pair(poll, sender, echoer)
        print("-- part 1: on the edges that come")
        print("rounds in part 1:", pair.run(rearm=False))

        print("-- part 2: reregister after each send")
        pair.ask_again()
        print("rounds in part 2:", pair.run(rearm=True))

        print("-- part 3: the sender is idle")
        pair.ask_again()
        print("events of three polls:", pair.count_when_idle())


if __name__ == "__main__":
    main()
