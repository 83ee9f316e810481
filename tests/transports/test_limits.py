"""Water marks are any numbers: R52."""

from __future__ import annotations

import asyncio
import math
import os

import pytest

from tests.support.connections import small_buffers, socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns

C_INTEGERS = pytest.mark.known_difference("uvloop", "marks are C integers")


@pytest.mark.parametrize("kind", ["stream", "pipe", "datagrams"])
@pytest.mark.parametrize(
    "marks, expected",
    [
        ({"high": 1e6}, (250_000.0, 1e6)),
        pytest.param({"high": math.inf, "low": 0}, (0, math.inf), marks=C_INTEGERS),
        pytest.param({"high": 2**63}, (2**61, 2**63), marks=C_INTEGERS),
        pytest.param({"high": 2**70}, (2**68, 2**70), marks=C_INTEGERS),
        pytest.param({"low": 2**62}, (2**62, 2**64), marks=C_INTEGERS),
        pytest.param({"high": 100.5, "low": 2.5}, (2.5, 100.5), marks=C_INTEGERS),
        ({"high": 0}, (0, 0)),
    ],
)
async def test_get_limits_returns_the_marks_that_were_set(loop, kind, marks, expected):
    """R52: floats, infinity and integers beyond 64 bits, and they are returned as they were."""
    if kind == "datagrams":
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
    elif kind == "pipe":
        read_end, write_end = os.pipe()
        transport, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, open(write_end, "wb", 0)
        )
    else:
        near, far = socket_pair("tcp")
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    transport.set_write_buffer_limits(**marks)
    assert transport.get_write_buffer_limits() == expected
    transport.abort()
    await turns()
    if kind == "pipe":
        os.close(read_end)
    elif kind == "stream":
        far.close()


@pytest.mark.parametrize("over_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(
    "marks, error, words",
    [
        pytest.param(
            {"high": math.nan}, ValueError, r"high \(nan\) must be >= low \(nan\) must be >= 0",
            marks=C_INTEGERS,
        ),
        pytest.param(
            {"high": math.inf}, ValueError, r"high \(inf\) must be >= low \(nan\) must be >= 0",
            marks=C_INTEGERS,
        ),
        pytest.param({"high": 10, "low": math.nan}, ValueError, r"low \(nan\)", marks=C_INTEGERS),
        ({"high": 10, "low": 20}, ValueError, r"high \(10\) must be >= low \(20\) must be >= 0"),
        ({"high": -1}, ValueError, r"high \(-1\) must be >= low \(-1\) must be >= 0"),
        pytest.param({"high": "9"}, TypeError, "str", marks=C_INTEGERS),
        pytest.param({"high": "9", "low": "3"}, TypeError, "str", marks=C_INTEGERS),
        pytest.param({"high": 1j}, TypeError, "complex", marks=C_INTEGERS),
    ],
)
async def test_refused_marks_change_nothing(loop, tls, over_tls, marks, error, words):
    """R52: asyncio's errors."""
    options = {"ssl": tls.server} if over_tls else {}
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, **options)
    if over_tls:
        options = {"ssl": tls.client, "server_hostname": "localhost"}
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
    transport = writer.transport
    before = transport.get_write_buffer_limits()
    with pytest.raises(error, match=words):
        transport.set_write_buffer_limits(**marks)
    assert transport.get_write_buffer_limits() == before
    transport.abort()
    server.close()
    await turns(20)


@C_INTEGERS
@pytest.mark.known_difference("asyncio", "no marks of its own before 3.11", until=(3, 10))
async def test_marks_of_tls_are_any_numbers(loop, tls):
    """R52: marks for written data, and for data read while the application pauses."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=tls.server)
    _, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client, server_hostname="localhost"
    )
    transport = writer.transport
    for high, low in ((1e6, 2.5), (2**70, 2**65), (math.inf, 0)):
        transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (low, high)
        transport.set_read_buffer_limits(high, low)
        assert transport.get_read_buffer_limits() == (low, high)
    transport.abort()
    server.close()
    await turns(20)


@pytest.mark.known_difference("uvloop", "marks are C integers", only=("inf", str(2**70)))
@pytest.mark.parametrize("high, pauses", [(math.inf, 0), (2**70, 0), (100.5, 1)])
async def test_writing_pauses_above_a_mark_that_is_no_machine_integer(loop, high, pauses):
    """R52: pause_writing() is called or not, as the number says."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.set_write_buffer_limits(high=high, low=0)
        transport.write(b"x" * 8_000_000)
        await turns()
        assert transport.get_write_buffer_size() > 0
        assert protocol.calls.count("pause_writing") == pauses
        transport.abort()
        await protocol.closed()
