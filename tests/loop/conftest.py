"""Sockets for the tests of sock_*() and of watched descriptors."""

from __future__ import annotations

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
