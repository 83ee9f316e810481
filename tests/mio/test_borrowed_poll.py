"""A Poll around a core pointer that has another owner, such as an event loop."""

from __future__ import annotations

import os

import pytest

from mioloop.mio import Events, PollOpt, Ready, Registration, WrongPollError, unix
from mioloop.mio._core import ffi, lib
from mioloop.mio.poll import Poll

READ, EDGE = Ready.READABLE, PollOpt.EDGE


class Owner:
    """Polls by the core's own functions, and lets in the tokens of a set."""

    def __init__(self, selector: str) -> None:
        out = ffi.new("mio_poll **")
        assert lib.mio_poll_new(selector.encode(), out) == 0
        self.raw = out[0]
        self.tokens = {1, 2}
        self.poll = Poll._borrow(int(ffi.cast("uintptr_t", self.raw)), self)

    def check_token(self, token: int) -> None:
        if token not in self.tokens:
            raise ValueError(f"token {int(token)} was not handed out")

    def turn(self) -> list[tuple[int, int]]:
        events = ffi.new("mio_event[8]")
        count = lib.mio_poll_poll(self.raw, events, 8, 0)
        return [(events[i].token, events[i].ready) for i in range(count)]

    def close(self) -> None:
        self.poll._forget()
        lib.mio_poll_free(self.raw)


@pytest.fixture
def owner(selector):
    owner = Owner(selector)
    yield owner
    if not owner.poll.closed:
        owner.close()


def test_handles_are_registered_under_tokens_that_were_handed_out(owner, pair):
    registration, set_readiness = Registration.new2()
    owner.poll.register(pair[0], 1, Ready.WRITABLE, EDGE)
    owner.poll.register(registration, 2, READ, EDGE)
    set_readiness.set_readiness(READ)
    assert owner.turn() == [(1, Ready.WRITABLE.as_usize()), (2, READ.as_usize())]
    owner.poll.deregister(pair[0])
    owner.poll.deregister(registration)
    assert owner.turn() == []


def test_other_tokens_are_refused_in_every_way(owner, pair):
    registration, _ = Registration.new2()
    owner.poll.register(pair[0], 1, READ, EDGE)
    owner.poll.register(registration, 2, READ, EDGE)
    for call in (
        lambda: owner.poll.register(pair[1], 3, READ, EDGE),
        lambda: owner.poll.register(pair[1].fileno(), 3, READ, EDGE),
        lambda: owner.poll.reregister(pair[0], 3, READ, EDGE),
        lambda: owner.poll.reregister(registration, 3, READ, EDGE),
        lambda: pair[1].register(owner.poll, 3, READ, EDGE),
        lambda: registration.register(owner.poll, 3, READ, EDGE),
        lambda: unix.EventedFd(pair[1].fileno()).register(owner.poll, 3, READ, EDGE),
    ):
        with pytest.raises(ValueError, match="token 3 was not handed out"):
            call()


def test_only_the_owner_polls_and_closes(owner):
    events = Events(8)
    for call in (
        lambda: owner.poll.poll(events, 0),
        lambda: owner.poll.poll_interruptible(events),
    ):
        with pytest.raises(RuntimeError, match=r"driven by its event loop; use loop\.watch\(\)"):
            call()
    with pytest.raises(RuntimeError, match="close the loop"):
        owner.poll.close()
    assert not owner.poll.closed


def test_after_the_owner_closed_it_is_a_closed_poll(owner, pair, other_poll):
    registration, set_readiness = Registration.new2()
    owner.poll.register(pair[0], 1, READ, EDGE)
    owner.poll.register(registration, 2, READ, EDGE)
    owner.close()
    assert owner.poll.closed
    events = Events(8)
    for call in (
        lambda: owner.poll.register(pair[1], 1, READ, EDGE),
        lambda: owner.poll.reregister(pair[0], 1, READ, EDGE),
        lambda: owner.poll.deregister(pair[0]),
        lambda: owner.poll.register(registration, 2, READ, EDGE),
        lambda: owner.poll.deregister(registration),
        lambda: owner.poll.poll(events, 0),
        owner.poll.fileno,
    ):
        with pytest.raises(ValueError, match="Poll is closed"):
            call()
    owner.poll.close()
    set_readiness.set_readiness(READ)
    with pytest.raises(WrongPollError):
        other_poll.register(pair[0], 1, READ, EDGE)
    with pytest.raises(BlockingIOError):
        pair[0].read(1)


def test_dropping_it_leaves_the_owners_poll_alone(selector, pair):
    owner = Owner(selector)
    owner.poll.register(pair[0], 1, Ready.WRITABLE, EDGE)
    raw, owner.poll = owner.raw, None
    assert owner.turn() == [(1, Ready.WRITABLE.as_usize())]
    lib.mio_poll_free(raw)


def test_fileno_is_the_owners(owner, selector):
    if selector == "poll":
        pytest.skip("poll(2) has no descriptor to nest")
    assert os.fstat(owner.poll.fileno())
    assert owner.poll.selector == selector
