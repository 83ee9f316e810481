"""A queue with an Evented receiving end: the promises that mio's channel module was tested for.

The channel itself is deprecated in mio 0.6; this one shows that Registration and
SetReadiness are enough to build it.
"""

from __future__ import annotations

import threading
from collections import deque

import pytest

from mioloop.mio import Event, Evented, Events, PollOpt, Ready, Registration, net

READ = Ready.READABLE
EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


class Disconnected(Exception):
    """All senders are gone and nothing is left."""


class Receiver(Evented):
    def __init__(self, queue: deque) -> None:
        self.queue = queue
        self.pending = 0            # items, and one for the last sender's going
        self.senders = 1
        self.lock = threading.Lock()
        self.registration, self.set_readiness = Registration.new2()

    def register(self, poll, token, interest, opts):
        poll.register(self.registration, token, interest, opts)

    def reregister(self, poll, token, interest, opts):
        poll.reregister(self.registration, token, interest, opts)

    def deregister(self, poll):
        poll.deregister(self.registration)

    def close(self):
        self.registration.close()

    def count_up(self):
        with self.lock:
            self.pending += 1
            if self.pending == 1:
                self.set_readiness.set_readiness(READ)

    def recv(self):
        """An item; None if there is none now."""
        with self.lock:
            if self.pending == 1 and (self.queue or not self.senders):
                # Cleared first: an item that comes after it sets it again.
                self.set_readiness.set_readiness(Ready.EMPTY)
            if self.queue:
                self.pending -= 1
                return self.queue.popleft()
            if not self.senders:
                raise Disconnected
            return None


class Sender:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, item) -> None:
        self.receiver.queue.append(item)
        self.receiver.count_up()

    def close(self) -> None:
        self.receiver.senders -= 1
        self.receiver.count_up()


@pytest.fixture
def channel():
    receiver = Receiver(deque())
    return Sender(receiver), receiver


def test_poll_channel_edge(poll, expect, channel):
    sender, receiver = channel
    poll.register(receiver, 123, READ, EDGE)
    assert expect.now() == []
    sender.send("hello")
    assert expect.now() == [Event(READ, 123)]
    assert expect.now() == []
    assert receiver.recv() == "hello"
    assert receiver.recv() is None
    assert expect.now() == []
    sender.send("goodbye")
    assert expect.now() == [Event(READ, 123)]
    assert receiver.recv() == "goodbye"
    sender.close()
    assert expect.now() == [Event(READ, 123)]
    with pytest.raises(Disconnected):
        receiver.recv()


def test_poll_channel_oneshot(poll, expect, channel):
    sender, receiver = channel
    poll.register(receiver, 123, READ, EDGE | ONESHOT)
    assert expect.now() == []
    sender.send("1")
    assert expect.now() == [Event(READ, 123)]
    assert expect.now() == []
    sender.send("2")
    assert expect.now() == []
    assert receiver.recv() == "1"
    sender.send("3")
    assert expect.now() == []
    for _ in range(3):
        poll.reregister(receiver, 123, READ, EDGE | ONESHOT)
        assert expect.now() == [Event(READ, 123)]
        assert expect.now() == []
    assert receiver.recv() == "2"
    assert receiver.recv() == "3"
    poll.reregister(receiver, 123, READ, EDGE | ONESHOT)
    assert expect.now() == []


def test_poll_channel_level(poll, expect, channel):
    sender, receiver = channel
    poll.register(receiver, 123, READ, LEVEL)
    assert expect.now() == []
    sender.send("hello")
    for _ in range(5):
        assert expect.now() == [Event(READ, 123)]
    assert receiver.recv() == "hello"
    assert expect.now() == []


def test_poll_channel_writable(poll, expect, channel):
    sender, receiver = channel
    poll.register(receiver, 123, Ready.WRITABLE, EDGE)
    assert expect.now() == []
    sender.send("hello")
    assert expect.now() == []


def test_items_sent_before_register_are_reported(poll, expect, channel):
    sender, receiver = channel
    sender.send("early")
    poll.register(receiver, 1, READ, EDGE)
    assert expect.now() == [Event(READ, 1)]


def test_dropping_receive_before_poll(poll, expect, channel):
    sender, receiver = channel
    poll.register(receiver, 123, READ, EDGE)
    sender.send("hello")
    receiver.close()
    assert expect.now() == []
    sender.send("unheard")


def test_mixing_channel_with_socket(poll, events: Events, channel, listener):
    sender, receiver = channel
    poll.register(listener, 0, READ, LEVEL)
    poll.register(receiver, 1, READ, LEVEL)
    sender.send("hello")
    with net.TcpStream.connect(listener.local_addr()):
        seen = set()
        for _ in range(1000):
            poll.poll(events, 10)
            seen = {event.token for event in events}
            if seen == {0, 1}:                          # both in one poll
                break
    assert seen == {0, 1}


def test_sending_from_other_thread_while_polling(poll, events, spawn):
    for _ in range(20):
        receiver = Receiver(deque())
        poll.register(receiver, 1, READ, EDGE)
        threads = [spawn(Sender(receiver).send, i) for i in range(5)]
        got: list[int] = []
        while len(got) < 5:
            poll.poll(events, None)
            assert all(event.token == 1 for event in events)
            while (item := receiver.recv()) is not None:
                got.append(item)
        assert sorted(got) == [0, 1, 2, 3, 4]
        for thread in threads:
            thread.join(10)
        receiver.close()
