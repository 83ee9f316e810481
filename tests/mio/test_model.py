"""A Poll behaves like a simple model of mio 0.6, in any order of the steps.

The model is independent of the selector. Its prediction for a level or oneshot source is exact.
For an edge source it gives two bounds: readiness that began since the source last would have
blocked must be reported, and a source without any change must not be reported. Between these
bounds epoll may report readiness again. The portable selector is held to the stricter bound.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from mioloop.mio import Events, Poll, PollOpt, Ready, Registration, SetReadiness, selectors, unix

READ, WRITE, HUP = Ready.READABLE, Ready.WRITABLE, Ready.HUP
PAIRS, NODES = 2, 2

interests = st.sampled_from([Ready.EMPTY, READ, WRITE, READ | WRITE])
readiness = st.sampled_from([Ready.EMPTY, READ, WRITE, READ | WRITE, Ready.ERROR])
pair_numbers = st.integers(0, PAIRS - 1)
node_numbers = st.integers(0, NODES - 1)


@dataclass
class Source:
    """The registration that was asked for; *token* is None while there is none."""

    token: int | None = None
    interest: Ready = Ready.EMPTY
    armed: bool = True              # not spent by oneshot


@dataclass
class Stream(Source):
    """The left end of a socket pair is registered, the right end is its peer."""

    left: unix.UnixStream = field(default_factory=unix.UnixStream)
    right: unix.UnixStream = field(default_factory=unix.UnixStream)
    unread: int = 0                 # bytes on their way to the left end
    full: bool = False              # the left end's writes would block
    ended: bool = False             # the peer writes no more
    gone: bool = False              # the peer is closed
    reported: Ready = Ready.EMPTY   # since the left end last would have blocked there
    touched: bool = False           # anything happened since the last event

    @property
    def condition(self) -> Ready:
        """The readiness of the left end."""
        ready = Ready.EMPTY
        if self.unread or self.ended or self.gone:
            ready |= READ
        if not self.full:
            ready |= WRITE
        if self.gone:
            ready |= HUP
        return ready

    @property
    def effective(self) -> Ready:
        return self.condition & (self.interest | HUP)


@dataclass
class Node(Source):
    registration: Registration | None = None
    setter: SetReadiness | None = None
    readiness: Ready = Ready.EMPTY
    closed: bool = False

    @property
    def effective(self) -> Ready:
        return self.readiness & self.interest


class PollMachine(RuleBasedStateMachine):
    selector = ""
    opts = PollOpt.EMPTY

    def __init__(self) -> None:
        super().__init__()
        self.poll = Poll(self.selector)
        self.events = Events(64)
        self.tokens = 0
        self.streams = [self.new_stream() for _ in range(PAIRS)]
        self.nodes = [self.new_node() for _ in range(NODES)]
        self.queue: list[Node] = []

    def teardown(self) -> None:
        for stream in self.streams:
            stream.left.close()
            stream.right.close()
        self.poll.close()

    @property
    def oneshot(self) -> bool:
        return self.opts.is_oneshot()

    @property
    def edge(self) -> bool:
        return self.opts.is_edge()

    def new_stream(self) -> Stream:
        left, right = unix.UnixStream.pair()
        left_socket = left._open()
        left_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        return Stream(left=left, right=right)

    def new_node(self) -> Node:
        registration, setter = Registration.new2()
        return Node(registration=registration, setter=setter)

    def new_token(self) -> int:
        self.tokens += 1
        return self.tokens

    # -- registering sockets ----------------------------------------------

    @rule(n=pair_numbers, interest=interests)
    def register(self, n: int, interest: Ready) -> None:
        """Register, or reregister if it is registered; the other call fails."""
        stream, token = self.streams[n], self.new_token()
        calls = (self.poll.register, self.poll.reregister)
        if stream.token is None:
            call, other, error = *calls, FileNotFoundError
        else:
            other, call, error = *calls, FileExistsError
        with pytest.raises(error):
            other(stream.left, self.new_token(), interest, self.opts)
        call(stream.left, token, interest, self.opts)
        stream.token, stream.interest, stream.armed = token, interest, True
        stream.reported, stream.touched = Ready.EMPTY, True

    @rule(n=pair_numbers)
    def deregister(self, n: int) -> None:
        stream = self.streams[n]
        if stream.token is None:
            with pytest.raises(FileNotFoundError):
                self.poll.deregister(stream.left)
            return
        self.poll.deregister(stream.left)
        stream.token = None

    @rule(n=pair_numbers)
    def close_without_deregister(self, n: int) -> None:
        self.streams[n].left.close()
        self.streams[n].right.close()
        self.streams[n] = self.new_stream()

    # -- bytes --------------------------------------------------------------

    @rule(n=pair_numbers, count=st.integers(1, 100))
    def peer_writes(self, n: int, count: int) -> None:
        stream = self.streams[n]
        if not stream.ended and not stream.gone:
            stream.right.write_all(bytes(count))
            stream.unread += count
            stream.touched = True

    @rule(n=pair_numbers, count=st.integers(1, 150))
    def read(self, n: int, count: int) -> None:
        stream = self.streams[n]
        expected = min(count, stream.unread)
        if expected or stream.ended or stream.gone:
            assert stream.left.read(count) == bytes(expected)
            stream.unread -= expected
        else:
            self.would_block(stream, READ, lambda: stream.left.read(count))

    @rule(n=pair_numbers)
    def drain(self, n: int) -> None:
        stream = self.streams[n]
        while stream.unread:
            stream.unread -= len(stream.left.read(1000))
        if not stream.ended and not stream.gone:
            self.would_block(stream, READ, lambda: stream.left.read(1))

    @rule(n=pair_numbers)
    def fill(self, n: int) -> None:
        stream = self.streams[n]
        if stream.gone:
            with pytest.raises(BrokenPipeError):
                stream.left.write(b"x")
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                stream.left.write(bytes(8192))
        stream.full = True
        self.would_block(stream, WRITE, lambda: stream.left.write(b"x"))

    @rule(n=pair_numbers)
    def peer_drains(self, n: int) -> None:
        stream = self.streams[n]
        if not stream.gone:
            with contextlib.suppress(BlockingIOError):
                while stream.right.read(65536):
                    pass
            stream.full = False
            stream.touched = True

    def would_block(self, stream: Stream, ready: Ready, operation) -> None:
        with pytest.raises(BlockingIOError):
            operation()
        stream.reported -= ready
        stream.touched = True

    @rule(n=pair_numbers, close=st.booleans())
    def peer_leaves(self, n: int, close: bool) -> None:
        stream = self.streams[n]
        self.peer_drains(n)             # unread bytes at the peer would make it a reset
        if close:
            stream.right.close()
            stream.gone = True
        elif not stream.gone:
            stream.right.shutdown(socket.SHUT_WR)
            stream.ended = True
        stream.touched = True

    # -- user readiness -----------------------------------------------------

    @rule(n=node_numbers, ready=readiness)
    def set_readiness(self, n: int, ready: Ready) -> None:
        node = self.nodes[n]
        node.setter.set_readiness(ready)
        assert node.setter.readiness() == ready
        node.readiness = ready
        self.enqueue(node)

    @rule(n=node_numbers, interest=interests, again=st.booleans())
    def register_node(self, n: int, interest: Ready, again: bool) -> None:
        node = self.nodes[n]
        node.token, node.interest = self.new_token(), interest
        call = self.poll.reregister if again else self.poll.register
        call(node.registration, node.token, interest, self.opts)
        self.enqueue(node)

    @rule(n=node_numbers, close=st.booleans())
    def end_node(self, n: int, close: bool) -> None:
        node = self.nodes[n]
        if close:
            node.registration.close()
            node.closed = True
            self.nodes[n] = self.new_node()
        else:
            self.poll.deregister(node.registration)
            node.interest = Ready.EMPTY

    def enqueue(self, node: Node) -> None:
        if node.effective and not any(queued is node for queued in self.queue):
            self.queue.append(node)

    # -- polling ------------------------------------------------------------

    def poll_once(self) -> None:
        count = self.poll.poll(self.events, 0)
        seen = [(int(event.token), event.readiness) for event in self.events]
        assert count == len(seen)
        users = self.user_events()
        system = dict(seen[: count - len(users)])
        assert seen[count - len(users) :] == users      # in order, after the system's
        assert len(system) == count - len(users)        # one event a source
        for stream in self.streams:
            self.check_stream(stream, system.pop(stream.token, Ready.EMPTY))
        assert system == {}, "events of sources that are not registered"

    # Often: most differences show only after a poll between other steps.
    poll_1 = rule()(poll_once)
    poll_2 = rule()(poll_once)
    poll_3 = rule()(poll_once)

    @rule(n=pair_numbers)
    def serve(self, n: int) -> None:
        """An order of steps that is common in programs and rare among random steps."""
        self.peer_writes(n, 10)
        self.poll_once()
        self.drain(n)

    def user_events(self) -> list[tuple[int, Ready]]:
        queue, self.queue = self.queue, []
        expected = []
        for node in queue:
            if node.closed or not node.effective:
                continue
            expected.append((node.token, node.effective))
            if self.oneshot:
                node.interest = Ready.EMPTY
            elif not self.edge:
                self.queue.append(node)
        return expected

    def check_stream(self, stream: Stream, ready: Ready) -> None:
        wanted = stream.effective if stream.token is not None and stream.armed else Ready.EMPTY
        if self.edge and not self.oneshot and stream.token is not None:
            self.check_edge(stream, ready)
        else:
            assert ready == wanted, stream
        if ready and self.oneshot:
            stream.armed = False

    def check_edge(self, stream: Stream, ready: Ready) -> None:
        due = stream.effective - stream.reported
        assert ready.contains(due), stream
        assert stream.effective.contains(ready), stream
        if not stream.touched:
            assert ready.is_empty(), stream
        if self.selector == "epoll":
            assert ready in (Ready.EMPTY, stream.effective), stream
        elif self.selector == "poll":
            assert ready == due, stream
        stream.reported |= ready
        stream.touched = False


@pytest.mark.parametrize(
    "opts",
    [
        PollOpt.EDGE,
        PollOpt.LEVEL,
        PollOpt.EDGE | PollOpt.ONESHOT,
        PollOpt.LEVEL | PollOpt.ONESHOT,
    ],
    ids=str,
)
@pytest.mark.parametrize("selector_name", selectors())
def test_any_order_of_steps_agrees_with_the_model(selector_name: str, opts: PollOpt) -> None:
    machine = type("Machine", (PollMachine,), {"selector": selector_name, "opts": opts})
    case = machine.TestCase
    case.settings = settings(
        max_examples=150,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    case("runTest").runTest()
