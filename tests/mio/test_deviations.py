"""Behaviour of mio 0.6.21 that mioloop does not have: D1 to D16 of docs/mio.md.

D6 is tested in test_flags.py, D7 in test_event.py, where they belong.
"""

from __future__ import annotations

import errno
import socket
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
    Token,
    WrongPollError,
    net,
    unix,
)

READ = Ready.READABLE
EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


def test_d1_user_events_keep_error_and_hup(poll, expect):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, Ready.ALL, EDGE)
    set_readiness.set_readiness(Ready.ERROR | Ready.HUP)
    assert expect.now() == [Event(Ready.ERROR | Ready.HUP, 0)]


def test_d2_user_readiness_carries_every_flag_and_leaves_the_interest_alone(poll, expect):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(Ready.ALL)
    assert set_readiness.readiness() == Ready.ALL
    assert expect.now() == [Event(READ, 0)]
    set_readiness.set_readiness(Ready.ALL - READ)
    assert expect.now() == []
    poll.reregister(registration, 0, Ready.ALL, EDGE)
    assert expect.now() == [Event(Ready.ALL - READ, 0)]


@pytest.mark.parametrize("opts", [LEVEL | ONESHOT, ONESHOT], ids=str)
def test_d3_oneshot_without_edge_disarms_user_readiness(poll, expect, opts):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, opts)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 0)]
    assert expect.now() == []


def test_d4_events_are_cleared_also_when_another_thread_polls(poll, other_poll, spawn, pair):
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, EDGE)
    other_poll.register(pair[0], 1, Ready.WRITABLE, LEVEL)
    events = Events(8)
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        assert poll.poll(Events(8)) == 1

    thread = spawn(wait)
    assert entered.wait(10)
    for timeout in (0, 0, 0.01, 0.01, 0.01):
        assert other_poll.poll(events, 0) == 1
        assert poll.poll(events, timeout) == 0
        assert events.is_empty()
    set_readiness.set_readiness(READ)
    thread.join(10)


