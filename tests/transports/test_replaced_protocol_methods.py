"""A protocol's method is looked up at each call, so a program may replace it at any time: R99.

Protocols with states do so: `self.data_received = self._read_body`. Tests of programs do so by
mock.patch.object, also on the class.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from tests.support.connections import accepted_connection, connection, send, socket_pair
from tests.support.protocols import Recorder
from tests.support.tls import tls_pair
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def stream(loop, tls, protocol):
    async with connection(loop, protocol) as (_, far):
        yield lambda data: send(far, data)


@contextlib.asynccontextmanager
async def accepted(loop, tls, protocol):
    async with accepted_connection(loop, protocol) as (_, far):
        yield lambda data: send(far, data)


@contextlib.asynccontextmanager
async def over_tls(loop, tls, protocol):
    async with tls_pair(loop, tls, protocol) as (client, _):

        async def feed(data):
            client.transport.write(data)

        yield feed


@contextlib.asynccontextmanager
async def read_pipe(loop, tls, protocol):
    read_end, write_end = os.pipe()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, open(read_end, "rb", 0))

    async def feed(data):
        os.write(write_end, data)

    try:
        yield feed
    finally:
        transport.close()
        os.close(write_end)
        await protocol.closed()


KINDS = [stream, accepted, over_tls, read_pipe]
kinds = pytest.mark.parametrize("connect", KINDS, ids=lambda kind: kind.__name__)
binds = pytest.mark.known_difference(
    "uvloop", "binds the method when the protocol is set", only=("stream", "accepted", "read_pipe")
)


@kinds
@binds
async def test_data_received_may_be_replaced_on_the_protocol(loop, tls, connect):
    """R99: as protocols with states do, from within their own data_received()."""
    protocol = Recorder(loop)
    seen = []

    def body(data):
        seen.append(("body", data))

    def head(data):
        seen.append(("head", data))
        protocol.data_received = body

    async with connect(loop, tls, protocol) as feed:
        await feed(b"one")
        await protocol.received(3)
        protocol.data_received = head
        await feed(b"two")
        await until(lambda: seen)
        await feed(b"three")
        await until(lambda: len(seen) == 2)
        del protocol.data_received
        await feed(b"four")
        await protocol.received(7)
    assert seen == [("head", b"two"), ("body", b"three")]
    assert protocol.data == b"onefour"


@kinds
@binds
async def test_data_received_may_be_replaced_on_the_class(loop, tls, connect):
    """R99: as mock.patch.object(Protocol, "data_received") does."""

    class Own(Recorder):
        pass

    protocol = Own(loop)
    seen = []
    async with connect(loop, tls, protocol) as feed:
        await feed(b"one")
        await protocol.received(3)
        Own.data_received = lambda self, data: seen.append((self, data))
        await feed(b"two")
        await until(lambda: seen)
    assert seen == [(protocol, b"two")]


class Buffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = bytearray(100)
        self.seen = []

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.seen.append(bytes(self.buffer[:count]))


@pytest.mark.known_difference("uvloop", "binds the methods when the protocol is set")
async def test_methods_of_a_buffered_protocol_may_be_replaced(loop):
    """R99."""
    protocol = Buffered()
    other = bytearray(100)
    seen = []
    near, far = socket_pair("tcp")
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"one")
        await until(lambda: protocol.seen)
        protocol.get_buffer = lambda hint: other
        protocol.buffer_updated = lambda count: seen.append(bytes(other[:count]))
        await send(far, b"two")
        await until(lambda: seen)
        transport.abort()
    assert (protocol.seen, seen) == ([b"one"], [b"two"])


@pytest.mark.known_difference("asyncio", "tells the protocol that get_buffer() has set")
async def test_protocol_that_gave_the_buffer_is_told_of_its_data(loop):
    """R56: also if its get_buffer() calls set_protocol()."""
    near, far = socket_pair("tcp")
    old, new = Buffered(), Buffered()

    def replace(hint):
        transport.set_protocol(new)
        return old.buffer

    with far:
        transport, _ = await loop.create_connection(lambda: old, sock=near)
        old.get_buffer = replace
        await send(far, b"data")
        await until(lambda: old.seen or new.seen)
        transport.abort()
    assert (old.seen, new.seen) == ([b"data"], [])


async def test_datagram_received_may_be_replaced(loop):
    """R99."""
    seen = []

    class Own(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            seen.append(data)

    protocol = Own()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.connect(transport.get_extra_info("sockname"))
        far.send(b"one")
        await until(lambda: seen)
        protocol.datagram_received = lambda data, address: seen.append(b"new " + data)
        far.send(b"two")
        await until(lambda: len(seen) == 2)
    transport.abort()
    assert seen == [b"one", b"new two"]
