"""Is the peer still there? Five layers of finding out.

TCP does not ask by itself: a peer with a cut cable looks like one that has nothing to say,
and keep-alive probes, where they are on, begin after two hours by default. So programs add
layers, each of which sees a case that the ones before it cannot see:

    a  the results of read and write     a peer that closed
    b  a deadline over the polls         a peer that is too slow
    c  SIGPIPE ignored                   a write to a closed peer is an error, not a killed process
    d  error and hup in the events       a reset, earlier than the next read; hints only
    e  a heartbeat                       a peer that vanished: dead after k intervals of silence

The heartbeat costs bandwidth, and more of it the sooner it is to notice. set_keepalive lets the
system send probes, after seconds rather than hours, without help from the other program.
"""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time

import program
from loopback import connected_pair

from mioloop.mio import Events, Poll, PollOpt, Ready, Token
from mioloop.mio.net import TcpStream

READ_WRITE = Ready.READABLE | Ready.WRITABLE

PING = b"?"
PONG = b"!"
PING_INTERVAL_S = 0.05
INTERVALS_OF_SILENCE = 4


def next_events(poll: Poll, events: Events) -> None:
    """Poll until there is an event."""
    limit = program.TimeLimit(10.0)
    events.clear()
    while events.is_empty():
        poll.poll(events, timeout=limit.left())


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def results_of_read_and_write(selector: str) -> None:
    events = Events(8)
    stream, peer = connected_pair()
    with Poll(selector=selector) as poll, stream:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        peer.close()
        next_events(poll, events)
        print("a: peer closed: read gives", stream.read(64))

    stream, peer = connected_pair()
    with Poll(selector=selector) as poll, stream:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        reset(peer)
        next_events(poll, events)
        try:
            stream.write(b"hello?")
        except OSError as error:
            print("a: peer reset: write raises", type(error).__name__)


def deadline(selector: str) -> None:
    """The timeout of one poll is no deadline: other events end a poll early."""
    events = Events(8)
    silent, silent_peer = connected_pair()
    busy, busy_peer = connected_pair()
    with Poll(selector=selector) as poll, silent, silent_peer, busy, busy_peer:
        poll.register(silent, Token(0), Ready.READABLE, PollOpt.EDGE)
        poll.register(busy, Token(1), Ready.READABLE, PollOpt.EDGE)
        start = time.monotonic()
        heard = polls = 0
        left_s = allowed_s = 0.2
        while left_s > 0:
            if polls < 3:
                busy_peer.sendall(b"x")
            poll.poll(events, timeout=left_s)
            polls += 1
            for event in events:
                if event.token == Token(1):
                    drain(busy)
                else:
                    heard += len(drain(silent))
            left_s = start + allowed_s - time.monotonic()
        elapsed_s = time.monotonic() - start
        print(f"b: {polls} polls, {heard} bytes of the silent peer, given up", end=" ")
        print(f"after {elapsed_s:.3f} s of {allowed_s} s")


def drain(stream: TcpStream) -> bytes:
    """Read until "would block" or the end."""
    received = bytearray()
    while True:
        try:
            data = stream.read(4096)
        except BlockingIOError:
            return bytes(received)
        if not data:
            return bytes(received)
        received += data


def broken_pipe(selector: str) -> None:
    ignored = signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    print("c: SIGPIPE is ignored:", ignored)
    events = Events(8)
    stream, peer = connected_pair()
    with Poll(selector=selector) as poll, stream:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        peer.close()
        next_events(poll, events)
        stream.read(64)
        print("c: first write after the peer closed: accepted,", stream.write(b"hello?"), "bytes")

        # The peer's system answers with a reset, which arrives like anything else.
        poll.reregister(stream, Token(0), Ready.WRITABLE, PollOpt.EDGE)
        limit = program.TimeLimit(10.0)
        while True:
            poll.poll(events, timeout=limit.left())
            try:
                stream.write(b"hello?")
            except BrokenPipeError as error:
                print("c: after the reset, write raises", type(error).__name__)
                return


