"""The triggers of a Poll: edge, level and oneshot."""

from __future__ import annotations

import os
import socket

import pytest

from mioloop.mio import Event, PollOpt, Ready, net
from tests.support.modes import ALL_MODES, LEVEL_MODES, ONESHOT_MODES


@pytest.mark.parametrize("opts", LEVEL_MODES, ids=str)
def test_level_repeats_while_the_condition_holds(poll, expect, pair, opts):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, opts)
    assert expect.now() == []
    right.write(b"12")
    for _ in range(3):
        assert expect.now() == [Event(Ready.READABLE, 0)]
    assert left.read(1) == b"1"
    assert expect.now() == [Event(Ready.READABLE, 0)]
    assert left.read(1) == b"2"
    assert expect.now() == []


def test_edge_reports_once_until_drained(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    right.write(b"12")
    assert expect.now() == [Event(Ready.READABLE, 0)]
    assert expect.now() == []
    assert left.read(1) == b"1"
    assert expect.now() == []                           # 1 byte is left: textbook case
    assert left.read(5) == b"2"
    with pytest.raises(BlockingIOError):
        left.read(5)
    right.write(b"3")
    assert expect.now() == [Event(Ready.READABLE, 0)]


def test_edge_merges_changes_before_one_poll(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    for byte in (b"1", b"2", b"3"):
        right.write(byte)
    assert expect.now() == [Event(Ready.READABLE, 0)]
    assert expect.now() == []


@pytest.mark.parametrize("opts", ALL_MODES, ids=str)
@pytest.mark.parametrize("again", [False, True])
def test_a_condition_that_is_true_already_is_reported(poll, expect, pair, opts, again):
    left, right = pair
    right.write(b"x")
    poll.register(left, 0, Ready.READABLE, opts)
    if again:
        assert expect.now() == [Event(Ready.READABLE, 0)]
        poll.reregister(left, 0, Ready.READABLE, opts)
    assert expect.now() == [Event(Ready.READABLE, 0)]


@pytest.mark.parametrize("opts", ONESHOT_MODES, ids=str)
def test_oneshot_is_silent_until_reregister_even_about_a_hangup(poll, expect, pair, opts):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, opts)
    right.write(b"1")
    assert expect.now() == [Event(Ready.READABLE, 0)]
    right.write(b"2")
    assert expect.now() == []
    with pytest.raises(FileExistsError):
        poll.register(left, 0, Ready.READABLE, opts)
    assert left.read(5) == b"12"
    with pytest.raises(BlockingIOError):
        left.read(5)
    right.write(b"3")
    assert expect.now() == []
    right.close()
    assert expect.now() == []
    poll.reregister(left, 1, Ready.READABLE, opts)
    assert expect.now() == [Event(Ready.READABLE | Ready.HUP, 1)]
    assert expect.now() == []


@pytest.mark.parametrize("opts", ONESHOT_MODES, ids=str)
def test_oneshot_counts_state_and_not_wakeups(poll, expect, pair, opts):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, opts)
    for _ in range(3):
        right.write(b"chunk")
    assert len(expect.now()) == 1
    for _ in range(3):
        right.write(b"chunk")
    assert expect.now() == []
    poll.reregister(left, 0, Ready.READABLE, opts)
    assert len(expect.now()) == 1
    assert expect.now() == []


