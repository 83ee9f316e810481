"""start_tls(): a connection that becomes one of TLS, and an upgrade that fails: R69."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import weakref

import pytest

from tests.support.accounting import collector_off
from tests.support.connections import reset, socket_pair
from tests.support.protocols import Recorder
from tests.support.tls import shaking_peer, tls_pair
from tests.support.waiting import turns


@pytest.mark.known_difference("asyncio", "leaves it to the collector", until=(3, 11))
@pytest.mark.known_difference(
    "asyncio", "some releases leave it to the collector", since=(3, 12), strict=False)
def test_start_tls_that_fails_leaves_no_cycle(loop, run, tls):
    """R69: the transport goes with the last reference to it."""
    transports = []

    async def main():
        async with shaking_peer(loop, tls.server) as (near, _, _):
            # Do not keep the exception here: its traceback has this frame.
            transport, protocol = await loop.create_connection(asyncio.Protocol, sock=near)
            transports.append(weakref.ref(transport))
            refused = False
            try:
                await loop.start_tls(transport, protocol, tls.stranger, server_hostname="localhost")
            except ssl.SSLCertVerificationError:
                refused = True
            assert refused

    with collector_off():
        run(loop, main())
        assert transports[0]() is None


async def upgrade(loop, transport, protocol, context, **keywords):
    new = await loop.start_tls(transport, protocol, context, **keywords)
    protocol.transport = new
    return new


async def test_start_tls_upgrades_both_sides(loop, tls):
    """R72: STARTTLS: plain text first, then TLS, on client and server."""
    server, client = Recorder(loop), Recorder(loop)
    listener = await loop.create_server(lambda: server, "127.0.0.1", 0)
    await loop.create_connection(lambda: client, *listener.sockets[0].getsockname())
    await asyncio.wait_for(server.made, 5)
    client.transport.write(b"STARTTLS")
    await server.received(8)
    await asyncio.gather(
        upgrade(loop, server.transport, server, tls.server, server_side=True),
        upgrade(loop, client.transport, client, tls.client, server_hostname="localhost"),
    )
    client.transport.write(b"secret")
    assert await server.received(14) == b"STARTTLSsecret"
    server.transport.write(b"answer")
    assert await client.received(6) == b"answer"
    client.transport.close()
    assert await client.closed() is None
    assert await server.closed() is None
    assert client.calls.count("connection_made") == server.calls.count("connection_made") == 1
    listener.close()
    await listener.wait_closed()
    await turns()


@pytest.mark.known_difference("uvloop", "hangs", run=False)
@pytest.mark.known_difference("asyncio", "hangs on 3.10", until=(3, 10), run=False)
async def test_start_tls_of_a_paused_transport(loop, tls):
    """R72: reading that was paused does not stop the handshake."""
    async with shaking_peer(loop, tls.server) as (near, peer, shaking):
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.pause_reading()
        await upgrade(loop, transport, protocol, tls.client, server_hostname="localhost")
        await shaking
        await peer.call(peer.sock.sendall, b"data")
        assert await protocol.received(4) == b"data"
        peer.sock.close()
        await protocol.closed()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
async def test_tls_in_tls(loop, tls):
    """R72: start_tls on a TLS transport, as through an HTTPS proxy."""
    async with tls_pair(loop, tls) as (client, server):
        await asyncio.gather(
            upgrade(loop, server.transport, server, tls.server, server_side=True),
            upgrade(loop, client.transport, client, tls.client, server_hostname="localhost"),
        )
        client.transport.write(b"wrapped twice" * 10_000)
        assert await server.received(130_000) == b"wrapped twice" * 10_000
        client.transport.close()
        await client.closed()
        await server.closed()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
async def test_streams_upgrade_to_tls(loop, tls):
    """R72: StreamWriter.start_tls()."""

    async def serve(reader, writer):
        await reader.readline()
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(tls.server)
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"starttls\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(tls.client, server_hostname="localhost")
    writer.write(b"secret\n")
    assert await reader.readline() == b"SECRET\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await turns(10)


def garbage(transport, far):
    far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.known_difference("asyncio", "by chance tells it, or start_tls() returns", strict=False)
@pytest.mark.known_difference("uvloop", "tells it by chance", strict=False)
@pytest.mark.parametrize(
    "fail",
    [
        garbage,
        lambda transport, far: far.shutdown(socket.SHUT_WR),
        lambda transport, far: reset(far),
        lambda transport, far: transport.abort(),
        None,
    ],
    ids=["garbage", "end of file", "reset", "abort", "timeout"],
)
async def test_start_tls_that_fails_raises_and_tells_the_end_once(loop, tls, fail):
    """R45, R69, R72: the protocol that is given lost its connection, however that came about."""
    near, far = socket_pair("tcp")
    with far:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        upgrading = asyncio.ensure_future(
            loop.start_tls(
                transport,
                protocol,
                tls.client,
                server_hostname="localhost",
                ssl_handshake_timeout=0.05 if fail is None else 5,
            )
        )
        await turns()
        if fail is not None:
            fail(transport, far)
        with pytest.raises(OSError):
            await upgrading
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]
