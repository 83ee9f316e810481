"""The options of TcpListener and TcpStream."""

from __future__ import annotations

import errno

import pytest

from mioloop.mio import net
from tests.support.ipv6 import ipv6


def test_stream_options_are_kept(tcp_pair):
    client, _ = tcp_pair
    client.set_nodelay(True)
    assert client.nodelay() is True
    client.set_nodelay(False)
    assert client.nodelay() is False
    client.set_recv_buffer_size(50_000)
    assert client.recv_buffer_size() in (50_000, 100_000)
    client.set_send_buffer_size(50_000)
    assert client.send_buffer_size() in (50_000, 100_000)
    client.set_ttl(42)
    assert client.ttl() == 42


def test_keepalive_is_whole_seconds_truncated(tcp_pair):
    client, _ = tcp_pair
    assert client.keepalive() is None
    client.set_keepalive(1.5)
    assert client.keepalive() == 1.0
    client.set_keepalive(None)
    assert client.keepalive() is None
    with pytest.raises(OSError) as caught:
        client.set_keepalive(0.5)
    assert caught.value.errno == errno.EINVAL
    assert client.keepalive() is not None               # as mio: the flag came first


def test_linger_is_whole_seconds_truncated(tcp_pair):
    client, _ = tcp_pair
    assert client.linger() is None
    client.set_linger(2.9)
    assert client.linger() == 2.0
    client.set_linger(0)
    assert client.linger() == 0.0
    client.set_linger(None)
    assert client.linger() is None


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf")])
def test_bad_durations_are_value_errors_that_show_them(tcp_pair, bad):
    client, _ = tcp_pair
    for option in ("keepalive", "linger"):
        with pytest.raises(ValueError, match=f"{option} must be .*not {bad!r}"):
            getattr(client, f"set_{option}")(bad)
    assert client.keepalive() is None


@pytest.mark.parametrize("bad", [0, 256])
def test_ttl_out_of_range_is_einval(tcp_pair, bad):
    with pytest.raises(OSError) as caught:
        tcp_pair[0].set_ttl(bad)
    assert caught.value.errno == errno.EINVAL


def test_only_v6_is_for_ipv6_sockets(listener):
    with pytest.raises(OSError) as caught:
        listener.only_v6()
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as caught:
        listener.set_only_v6(True)
    assert caught.value.errno == errno.ENOPROTOOPT


@ipv6
def test_only_v6_cannot_be_set_after_bind():
    with net.TcpListener.bind("[::1]:0") as listener:
        assert listener.only_v6() in (True, False)
        with pytest.raises(OSError) as caught:
            listener.set_only_v6(True)
        assert caught.value.errno == errno.EINVAL


def test_listener_options_are_kept(listener):
    listener.set_ttl(7)
    assert listener.ttl() == 7
    assert listener.take_error() is None
    with listener.try_clone() as clone:
        assert clone.local_addr() == listener.local_addr()
        assert clone.ttl() == 7
