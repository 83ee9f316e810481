"""Registration and SetReadiness: readiness that the program makes itself."""

from __future__ import annotations

import contextlib
import copy
import gc
import random
import threading

import pytest

from mioloop.mio import (
    Event,
    Events,
    InvalidTokenError,
    Poll,
    PollOpt,
    Ready,
    Registration,
    SetReadiness,
    Token,
    WrongPollError,
)

READ = Ready.READABLE
EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
ONESHOT_MODES = [EDGE | ONESHOT, LEVEL | ONESHOT, ONESHOT]


@pytest.fixture
def node() -> tuple[Registration, SetReadiness]:
    return Registration.new2()


def test_halves_are_made_in_pairs():
    registration, set_readiness = Registration.new()
    assert isinstance(registration, Registration)
    assert isinstance(set_readiness, SetReadiness)
    for half in (Registration, SetReadiness):
        with pytest.raises(TypeError, match=r"made by Registration\.new2\(\)"):
            half()


def test_one_event_after_set_readiness_and_none_before(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    assert expect.now() == []
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 0)]
    assert expect.now() == []


def test_readiness_is_the_value_set_last_delivered_or_not(node):
    _, set_readiness = node
    assert set_readiness.readiness() == Ready.EMPTY
    set_readiness.set_readiness(READ)
    assert set_readiness.readiness() == READ
    set_readiness.set_readiness(Ready.WRITABLE)
    assert set_readiness.readiness() == Ready.WRITABLE      # replaced, not added


def test_clones_are_one_setter(poll, expect, node):
    registration, set_readiness = node
    clone = set_readiness.clone()
    del set_readiness
    poll.register(registration, 0, READ, EDGE)
    clone.set_readiness(READ)
    assert copy.copy(clone).readiness() == READ
    assert expect.now() == [Event(READ, 0)]


def test_set_readiness_before_register(poll, events, spawn):
    for _ in range(1000):
        registration, set_readiness = Registration.new2()
        start = threading.Barrier(2)

        def set_it(set_readiness=set_readiness, start=start):
            start.wait(10)
            set_readiness.set_readiness(READ)

        thread = threading.Thread(target=set_it)
        thread.start()
        start.wait(10)
        poll.register(registration, 0, READ, EDGE)
        while poll.poll(events, 10) == 0:               # an empty poll is allowed
            pass
        assert list(events) == [Event(READ, 0)]
        thread.join(10)


def test_edge_fires_for_each_call_even_with_the_same_value(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    for _ in range(3):
        set_readiness.set_readiness(READ)
        assert expect.now() == [Event(READ, 0)]
    set_readiness.set_readiness(READ)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 0)]             # merged between polls
    assert expect.now() == []


def test_set_then_clear_is_no_event(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    set_readiness.set_readiness(Ready.EMPTY)
    assert expect.now() == []


@pytest.mark.parametrize("opts", [LEVEL, PollOpt.EMPTY], ids=str)
def test_level_repeats_until_cleared_and_poll_does_not_block(poll, events, expect, node, opts):
    registration, set_readiness = node
    poll.register(registration, 0, READ, opts)
    set_readiness.set_readiness(READ)
    for _ in range(4):
        assert poll.poll(events, None) == 1             # once in each poll
        assert list(events) == [Event(READ, 0)]
    set_readiness.set_readiness(Ready.EMPTY)
    assert poll.poll(events, None) == 0                 # at once, and with nothing
    assert expect.now() == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_level_nodes_take_turns_in_a_small_buffer(poll, count):
    nodes = [Registration.new2() for _ in range(5)]
    for token, (registration, set_readiness) in enumerate(nodes):
        poll.register(registration, token, READ, LEVEL)
        set_readiness.set_readiness(READ)
    events = Events(count)
    tokens = []
    for _ in range(10):
        assert poll.poll(events, 0) == count
        tokens += [event.token for event in events]
    assert tokens == [i % 5 for i in range(10 * count)]


def test_each_level_node_comes_once_in_a_poll(poll, events):
    nodes = [Registration.new2() for _ in range(5)]
    for token, (registration, set_readiness) in enumerate(nodes):
        poll.register(registration, token, READ, LEVEL)
        set_readiness.set_readiness(READ)
    for _ in range(3):
        poll.poll(events, 0)
        assert sorted(event.token for event in events) == [0, 1, 2, 3, 4]


def test_every_register_and_reregister_of_a_ready_node_fires(poll, expect, node):
    registration, set_readiness = node
    set_readiness.set_readiness(READ)
    for token, call in enumerate((poll.register, poll.reregister, poll.register)):
        call(registration, token, READ, EDGE)
        assert expect.now() == [Event(READ, token)]
        assert expect.now() == []


def test_registering_twice_is_reregistering(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    registration.register(poll, 1, READ, EDGE)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 1)]


