"""Transports take attributes, and a replaced method is the one that its users call: R99."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import weakref
from unittest import mock

import pytest

from tests.support.connections import (
    accepted_connection,
    connection,
    receive_all,
    send,
    socket_pair,
)
from tests.support.protocols import Recorder
from tests.support.tls import tls_pair
from tests.support.waiting import turns


@contextlib.asynccontextmanager
async def stream(loop, tls):
    async with connection(loop, Recorder(loop)) as (transport, _):
        yield transport


@contextlib.asynccontextmanager
async def accepted(loop, tls):
    async with accepted_connection(loop, Recorder(loop)) as (transport, _):
        yield transport


@contextlib.asynccontextmanager
async def over_tls(loop, tls):
    async with tls_pair(loop, tls) as (client, _):
        yield client.transport


@contextlib.asynccontextmanager
async def datagrams(loop, tls):
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    yield transport
    transport.abort()
    await turns()


@contextlib.asynccontextmanager
async def read_pipe(loop, tls):
    read_end, write_end = os.pipe()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, open(read_end, "rb", 0))
    yield transport
    transport.close()
    os.close(write_end)
    await turns()


@contextlib.asynccontextmanager
async def write_pipe(loop, tls):
    read_end, write_end = os.pipe()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(write_end, "wb", 0))
    yield transport
    transport.abort()
    os.close(read_end)
    await turns()


KINDS = [stream, accepted, over_tls, datagrams, read_pipe, write_pipe]
kinds = pytest.mark.parametrize("connect", KINDS, ids=lambda kind: kind.__name__)


@pytest.mark.known_difference("uvloop", "transports have no attributes")
@kinds
async def test_transport_takes_attributes(loop, tls, connect):
    """R99: any name, vars(), deletion, weak references."""
    async with connect(loop, tls) as transport:
        transport._of_the_program = 1
        transport.name = "one"
        assert vars(transport)["_of_the_program"] == 1
        assert transport.name == "one"
        del transport.name
        with pytest.raises(AttributeError):
            getattr(transport, "name")  # noqa: B009
        assert weakref.ref(transport)() is transport


@pytest.mark.known_difference("uvloop", "methods cannot be replaced")
@kinds
async def test_replaced_method_is_the_one_that_is_called(loop, tls, connect):
    """R99: by mock.patch.object, which puts the old one back."""
    async with connect(loop, tls) as transport:
        for name in ("close", "is_closing", "get_extra_info", "write", "sendto"):
            if not hasattr(transport, name):
                continue
            with mock.patch.object(transport, name) as replaced:
                getattr(transport, name)()
            replaced.assert_called_once_with()
            assert name not in vars(transport)
        assert not transport.is_closing()


@kinds
async def test_private_attribute_works_or_is_refused(mioloop_loop, tls, connect):
    """R99: asyncio's own names, which a program replaces there; here they are not ignored."""
    names = [
        "_add_reader",
        "_buffer",
        "_conn_lost",
        "_eof",
        "_fatal_error",
        "_loop",
        "_maybe_pause_protocol",
        "_protocol_paused",
        "_read_ready",
        "_read_ready_cb",
        "_write_ready",
    ]
    async with connect(mioloop_loop, tls) as transport:
        for name in names:
            with pytest.raises(AttributeError):
                setattr(transport, name, None)
        assert not vars(transport)


@pytest.mark.known_difference("uvloop", "methods cannot be replaced")
async def test_stream_writer_calls_the_replaced_write(loop):
    """R99: a wrapper that counts bytes, as tracing tools put it in."""
    near, far = socket_pair("tcp")
    with far:
        _, writer = await asyncio.open_connection(sock=near)
        transport = writer.transport
        written = []
        write = transport.write
        transport.write = lambda data: (written.append(data), write(data))
        writer.write(b"one")
        writer.write(b"two")
        await writer.drain()
        writer.close()
        assert await receive_all(far) == b"onetwo"
        assert written == [b"one", b"two"]


@pytest.mark.known_difference("uvloop", "methods cannot be replaced")
async def test_tls_sends_by_the_replaced_write_of_the_transport_below(loop, tls):
    """R99: an object that replaces the stream's methods sees the records, too."""
    sent = []

    async def serve(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client, server_hostname="localhost"
    )
    below = writer.transport._ssl_protocol._transport
    write = below.write
    below.write = lambda data: (sent.append(bytes(data)), write(data))
    writer.write(b"ping")
    assert await reader.read() == b"ping"
    assert sent and all(b"ping" not in record for record in sent)
    writer.close()
    server.close()
    await turns(20)


def test_attributes_of_asyncios_streams_can_be_read(loop, run):
    """R99: the attributes that libraries read exist and have true values."""
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("the names are asyncio's")

    async def main():
        near, far = socket_pair("tcp")
        with far:
            protocol = Recorder(loop)
            transport, _ = await loop.create_connection(lambda: protocol, sock=near)
            assert transport._sock is near
            assert transport._sock_fd == near.fileno()
            assert transport._protocol is protocol
            assert transport._loop is loop
            assert transport._server is None
            assert (transport._closing, transport._conn_lost, transport._eof) == (False, 0, False)
            assert transport._empty_waiter is None
            assert transport.max_size == 256 * 1024
            transport.set_write_buffer_limits(high=1000, low=10)
            assert (transport._low_water, transport._high_water) == (10, 1000)
            assert len(transport._buffer) == 0
            transport.write(b"x" * 8_000_000)
            buffered = transport._buffer        # a sequence of blocks since 3.12
            if not isinstance(buffered, (bytes, bytearray)):
                buffered = b"".join(buffered)
            assert len(buffered) == transport.get_write_buffer_size() > 0
            transport._extra["peername"] = "proxied"
            assert transport.get_extra_info("peername") == "proxied"
            transport.pause_reading()
            assert transport._paused
            transport.abort()
            await protocol.closed()
            assert transport._closing and transport._conn_lost
            assert transport._sock is None

    run(loop, main())


async def test_attribute_that_leads_back_to_its_transport_is_collected(mioloop_loop):
    """A cycle through the attributes is found by the garbage collector."""
    near, far = socket_pair("tcp")
    with far:
        protocol = Recorder(mioloop_loop)
        transport, _ = await mioloop_loop.create_connection(lambda: protocol, sock=near)
        transport.itself = transport
        gone = weakref.ref(transport)
        await send(far, b"x")
        await protocol.received(1)
        transport.abort()
        await protocol.closed()
        protocol.transport = None
        del transport
        await turns()
        gc.collect()
        assert gone() is None


@pytest.mark.known_difference("uvloop", "methods of asyncio's classes are not used")
@kinds
async def test_replaced_get_extra_info_of_base_transport_is_called(loop, tls, connect):
    """R99: asyncio's transports inherit it, so a replacement on the class reaches all of them."""
    async with connect(loop, tls) as transport:
        before = transport.get_extra_info("sockname")
        stdlib_one = asyncio.BaseTransport.get_extra_info
        with mock.patch("asyncio.BaseTransport.get_extra_info") as replaced:
            assert transport.get_extra_info("sockname") is replaced.return_value
        assert replaced.call_args.args[0] == "sockname"  # asyncio's TLS passes None, too
        asked = []

        def wrapper(self, name, default=None):
            asked.append(name)
            return stdlib_one(self, name, default)

        with mock.patch("asyncio.BaseTransport.get_extra_info", wrapper):
            assert transport.get_extra_info("sockname") == before
            assert transport.get_extra_info("unknown", 5) == 5
        assert asked[-2:] == ["sockname", "unknown"]
        assert transport.get_extra_info("sockname") == before
