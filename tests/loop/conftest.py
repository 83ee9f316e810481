"""Sockets for the tests of sock_*() and of watched descriptors; the state of signals."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.support.connections import nonblocking_pair


@pytest.fixture
def pair():
    left, right = nonblocking_pair()
    with left, right:
        yield left, right


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def signal_state_is_restored(request):
    """No test leaves a handler or a wakeup fd behind."""
    watched = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}
    yield
    after = {number: signal.getsignal(number) for number in watched}
    left_fd = signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    if "uvloop" not in request.node.name:  # which leaves its own in place
        assert after == before
        assert left_fd == -1