def test_reregister_of_a_fresh_registration_binds_it(poll, other_poll, expect, node):
    registration, set_readiness = node
    poll.reregister(registration, 3, READ, EDGE)
    with pytest.raises(WrongPollError):
        other_poll.register(registration, 3, READ, EDGE)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 3)]


def test_another_poll_is_refused_by_all_three_methods(poll, other_poll, node):
    registration, _ = node
    poll.register(registration, 0, READ, EDGE)
    poll.deregister(registration)
    for call in (
        lambda: other_poll.register(registration, 0, READ, EDGE),
        lambda: other_poll.reregister(registration, 0, READ, EDGE),
        lambda: other_poll.deregister(registration),
        lambda: registration.register(other_poll, 0, READ, EDGE),
    ):
        with pytest.raises(WrongPollError) as caught:
            call()
        assert caught.value.kind == "Other"
        assert caught.value.errno is None


def test_deregister_silences_and_keeps_the_readiness(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    poll.deregister(registration)
    assert expect.now() == []
    set_readiness.set_readiness(READ)
    assert expect.now() == []
    assert set_readiness.readiness() == READ
    poll.register(registration, 1, READ, EDGE)
    assert expect.now() == [Event(READ, 1)]


def test_a_queued_event_carries_the_newest_token_and_interest(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ | Ready.WRITABLE)
    poll.reregister(registration, 9, Ready.WRITABLE, EDGE)
    assert expect.now() == [Event(Ready.WRITABLE, 9)]


def test_readiness_outside_the_interest_waits_for_a_wider_one(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, Ready.WRITABLE, EDGE)
    set_readiness.set_readiness(READ)
    assert expect.now() == []
    assert set_readiness.readiness() == READ
    poll.reregister(registration, 0, READ | Ready.WRITABLE, EDGE)
    assert expect.now() == [Event(READ, 0)]


@pytest.mark.parametrize("opts", ONESHOT_MODES, ids=str)
def test_oneshot_is_silent_until_reregister(poll, expect, node, opts):
    registration, set_readiness = node
    poll.register(registration, 0, READ, opts)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 0)]
    set_readiness.set_readiness(READ)
    assert expect.now() == []
    poll.reregister(registration, 1, READ, opts)
    assert expect.now() == [Event(READ, 1)]
    assert expect.now() == []
    poll.register(registration, 2, READ, opts)          # no EEXIST: it re-arms as well
    assert expect.now() == [Event(READ, 2)]
    assert expect.now() == []


@pytest.mark.parametrize("undo", ["clear", "deregister", "close"])
def test_a_queued_event_that_came_to_nothing_ends_a_poll_with_nothing(poll, events, node, undo):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    if undo == "clear":
        set_readiness.set_readiness(Ready.EMPTY)
    elif undo == "deregister":
        poll.deregister(registration)
    else:
        registration.close()
    assert poll.poll(events, None) == 0
    assert events.is_empty()


def test_user_events_come_in_order_after_system_events(poll, expect, pair):
    nodes = [Registration.new2() for _ in range(5)]
    for token, (registration, _) in enumerate(nodes):
        poll.register(registration, token, READ, EDGE)
    poll.register(pair[0], 100, Ready.WRITABLE, EDGE)
    for token in (3, 1, 4, 0, 2):
        nodes[token][1].set_readiness(READ)
    assert [event.token for event in expect.now()] == [100, 3, 1, 4, 0, 2]


