"""A Poll on each selector, and the steps that every test of mioloop.mio uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mioloop.mio import Event, Events, Poll, PollOpt, Ready, Token, net, selectors, unix

# Longer than anything takes that is going to happen.
WAIT_S = 10.0


@pytest.fixture(autouse=True)
def accounts(no_leaked_descriptor: None) -> None:
    """Every test of this directory closes the descriptors that it opened."""


@pytest.fixture(params=selectors())
def selector(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def poll(selector: str) -> Iterator[Poll]:
    with Poll(selector) as poll:
        yield poll


@pytest.fixture
def other_poll(selector: str) -> Iterator[Poll]:
    with Poll(selector) as poll:
        yield poll


@pytest.fixture
def events() -> Events:
    return Events(1024)


class Expect:
    """Polls until the expected events have been reported, as a program does in its loop."""

    def __init__(self, poll: Poll) -> None:
        self.poll = poll
        self.events = Events(1024)

    def __call__(self, *expected: tuple[int, Ready]) -> list[Event]:
        """Return all events up to the last that was expected; *expected* are (token, readiness).

        Readable and writable may come in one event or in two, and more may be reported.
        """
        seen: list[Event] = []
        missing = {Token(token): ready for token, ready in expected}
        deadline_s = time.monotonic() + WAIT_S
        while any(missing.values()):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"waited {WAIT_S} s for {missing}; there came {seen}"
            self.poll.poll(self.events, left_s)
            for event in self.events:
                seen.append(event)
                if event.token in missing:
                    missing[event.token] -= event.readiness
        return seen

    def nothing(self) -> None:
        """No event is ready. The kernel gets a moment to deliver late ones."""
        deadline_s = time.monotonic() + 0.02
        while (left_s := deadline_s - time.monotonic()) > 0:
            self.poll.poll(self.events, left_s)
            assert list(self.events) == []

    def now(self) -> list[Event]:
        """Return the events that one poll reports without waiting."""
        self.poll.poll(self.events, 0)
        return list(self.events)


@pytest.fixture
def expect(poll: Poll) -> Expect:
    return Expect(poll)


@pytest.fixture
def pair() -> Iterator[tuple[unix.UnixStream, unix.UnixStream]]:
    left, right = unix.UnixStream.pair()
    with left, right:
        yield left, right


@pytest.fixture
def listener() -> Iterator[net.TcpListener]:
    with net.TcpListener.bind("127.0.0.1:0") as listener:
        yield listener


@pytest.fixture
def tcp_pair(listener: net.TcpListener) -> Iterator[tuple[net.TcpStream, net.TcpStream]]:
    """A client and the server's end of one connection, neither registered."""
    client = net.TcpStream.connect(listener.local_addr())
    with client, Poll() as waiting:
        waiting.register(listener.fileno(), 0, Ready.READABLE, PollOpt.LEVEL)
        Expect(waiting)((0, Ready.READABLE))
        server, _ = listener.accept()
        with server:
            yield client, server


@pytest.fixture
def spawn() -> Iterator[Callable[..., threading.Thread]]:
    """``spawn(function, *args)`` runs it in a thread; the test ends after it, and fails with it."""
    threads: list[threading.Thread] = []
    errors: list[BaseException] = []

    def start(function: Callable[..., object], *args: Any) -> threading.Thread:
        def run() -> None:
            try:
                function(*args)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive(), "a thread of the test did not end"
    if errors:
        raise errors[0]
