"""Event, Events, Evented."""

from __future__ import annotations

import copy
import pickle
import socket

import pytest

from mioloop.mio import Event, Evented, Events, Poll, PollOpt, Ready, Registration, Token, unix


@pytest.fixture
def filled(poll: Poll, pair: tuple[unix.UnixStream, unix.UnixStream], events: Events) -> Events:
    """Two events, Token(0) and Token(1), both writable."""
    for token, stream in enumerate(pair):
        poll.register(stream, Token(token), Ready.WRITABLE, PollOpt.LEVEL)
    assert poll.poll(events, 0) == 2
    return events


def test_event_is_a_value() -> None:
    event = Event(Ready.READABLE, Token(0))
    assert event.readiness == Ready.READABLE
    assert event.token == Token(0)
    assert event == Event(Ready.READABLE, 0)
    assert hash(event) == hash(Event(Ready.READABLE, 0))
    assert event != Event(Ready.WRITABLE, 0)
    assert event != Event(Ready.READABLE, 1)
    assert event != "event"
    assert copy.copy(event) == pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(AttributeError):
        event.token = Token(1)
    with pytest.raises(AttributeError):
        del event.token


def test_event_shows_readiness_and_token() -> None:
    assert repr(Event(Ready.READABLE, 0)) == "Event(readiness=Readable, token=Token(0))"


def test_event_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a Ready, not 1"):
        Event(1, 0)
    with pytest.raises(OverflowError):
        Event(Ready.READABLE, -1)


@pytest.mark.parametrize(
    ("ready", "true"),
    [
        (Ready.READABLE, {"readable"}),
        (Ready.WRITABLE, {"writable"}),
        (Ready.ERROR, {"error", "write_closed"}),
        (Ready.ERROR | Ready.READABLE, {"error", "readable"}),
        (Ready.ERROR | Ready.WRITABLE, {"error", "writable", "write_closed"}),
        (Ready.HUP, {"read_closed", "write_closed"}),
        (Ready.EMPTY, set()),
    ],
)
def test_predicates_follow_mio_0_7(ready: Ready, true: set[str]) -> None:
    names = {"readable", "writable", "error", "read_closed", "write_closed", "priority"}
    event = Event(ready, 0)
    assert {name for name in names if getattr(event, f"is_{name}")()} == true


def test_half_closed_peer_is_read_closed_and_not_hup(poll: Poll, pair, expect) -> None:
    left, right = pair
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    right.shutdown(socket.SHUT_WR)
    (event,) = expect((0, Ready.READABLE))
    assert event.is_read_closed()
    assert not event.is_write_closed()
    assert event.readiness == Ready.READABLE
    assert event == Event(Ready.READABLE, 0)
    assert pickle.loads(pickle.dumps(event)).is_read_closed()


def test_new_events_are_empty() -> None:
    events = Events(7)
    assert events.capacity == Events.with_capacity(7).capacity == 7
    assert events.is_empty()
    assert len(events) == 0
    assert list(events) == []
    assert events.get(0) is None
    with pytest.raises(IndexError, match="no event 0 among 0"):
        events[0]


def test_events_are_a_sequence(filled: Events) -> None:
    assert not filled.is_empty()
    assert len(filled) == 2
    assert list(filled) == [filled[0], filled[1]] == [filled[-2], filled[-1]]
    assert {event.token for event in filled} == {0, 1}
    assert filled.get(1) == filled[1]
    assert filled.get(2) is None
    assert filled.get(-1) is None
    with pytest.raises(IndexError, match="no event 2 among 2"):
        filled[2]
    with pytest.raises(IndexError):
        filled[-3]
    assert repr(filled) == "<Events 2 of 1024>"


def test_events_taken_out_stay_valid_after_the_next_poll(poll: Poll, filled: Events) -> None:
    taken = list(filled)
    filled.clear()
    assert filled.is_empty()
    assert [event.readiness for event in taken] == [Ready.WRITABLE] * 2
    assert {event.token for event in taken} == {0, 1}


@pytest.mark.parametrize("bad", [0, -1, 2**31])
def test_d7_capacity_below_one_is_refused_at_once(bad: int) -> None:
    with pytest.raises(ValueError, match=f"capacity must be from 1 to 2147483647, not {bad}"):
        Events(bad)
    with pytest.raises(ValueError):
        Events.with_capacity(bad)


def test_capacity_is_an_integer() -> None:
    with pytest.raises(TypeError):
        Events(1.5)


def test_polling_while_iterating_is_a_runtime_error(poll: Poll, filled: Events) -> None:
    with pytest.raises(RuntimeError, match="during iteration"):
        for _ in filled:
            poll.poll(filled, 0)


def test_clearing_while_iterating_is_a_runtime_error(filled: Events) -> None:
    with pytest.raises(RuntimeError, match="during iteration"):
        for _ in filled:
            filled.clear()


def test_events_in_two_polls_at_once_are_a_runtime_error(poll: Poll, events: Events, spawn) -> None:
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    outcomes: list[object] = []

    def fill() -> None:
        # Whichever of the threads comes second is refused; the other one gets the event.
        try:
            outcomes.append(poll.poll(events))
        except RuntimeError as error:
            outcomes.append(str(error))
            set_readiness.set_readiness(Ready.READABLE)

    threads = [spawn(fill), spawn(fill)]
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes, key=str) == [1, "these Events are in use by another poll"]


def test_object_with_the_three_methods_is_evented() -> None:
    class Duck:
        def register(self, poll, token, interest, opts): ...
        def reregister(self, poll, token, interest, opts): ...
        def deregister(self, poll): ...

    assert isinstance(Duck(), Evented)
    assert not isinstance(object(), Evented)
    assert not isinstance(3, Evented)


def test_evented_without_all_methods_cannot_be_made() -> None:
    class Half(Evented):
        def register(self, poll, token, interest, opts): ...

    with pytest.raises(TypeError, match="abstract"):
        Half()