def test_set_readiness_wakes_a_poll_in_another_thread(poll, events, spawn, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    for _ in range(100):
        spawn(set_readiness.set_readiness, READ)
        assert poll.poll(events, 10) == 1


# -- ends of lives ---------------------------------------------------------------------------


def test_closed_registration_is_a_value_error(poll, node):
    registration, _ = node
    poll.register(registration, 0, READ, EDGE)
    assert not registration.closed
    registration.close()
    registration.close()
    assert registration.closed
    for call in (
        lambda: poll.register(registration, 0, READ, EDGE),
        lambda: poll.reregister(registration, 0, READ, EDGE),
        lambda: poll.deregister(registration),
    ):
        with pytest.raises(ValueError, match="Registration is closed"):
            call()


def test_setting_after_the_registration_is_gone_changes_nothing(poll, expect, node):
    registration, set_readiness = node
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    with registration:
        pass
    set_readiness.set_readiness(Ready.WRITABLE)
    assert set_readiness.readiness() == READ
    assert expect.now() == []


def test_dropping_the_registration_cancels_its_queued_event(poll, expect):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, LEVEL)
    set_readiness.set_readiness(READ)
    del registration
    gc.collect()
    assert expect.now() == []


def test_dropping_the_setter_changes_nothing(poll, expect):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    del set_readiness
    gc.collect()
    assert expect.now() == [Event(READ, 0)]


def test_a_registration_dropped_elsewhere_ends_a_poll_with_nothing(poll, events, spawn, node):
    registration, _ = node
    poll.register(registration, 0, READ, EDGE)
    entered = threading.Event()
    counts = []

    def wait() -> None:
        entered.set()
        counts.append(poll.poll(events, None))

    thread = spawn(wait)
    assert entered.wait(10)
    registration.close()
    thread.join(10)
    assert counts == [0]


def test_setting_after_the_poll_is_gone_succeeds_unheard(selector, node, other_poll):
    registration, set_readiness = node
    poll = Poll(selector)
    poll.register(registration, 0, READ, LEVEL)
    set_readiness.set_readiness(READ)
    del poll
    gc.collect()
    set_readiness.set_readiness(Ready.WRITABLE)
    assert set_readiness.readiness() == Ready.WRITABLE
    with pytest.raises(WrongPollError):
        other_poll.register(registration, 0, READ, EDGE)


def test_bad_arguments_are_refused(poll, node):
    registration, set_readiness = node
    with pytest.raises(TypeError, match="ready must be a Ready, not 1"):
        set_readiness.set_readiness(1)
    with pytest.raises(InvalidTokenError):
        poll.register(registration, Token.MAX, READ, EDGE)
    with pytest.raises(OverflowError):
        registration.register(poll, -1, READ, EDGE)


# -- under stress ----------------------------------------------------------------------------


