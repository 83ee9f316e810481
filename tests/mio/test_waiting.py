"""Poll: timeouts, signals, the capacity of Events, and several threads."""

from __future__ import annotations

import math
import signal
import threading
import time

import pytest

from mioloop.mio import (
    Event,
    Events,
    PollOpt,
    Ready,
    Registration,
    unix,
)

# -- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [1e-9, 1e-7, 0.000_2, 0.001, 0.001_000_001, 0.03])
def test_a_timeout_is_never_early(poll, events, timeout):
    began_ns = time.monotonic_ns()
    assert poll.poll(events, timeout) == 0
    assert time.monotonic_ns() - began_ns >= round(timeout * 1e9)


def test_zero_does_not_block_and_integers_are_seconds(poll, events):
    assert poll.poll(events, 0) == 0
    assert poll.poll(events, False) == 0
    assert poll.poll(events, -0.0) == 0


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 2**31, 10])
def test_a_long_timeout_ends_with_an_event(poll, events, pair, timeout):
    poll.register(pair[0], 0, Ready.WRITABLE, PollOpt.EDGE)
    assert poll.poll(events, timeout) == 1


@pytest.mark.parametrize("bad", [-1, -1e-9, math.nan, -math.inf])
def test_bad_timeouts_are_value_errors_that_show_them(poll, events, bad):
    with pytest.raises(ValueError, match=f"timeout must be >= 0 or None, not {bad!r}"):
        poll.poll(events, bad)
    with pytest.raises(TypeError):
        poll.poll(events, "1")
    assert poll.poll(events, 0) == 0                    # the Events are free again


class _Alarm:
    """Sends SIGALRM every 20 ms, to *handler*."""

    def __init__(self, handler):
        self.handler = handler

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    def __exit__(self, *exc):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def test_a_signal_runs_its_handler_and_the_wait_goes_on(poll, events):
    runs = []
    began_s = time.monotonic()
    with _Alarm(lambda *_: runs.append(time.monotonic())):
        assert poll.poll(events, 0.2) == 0
    assert time.monotonic() - began_s >= 0.2
    assert runs


def test_exception_of_a_handler_leaves_the_poll(poll, events):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    with pytest.raises(Stop), _Alarm(stop):
        poll.poll(events)
    assert events.is_empty()
    assert poll.poll(events, 0) == 0


def test_exception_of_a_handler_is_not_taken_for_the_interruption(poll, events):
    def stop(*_):
        raise InterruptedError("from the handler")

    with pytest.raises(InterruptedError, match="from the handler"), _Alarm(stop):
        poll.poll(events)


def test_a_handler_may_cause_the_event_that_is_waited_for(poll, events):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 4, Ready.READABLE, PollOpt.EDGE)
    with _Alarm(lambda *_: set_readiness.set_readiness(Ready.READABLE)):
        assert poll.poll(events) == 1
    assert list(events) == [Event(Ready.READABLE, 4)]


def test_poll_interruptible_raises_and_loses_nothing(poll, events):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 4, Ready.READABLE, PollOpt.EDGE)
    runs = []
    with _Alarm(lambda *_: runs.append(1)), pytest.raises(InterruptedError):
        poll.poll_interruptible(events, 10)
    assert runs
    assert events.is_empty()
    set_readiness.set_readiness(Ready.READABLE)
    assert poll.poll_interruptible(events, 10) == 1


# -- capacity --------------------------------------------------------------------------------


def test_a_small_buffer_serves_everyone_in_turn(poll):
    pairs = [unix.UnixStream.pair() for _ in range(8)]
    for token, (left, _) in enumerate(pairs):
        poll.register(left, token, Ready.WRITABLE, PollOpt.LEVEL)
    events = Events(3)
    seen = set()
    for _ in range(8):
        assert poll.poll(events, 0) == 3
        seen |= {event.token for event in events}
    assert seen == set(range(8))
    for left, right in pairs:
        left.close()
        right.close()


def test_events_left_out_come_with_the_next_polls(poll):
    pairs = [unix.UnixStream.pair() for _ in range(5)]
    for token, (left, _) in enumerate(pairs):
        poll.register(left, token, Ready.WRITABLE, PollOpt.EDGE)
    events = Events(2)
    batches = []
    while poll.poll(events, 0):
        batches.append([event.token for event in events])
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert {token for batch in batches for token in batch} == set(range(5))
    for left, right in pairs:
        left.close()
        right.close()


def test_the_waker_takes_no_room_from_the_event_that_it_is_for(poll, spawn):
    events = Events(1)
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    for _ in range(50):
        spawn(set_readiness.set_readiness, Ready.READABLE)
        assert poll.poll(events, 10) == 1


# -- threads ---------------------------------------------------------------------------------


def test_register_during_poll(poll, events, spawn, pair):
    entered = threading.Event()
    counts = []

    def wait() -> None:
        entered.set()
        counts.append(poll.poll(events, 10))

    thread = spawn(wait)
    assert entered.wait(10)
    poll.register(pair[0], 7, Ready.WRITABLE, PollOpt.EDGE)
    thread.join(10)
    assert counts == [1]
    assert list(events) == [Event(Ready.WRITABLE, 7)]


def test_reregister_during_poll(poll, events, spawn, pair):
    entered = threading.Event()
    poll.register(pair[0], 7, Ready.READABLE, PollOpt.EDGE)

    def wait() -> None:
        entered.set()
        poll.poll(events, 10)

    thread = spawn(wait)
    assert entered.wait(10)
    poll.reregister(pair[0], 8, Ready.WRITABLE, PollOpt.EDGE)
    thread.join(10)
    assert list(events) == [Event(Ready.WRITABLE, 8)]


def test_one_event_goes_to_one_of_two_pollers(poll, spawn):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    counts = []
    threads = [spawn(lambda: counts.append(poll.poll(Events(8), 0.2))) for _ in range(2)]
    set_readiness.set_readiness(Ready.READABLE)
    for thread in threads:
        thread.join(10)
    assert sorted(counts) == [0, 1]


def test_the_wait_for_another_poller_counts_against_the_timeout(poll, spawn):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        # The main thread may get in first; it then waits its time out in there.
        assert poll.poll(Events(8)) == 1

    thread = spawn(wait)
    assert entered.wait(10)
    began_s = time.monotonic()
    assert poll.poll(Events(8), 0.1) == 0
    assert 0.1 <= time.monotonic() - began_s < 5
    set_readiness.set_readiness(Ready.READABLE)
    thread.join(10)


def test_a_waiting_poller_takes_over(poll, spawn):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.READABLE, PollOpt.EDGE)
    done = threading.Semaphore(0)

    def wait() -> None:
        assert poll.poll(Events(8), 10) == 1
        done.release()

    for _ in range(3):
        spawn(wait)
    for _ in range(3):
        set_readiness.set_readiness(Ready.READABLE)
        assert done.acquire(timeout=10)
