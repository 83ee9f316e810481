"""The wakeup descriptor of signals (signal.set_wakeup_fd): R82, R87."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

import pytest

pytestmark = pytest.mark.usefixtures("signal_state_is_restored")


@pytest.fixture
def pipe(signal_state_is_restored):
    """(read end, write end) of a pipe, with the write end as the program's wakeup descriptor."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    signal.set_wakeup_fd(ends[1])
    yield ends
    signal.set_wakeup_fd(-1)
    for end in ends:
        os.close(end)


def test_wakeup_descriptor_is_given_back(loop, pipe):
    """R82, R87: owned while running or while a handler is set, then restored."""
    loop.run_until_complete(asyncio.sleep(0.001))
    assert signal.set_wakeup_fd(-1) == pipe[1]


@pytest.mark.known_difference("uvloop", "takes the descriptor while it runs")
def test_signals_reach_the_wakeup_descriptor_of_the_program(loop, pipe):
    """R82: a program that waits for SIGCHLD at a descriptor of its own, as Twisted does."""
    read_end, write_end = pipe
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    seen = loop.create_future()
    loop.add_reader(read_end, lambda: seen.done() or seen.set_result(os.read(read_end, 100)))
    try:
        loop.call_soon(os.kill, os.getpid(), signal.SIGCHLD)
        numbers = loop.run_until_complete(asyncio.wait_for(seen, 5))
        assert set(numbers) == {signal.SIGCHLD}
        assert signal.set_wakeup_fd(-1) == write_end
    finally:
        signal.signal(signal.SIGCHLD, before)
        loop.remove_reader(read_end)


@pytest.mark.parametrize("removed", [True, False])
def test_handler_beside_the_programs_descriptor_leaves_no_trace(mioloop_loop, pipe, removed):
    """R82, R87: a handler takes the descriptor, as on asyncio, for as long as it is there."""
    loop = mioloop_loop

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, print)
        if removed:
            loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.set_wakeup_fd(-1) == (pipe[1] if removed else -1)


def test_ctrl_c_ends_an_idle_poll_beside_the_programs_descriptor(loop, pipe):
    """R82."""
    sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    loop.call_soon(sender.start)
    loop.call_later(20, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    sender.join(10)


def test_closed_descriptor_that_a_program_has_left_is_no_obstacle(mioloop_loop):
    """R82: the loop takes its own."""
    loop = mioloop_loop
    near, far = socket.socketpair()
    near.setblocking(False)
    signal.set_wakeup_fd(near.fileno())
    near.close()
    far.close()
    try:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        loop.call_soon(sender.start)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        sender.join(10)
    finally:
        signal.set_wakeup_fd(-1)


def test_signal_that_comes_as_a_run_begins_is_passed_on(mioloop_loop, pipe, monkeypatch):
    """R82: between the moment that the loop asks for the descriptor and gives it back."""
    read_end, write_end = pipe
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    set_wakeup_fd = signal.set_wakeup_fd
    sent = []

    def interrupted(fd, **options):
        if fd == write_end and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGUSR1))
        return set_wakeup_fd(fd, **options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(signal, "set_wakeup_fd", interrupted)
            mioloop_loop.run_until_complete(asyncio.sleep(0))
        assert os.read(read_end, 100) == bytes([signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_moment_is_without_wakeup_while_a_handler_is_set(mioloop_loop, monkeypatch):
    """R82, R87: a child that ended just as a run did was never seen, and the next run hung."""
    loop = mioloop_loop
    set_wakeup_fd = signal.set_wakeup_fd
    fds = []

    def recorded(fd, **options):
        fds.append(fd)
        return set_wakeup_fd(fd, **options)

    loop.add_signal_handler(signal.SIGUSR1, print)
    try:
        monkeypatch.setattr(signal, "set_wakeup_fd", recorded)
        loop.run_until_complete(asyncio.sleep(0))
        assert fds and -1 not in fds

        os.kill(os.getpid(), signal.SIGUSR1)  # between two runs: the next one serves it
        served = []
        loop._handle_signal = served.append
        loop.run_until_complete(asyncio.sleep(0.001))
        assert served == [signal.SIGUSR1]
    finally:
        monkeypatch.undo()
        loop.remove_signal_handler(signal.SIGUSR1)