def test_single_threaded_poll(poll, events):
    """Four threads flip 128 nodes while the poller flips their interest."""
    nodes = [Registration.new2() for _ in range(128)]
    last: dict[int, Ready] = {}
    for token, (registration, _) in enumerate(nodes):
        poll.register(registration, token, READ, EDGE)
    left = threading.Semaphore(0)

    def flip(mine):
        for i in range(50):
            for _, set_readiness in mine:
                set_readiness.set_readiness((READ, Ready.WRITABLE, Ready.EMPTY)[i % 3])
        for _, set_readiness in mine:
            set_readiness.set_readiness(READ)
        left.release()

    threads = [threading.Thread(target=flip, args=(nodes[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    done = 0
    rounds = 0
    while done < 4:
        poll.poll(events, 0.01)
        rounds += 1
        for event in events:
            last[event.token] = event.readiness
        for token, (registration, _) in enumerate(nodes):
            interest = READ if rounds % 2 else READ | Ready.WRITABLE
            poll.reregister(registration, token, interest, EDGE)
        while left.acquire(blocking=False):
            done += 1
    for thread in threads:
        thread.join(10)
    while poll.poll(events, 0):
        for event in events:
            last[event.token] = event.readiness
    assert last == dict.fromkeys(range(128), READ)


def test_multi_threaded_poll(poll):
    """Four pollers of one Poll: each firing of each oneshot node is seen by exactly one."""
    nodes, firings = 500, 8
    pairs = [Registration.new2() for _ in range(nodes)]
    counts = [0] * nodes
    remaining = [nodes * firings]
    lock = threading.Lock()
    done = threading.Event()
    for token, (registration, set_readiness) in enumerate(pairs):
        poll.register(registration, token, READ, EDGE | ONESHOT)
        set_readiness.set_readiness(READ)

    def run() -> None:
        events = Events(64)
        while not done.is_set():
            poll.poll(events, 0.05)
            for event in events:
                with lock:
                    counts[event.token] += 1
                    again = counts[event.token] < firings
                    remaining[0] -= 1
                    if not remaining[0]:
                        done.set()
                if again:
                    poll.reregister(pairs[event.token][0], event.token, READ, EDGE | ONESHOT)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert done.wait(60)
    for thread in threads:
        thread.join(10)
    assert counts == [firings] * nodes


def test_with_small_events_collection(poll):
    """Eight busy setters and room for four events: no setter waits for ever."""
    pairs = [Registration.new2() for _ in range(8)]
    events = Events(4)
    stop = threading.Event()
    for token, (registration, _) in enumerate(pairs):
        poll.register(registration, token, READ, EDGE)

    def heat(set_readiness):
        while not stop.is_set():
            set_readiness.set_readiness(READ)

    threads = [threading.Thread(target=heat, args=(pair[1],)) for pair in pairs]
    for thread in threads:
        thread.start()
    for _ in range(200):
        assert poll.poll(events, 10) <= 4
    stop.set()
    for thread in threads:
        thread.join(10)
    for _, set_readiness in pairs:
        set_readiness.set_readiness(READ)
    seen = set()
    while poll.poll(events, 0):
        seen |= {event.token for event in events}
    assert seen == set(range(8))


def test_drop_registration_from_non_main_thread(poll, events):
    """Set, then dropped, in other threads while the main one polls."""
    stop = threading.Event()
    handed: list[tuple[Registration, SetReadiness]] = []
    lock = threading.Lock()

    def drop(seed):
        chance = random.Random(seed)
        while not stop.is_set():
            with lock:
                pair = handed.pop() if handed else None
            if pair is None:
                continue
            registration, set_readiness = pair
            set_readiness.set_readiness(READ)
            if chance.random() < 0.5:
                registration.close()
            del registration, set_readiness, pair

    threads = [threading.Thread(target=drop, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for token in range(2000):
        registration, set_readiness = Registration.new2()
        poll.register(registration, token, READ, EDGE)
        with lock:
            handed.append((registration, set_readiness))
        del registration, set_readiness
        poll.poll(events, 0)
        assert all(event.token <= token for event in events)
    stop.set()
    for thread in threads:
        thread.join(10)
    handed.clear()
    gc.collect()
    poll.poll(events, 0)
    poll.poll(events, 0)
    assert list(events) == []


def test_a_finalizer_in_a_cycle_finds_everything_usable_or_closed(selector):
    """The collector finalizes a cycle in any order; nothing that was freed is used."""
    finalized = []

    class Server:
        def __init__(self) -> None:
            self.itself = self
            self.poll = Poll(selector)
            self.events = Events(8)
            self.registration, self.set_readiness = Registration.new2()
            self.poll.register(self.registration, 1, READ, LEVEL)
            self.set_readiness.set_readiness(READ)

        def __del__(self) -> None:
            for call in (
                lambda: self.set_readiness.set_readiness(READ),
                self.set_readiness.readiness,
                lambda: self.poll.reregister(self.registration, 1, READ, LEVEL),
                lambda: self.poll.poll(self.events, 0),
            ):
                with contextlib.suppress(ValueError):
                    call()
            self.registration.close()
            self.poll.close()
            finalized.append(self)                      # resurrected, and closed

    for _ in range(20):
        Server()
        gc.collect()
    assert len(finalized) == 20
    for server in finalized:
        assert server.poll.closed
        assert server.registration.closed
        with pytest.raises(ValueError):
            server.poll.poll(server.events, 0)
