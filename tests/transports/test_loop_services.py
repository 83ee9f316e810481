"""What transports need of their loop: they call the public methods, which a program may replace."""

from __future__ import annotations

import asyncio
import tempfile

import pytest

from tests.support.connections import connection, receive_all, socket_pair
from tests.support.protocols import Recorder
from tests.support.tls import tls_pair
from tests.support.waiting import turns


@pytest.fixture
def replaced(loop, monkeypatch):
    """Replace the loop's create_future(), call_later() and time(). Return the names of calls."""
    called = []

    def replace(name):
        original = getattr(loop, name)

        def replacement(*args, **kwargs):
            called.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(loop, name, replacement)

    for name in ("create_future", "call_later", "time"):
        replace(name)
    return called


async def test_handshake_has_its_timeout_from_a_replaced_call_later(loop, replaced, tls):
    """R100: TLS, on both sides of a connection."""
    replaced.clear()
    async with tls_pair(loop, tls):
        assert replaced.count("call_later") >= 2


async def test_debug_mode_measures_a_handshake_by_a_replaced_clock(loop, replaced, tls):
    """R100: a handshake in debug mode asks loop.time()."""
    loop.set_debug(True)
    try:
        replaced.clear()
        async with tls_pair(loop, tls):
            assert "time" in replaced
    finally:
        loop.set_debug(False)


async def test_waiting_sock_call_has_its_future_from_a_replaced_create_future(loop, replaced):
    """R100: sock_recv() that waits."""
    near, far = socket_pair("unix")
    with near, far:
        replaced.clear()
        receiving = loop.create_task(loop.sock_recv(near, 1))
        await turns(2)
        assert "create_future" in replaced
        far.send(b"x")
        assert await receiving == b"x"


@pytest.mark.known_difference("uvloop", "not implemented", run=False)
async def test_sendfile_has_its_futures_from_a_replaced_create_future(loop, replaced):
    """R100: sendfile() of a transport."""
    with tempfile.TemporaryFile() as file:
        file.write(b"data")
        file.flush()
        async with connection(loop, Recorder(loop)) as (transport, far):
            receiving = asyncio.ensure_future(receive_all(far))
            await turns(2)
            replaced.clear()
            assert await loop.sendfile(transport, file) == 4
            assert "create_future" in replaced
            transport.close()
            assert await receiving == b"data"