def test_d5_concurrent_updates_are_all_made(poll, expect):
    """The last update of each thread stays: whichever came last as a whole is in force."""
    registration, set_readiness = Registration.new2()
    start = threading.Barrier(4)

    def update(token: int) -> None:
        start.wait(10)
        for _ in range(200):
            poll.reregister(registration, token, READ if token % 2 else Ready.WRITABLE, EDGE)

    threads = [threading.Thread(target=update, args=(token,)) for token in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    expect.now()
    set_readiness.set_readiness(READ | Ready.WRITABLE)
    (event,) = expect.now()
    assert event.readiness == (READ if event.token % 2 else Ready.WRITABLE)
    poll.reregister(registration, 9, READ, EDGE)
    assert expect.now() == [Event(READ, 9)]


def test_d8_token_max_is_refused_by_the_handles_own_methods_as_well(poll, pair):
    registration, _ = Registration.new2()
    for handle in (pair[0], registration, unix.EventedFd(pair[1].fileno())):
        for call in (handle.register, handle.reregister):
            with pytest.raises(InvalidTokenError):
                call(poll, Token.MAX, READ, EDGE)


def test_d9_system_events_do_not_starve_user_events(poll):
    pairs = [unix.UnixStream.pair() for _ in range(6)]
    for token, (left, _) in enumerate(pairs):
        poll.register(left, token, Ready.WRITABLE, LEVEL)
    registration, set_readiness = Registration.new2()
    poll.register(registration, 100, READ, EDGE)
    set_readiness.set_readiness(READ)
    events = Events(2)
    assert poll.poll(events, 0) == 2
    assert events[1] == Event(READ, 100)
    for left, right in pairs:
        left.close()
        right.close()


def test_d10_binding_is_checked_by_every_method(poll, other_poll, pair):
    poll.register(pair[0], 0, READ, EDGE)
    for call in (
        lambda: other_poll.register(pair[0], 0, READ, EDGE),
        lambda: other_poll.reregister(pair[0], 0, READ, EDGE),
        lambda: other_poll.deregister(pair[0]),
    ):
        with pytest.raises(WrongPollError):
            call()


def test_d10_clones_share_the_binding_also_when_made_before(poll, other_poll, pair):
    with pair[0].try_clone() as clone:
        poll.register(pair[0], 0, READ, EDGE)
        with pytest.raises(WrongPollError):
            other_poll.register(clone, 0, READ, EDGE)


def test_d10_a_failing_register_binds_nothing(poll, other_poll, pair):
    with pytest.raises(InvalidTokenError):
        pair[0].register(poll, Token.MAX, READ, EDGE)
    with pytest.raises(ValueError):
        poll.register(pair[0], 0, READ, EDGE | LEVEL)
    other_poll.register(pair[0], 0, READ, EDGE)


def test_d11_deregister_does_not_bind_a_fresh_registration(poll, other_poll, expect):
    registration, set_readiness = Registration.new2()
    other_poll.deregister(registration)
    poll.register(registration, 0, READ, EDGE)
    set_readiness.set_readiness(READ)
    assert expect.now() == [Event(READ, 0)]


def test_d12_a_timeout_beyond_the_kernels_range_does_not_return_early(poll, spawn):
    """2^31 ms is more than epoll_wait takes: the wait goes on until there is an event."""
    registration, set_readiness = Registration.new2()
    poll.register(registration, 0, READ, EDGE)
    counts = []
    thread = spawn(lambda: counts.append(poll.poll(Events(8), 2.0**31)))
    thread.join(0.05)
    assert thread.is_alive()
    set_readiness.set_readiness(READ)
    thread.join(10)
    assert counts == [1]


def test_d13_a_user_event_makes_a_nested_poll_readable(poll, selector, expect):
    if selector == "poll":
        with pytest.raises(OSError) as caught:
            poll.fileno()
        assert caught.value.errno == errno.ENOTSUP
        return
    with Poll(selector) as inner:
        registration, set_readiness = Registration.new2()
        inner.register(registration, 5, READ, EDGE)
        poll.register(inner, 0, READ, LEVEL)
        assert expect.now() == []
        set_readiness.set_readiness(READ)
        assert expect.now() == [Event(READ, 0)]
        events = Events(8)
        assert inner.poll(events, 0) == 1
        assert list(events) == [Event(READ, 5)]
        assert expect.now() == []


def test_d14_a_spent_oneshot_is_deregistered_without_error(poll, expect, pair):
    poll.register(pair[0], 0, Ready.WRITABLE, EDGE | ONESHOT)
    assert len(expect.now()) == 1
    poll.deregister(pair[0])
    with pytest.raises(FileNotFoundError):
        poll.deregister(pair[0])


def test_d15_handles_that_share_a_token_report_each_for_themselves(poll, expect, pair):
    left, right = pair
    poll.register(left, 7, Ready.WRITABLE, EDGE)
    poll.register(right, 7, READ | Ready.WRITABLE, EDGE)
    left.write(b"x")
    seen = expect.now()
    assert sorted(event.readiness.as_usize() for event in seen) == [
        Ready.WRITABLE.as_usize(),
        (READ | Ready.WRITABLE).as_usize(),
    ]


def test_d16_end_of_a_pipe_is_hup_only_and_read_closed(poll, expect):
    sender, receiver = unix.pipe()
    with receiver:
        poll.register(receiver, 0, READ, EDGE)
        sender.close()
        (event,) = expect((0, Ready.HUP))
        assert event.readiness == Ready.HUP
        assert not event.is_readable()
        assert event.is_read_closed()
        assert receiver.read(1) == b""


def test_every_net_type_and_its_clone_is_refused_by_a_second_poll(poll, other_poll):
    """mio: test_tcp_register_multiple_event_loops, test_udp_register_multiple_event_loops."""
    listener = net.TcpListener.bind("127.0.0.1:0")
    stream = net.TcpStream.connect(listener.local_addr())
    udp = net.UdpSocket.bind("127.0.0.1:0")
    for handle in (listener, stream, udp):
        with handle:
            poll.register(handle, 0, READ | Ready.WRITABLE, EDGE)
            with handle.try_clone() as clone:
                for refused in (handle, clone):
                    with pytest.raises(WrongPollError) as caught:
                        other_poll.register(refused, 0, READ, EDGE)
                    assert caught.value.kind == "Other"
                poll.register(clone, 1, READ, EDGE)
            poll.deregister(handle)
            with pytest.raises(WrongPollError):
                other_poll.register(handle, 0, READ, EDGE)


def test_handle_of_a_closed_poll_is_refused_by_every_other(selector, other_poll, pair):
    poll = Poll(selector)
    poll.register(pair[0], 0, READ, EDGE)
    poll.close()
    del poll
    with pytest.raises(WrongPollError):
        other_poll.register(pair[0], 0, READ, EDGE)


def test_a_stdlib_socket_belongs_to_no_poll(poll, other_poll):
    left, right = socket.socketpair()
    with left, right:
        poll.register(left, 0, READ, EDGE)
        other_poll.register(left, 0, READ, EDGE)