def event_bits(selector: str) -> None:
    events = Events(8)

    stream, peer = connected_pair()
    with Poll(selector=selector) as poll, stream, peer:
        poll.register(stream, Token(0), Ready.READABLE, PollOpt.EDGE)
        peer.shutdown(socket.SHUT_WR)
        next_events(poll, events)
        print(f"d: peer will send no more: {events[0].readiness},", end=" ")
        print(f"is_read_closed() is {events[0].is_read_closed()}, read gives {stream.read(64)!r}")

        stream.shutdown(socket.SHUT_WR)
        poll.reregister(stream, Token(0), READ_WRITE, PollOpt.EDGE)
        next_events(poll, events)
        print("d: both sides will send no more:", events[0].readiness)

    stream, peer = connected_pair()
    with Poll(selector=selector) as poll, stream:
        poll.register(stream, Token(0), READ_WRITE, PollOpt.EDGE | PollOpt.ONESHOT)
        next_events(poll, events)
        reset(peer)
        count = poll.poll(events, timeout=0.1)
        print(f"d: reset while a oneshot is spent: {count} events")
        poll.reregister(stream, Token(0), READ_WRITE, PollOpt.EDGE | PollOpt.ONESHOT)
        next_events(poll, events)
        print("d: after reregister:", events[0].readiness)


class Heartbeat:
    """Pings a peer each PING_INTERVAL_S; silence for INTERVALS_OF_SILENCE of them is death."""

    def __init__(self, name: str, stream: TcpStream) -> None:
        self.name = name
        self.stream = stream
        self.pings = 0
        self.pongs = 0
        self.heard_at = time.monotonic()
        self._next_ping_at = self.heard_at

    def due_at(self) -> float:
        """When there is something to do next, if nothing is heard till then."""
        return min(self._next_ping_at, self._dead_at())

    def is_dead(self) -> bool:
        return time.monotonic() >= self._dead_at()

    def hear(self) -> None:
        received = drain(self.stream)
        if received:
            self.pongs += received.count(PONG)
            self.heard_at = time.monotonic()

    def ping_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_ping_at:
            self.stream.write(PING)
            self.pings += 1
            self._next_ping_at = now + PING_INTERVAL_S

    def _dead_at(self) -> float:
        return self.heard_at + INTERVALS_OF_SILENCE * PING_INTERVAL_S


def answer_pings(peer: socket.socket) -> None:
    while peer.recv(64):
        peer.sendall(PONG)


def heartbeat(selector: str) -> None:
    events = Events(8)
    limit = program.TimeLimit(10.0)
    live_stream, live_peer = connected_pair()
    silent_stream, silent_peer = connected_pair()
    answering = threading.Thread(target=answer_pings, args=(live_peer,))
    answering.start()

    with Poll(selector=selector) as poll, live_peer, silent_peer:
        with live_stream, silent_stream:
            live_stream.set_keepalive(60.0)
            print("e: keep-alive probes after", live_stream.keepalive(), "s instead of 7200 s")
            live = Heartbeat("live", live_stream)
            silent = Heartbeat("silent", silent_stream)
            beats = {Token(0): live, Token(1): silent}
            for token, beat in beats.items():
                poll.register(beat.stream, token, Ready.READABLE, PollOpt.EDGE)

            start = time.monotonic()
            while not any(beat.is_dead() for beat in beats.values()):
                for beat in beats.values():
                    beat.ping_if_due()
                due_in_s = min(beat.due_at() for beat in beats.values()) - time.monotonic()
                poll.poll(events, timeout=max(0.0, min(due_in_s, limit.left())))
                for event in events:
                    beats[event.token].hear()
            elapsed_s = time.monotonic() - start
            for beat in beats.values():
                state = "dead" if beat.is_dead() else "alive"
                print(f"e: {beat.name}: {beat.pings} pings, {beat.pongs} pongs, {state}")
            print(f"e: found out after {elapsed_s:.3f} s", end=" ")
            print(f"({INTERVALS_OF_SILENCE} intervals of {PING_INTERVAL_S} s)")
        answering.join()


def main() -> None:
    options = program.arguments(__doc__).parse_args()
    results_of_read_and_write(options.selector)
    deadline(options.selector)
    broken_pipe(options.selector)
    event_bits(options.selector)
    heartbeat(options.selector)


if __name__ == "__main__":
    main()