def test_tcp_edge_oneshot(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(server, 1, Ready.READABLE, PollOpt.EDGE | PollOpt.ONESHOT)
    client.write_all(b"foo")
    expect((1, Ready.READABLE))
    for byte in b"foo":
        assert server.read(1) == bytes([byte])
        expect.nothing()
        if byte == b"f"[0]:
            poll.reregister(server, 1, Ready.READABLE, PollOpt.EDGE | PollOpt.ONESHOT)
            poll.reregister(server, 1, Ready.READABLE, PollOpt.EDGE | PollOpt.ONESHOT)
            assert expect((1, Ready.READABLE)) == [Event(Ready.READABLE, 1)]


def test_register_deregister(poll, expect, listener):
    client = net.TcpStream.connect(listener.local_addr())
    with client:
        poll.register(listener, 0, Ready.READABLE, PollOpt.LEVEL)
        poll.register(client, 1, Ready.READABLE, PollOpt.LEVEL)
        assert {event.token for event in expect((0, Ready.READABLE))} == {0}
        poll.reregister(client, 1, Ready.WRITABLE, PollOpt.LEVEL)
        expect((1, Ready.WRITABLE))
        poll.deregister(client)
        poll.deregister(listener)
        expect.nothing()


def test_deregistered_handle_can_be_registered_again(poll, expect, pair):
    poll.register(pair[0], 0, Ready.WRITABLE, PollOpt.EDGE)
    poll.deregister(pair[0])
    poll.register(pair[0], 1, Ready.WRITABLE, PollOpt.EDGE)
    assert expect.now() == [Event(Ready.WRITABLE, 1)]


def test_register_empty_interest(poll, expect, listener):
    poll.register(listener, 0, Ready.EMPTY, PollOpt.EDGE)
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 1, Ready.WRITABLE, PollOpt.EDGE)
        assert {event.token for event in expect((1, Ready.WRITABLE))} == {1}
        expect.nothing()
        poll.reregister(listener, 0, Ready.READABLE, PollOpt.EDGE)
        expect((0, Ready.READABLE))


def test_empty_interest_still_hears_of_a_hangup(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, Ready.EMPTY, PollOpt.LEVEL)
    assert expect.now() == []
    right.close()
    assert expect.now() == [Event(Ready.HUP, 0)]


def test_never_connected_stream_hangs_up_at_once(poll, expect):
    with socket.socket() as sock:
        poll.register(sock, 0, Ready.EMPTY, PollOpt.EDGE)
        assert expect.now() == [Event(Ready.HUP, 0)]


def test_reregister_different_without_poll(poll, expect, listener):
    poll.register(listener, 0, Ready.READABLE, PollOpt.EDGE | PollOpt.ONESHOT)
    with net.TcpStream.connect(listener.local_addr()) as client:
        poll.register(client, 1, Ready.WRITABLE, PollOpt.EDGE)
        expect((1, Ready.WRITABLE))                     # so the connection waits
        poll.reregister(listener, 0, Ready.WRITABLE, PollOpt.EDGE | PollOpt.ONESHOT)
        assert all(event.token != 0 for event in expect.now())


def test_reregister_replaces_token_and_interest(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    poll.reregister(left, 2, Ready.WRITABLE, PollOpt.EDGE)
    right.write(b"x")
    assert expect.now() == [Event(Ready.WRITABLE, 2)]
    poll.reregister(left, 3, Ready.READABLE | Ready.WRITABLE, PollOpt.LEVEL)
    assert expect.now() == [Event(Ready.READABLE | Ready.WRITABLE, 3)]


def test_deregister_before_poll_cancels_the_event(poll, expect, pair):
    left, right = pair
    poll.register(left, 0, Ready.READABLE, PollOpt.EDGE)
    right.write(b"x")
    poll.deregister(left)
    assert expect.now() == []


def test_deregister_of_a_spent_oneshot_is_fine(poll, pair, expect):
    poll.register(pair[0], 0, Ready.WRITABLE, PollOpt.EDGE | PollOpt.ONESHOT)
    assert len(expect.now()) == 1
    poll.deregister(pair[0])


def test_et_behavior_recv(poll, expect, tcp_pair):
    client, server = tcp_pair
    poll.register(server, 0, Ready.READABLE | Ready.WRITABLE, PollOpt.EDGE)
    expect((0, Ready.WRITABLE))
    client.write_all(b"hello world")
    expect((0, Ready.READABLE))
    assert server.read(3) == b"hel"
    assert server.read(20) == b"lo world"
    with pytest.raises(BlockingIOError):
        server.read(20)
    client.write_all(b"again")
    expect((0, Ready.READABLE))
    assert server.read(20) == b"again"


def test_priority_event_on_oob_data(poll, expect, tcp_pair):
    if not Ready.PRIORITY:
        pytest.skip("this platform has no priority readiness")
    client, server = tcp_pair
    poll.register(server, 0, Ready.PRIORITY, PollOpt.EDGE)
    with socket.socket(fileno=os.dup(client.fileno())) as sock:
        sock.send(b"!", socket.MSG_OOB)
    seen = expect((0, Ready.PRIORITY))
    assert any(event.is_priority() and event.is_readable() for event in seen)
    with pytest.raises(BlockingIOError):                # a spurious readable, as in mio
        server.read(1)
