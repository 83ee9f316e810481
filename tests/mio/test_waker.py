"""Waker: events from other threads, under a token of one's own."""

from __future__ import annotations

import pytest

from mioloop.mio import Event, InvalidTokenError, Ready, Token, Waker


def test_wakes_merge_and_each_later_one_is_an_event(poll, expect):
    waker = Waker(poll, Token(10))
    assert expect.now() == []
    for _ in range(3):
        waker.wake()
        waker.wake()
        assert expect.now() == [Event(Ready.READABLE, 10)]
        assert expect.now() == []


def test_a_wake_ends_a_poll_of_another_thread(poll, events, spawn):
    waker = Waker(poll, Token(10))
    for _ in range(50):
        spawn(waker.wake)
        assert poll.poll(events, 10) == 1


def test_a_closed_waker_is_silent_and_a_value_error(poll, expect):
    with Waker(poll, 10) as waker:
        waker.wake()
    assert expect.now() == []
    with pytest.raises(ValueError, match="Waker is closed"):
        waker.wake()


def test_token_max_is_refused(poll):
    with pytest.raises(InvalidTokenError):
        Waker(poll, Token.MAX)
