"""The addresses that TcpListener, TcpStream and UdpSocket take."""

from __future__ import annotations

import socket

import pytest

from mioloop.mio import net
from mioloop.mio.addr import parse


@pytest.mark.parametrize(
    ("addr", "family", "sockaddr"),
    [
        (("127.0.0.1", 80), socket.AF_INET, ("127.0.0.1", 80)),
        ("127.0.0.1:80", socket.AF_INET, ("127.0.0.1", 80)),
        (("::1", 80), socket.AF_INET6, ("::1", 80)),
        (("::1", 80, 1, 2), socket.AF_INET6, ("::1", 80, 1, 2)),
        ("[::1]:65535", socket.AF_INET6, ("::1", 65535)),
    ],
)
def test_numeric_addresses_are_taken(addr, family, sockaddr):
    assert parse(addr) == (family, sockaddr)


@pytest.mark.parametrize(
    "bad",
    [
        ("localhost", 80), "localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:80",
        "[127.0.0.1]:80", ("127.0.0.1", -1), ("127.0.0.1", "80"), ("127.0.0.1", 80, 0, 0),
        ("127.0.0.1",), ("::1", 80, 0, 0, 0), 80, None, ("", 80), "[::1%1]:80", ("::1%lo", 80),
        ("::1", 80, -1, 0), "[::1]", b"127.0.0.1:80", "127.0.0.1:8 0", "127.0.0.1:١",
    ],
)
def test_other_addresses_are_value_errors_that_show_them(bad):
    for use in (net.TcpListener.bind, net.TcpStream.connect, net.UdpSocket.bind):
        with pytest.raises(ValueError, match="invalid socket address") as caught:
            use(bad)
        assert repr(bad) in str(caught.value)
