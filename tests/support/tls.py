"""Certificates for the tests, and TLS connections to the loop under test.

Either both ends are on the loop, or the far end is a blocking ssl socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mioloop.transports.tls_engine import select_engine
from tests.support.connections import socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


@dataclass(frozen=True)
class TLSContexts:
    """The two sides of a TLS connection to `localhost`."""

    authority: Any  # trustme.CA

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext  # a client that does not trust the authority


@pytest.fixture(scope="session")
def certificates() -> TLSContexts:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return TLSContexts(authority, server, client, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.fixture
def tls(request: pytest.FixtureRequest, certificates: TLSContexts) -> Iterator[TLSContexts]:
    """Loops on poll(2) use the engine of ssl.MemoryBIO, so that each is tested by everything."""
    callspec = getattr(request.node, "callspec", None)
    kinds = callspec.params.values() if callspec else ()
    if any(getattr(kind, "selector", None) == "poll" for kind in kinds):
        select_engine("memory")
    yield certificates
    select_engine()


@contextlib.asynccontextmanager
async def tls_pair(loop, tls, server_protocol=None, client_protocol=None, **keywords):
    """Both ends of a TLS connection through a real server, on one loop."""
    server_protocol = server_protocol or Recorder(loop)
    client_protocol = client_protocol or Recorder(loop)
    server = await loop.create_server(
        lambda: server_protocol, "127.0.0.1", 0, ssl=tls.server, **keywords
    )
    transport, _ = await loop.create_connection(
        lambda: client_protocol,
        *server.sockets[0].getsockname(),
        ssl=tls.client,
        server_hostname="localhost",
        **keywords,
    )
    try:
        await asyncio.wait_for(server_protocol.made, 5)
        yield client_protocol, server_protocol
    finally:
        for protocol in (client_protocol, server_protocol):
            if not protocol.lost.done():
                protocol.transport.abort()
            await protocol.closed()
        server.close()
        await server.wait_closed()
        await turns()


class BlockingPeer:
    """The far end: an ssl socket in a thread."""

    def __init__(self, loop, sock, context, server_side=False):
        self.loop, self.sock, self.context, self.server_side = loop, sock, context, server_side
        self.shaking = None

    async def call(self, function, *args):
        return await self.loop.run_in_executor(None, function, *args)

    async def handshake(self):
        name = None if self.server_side else "localhost"

        def work():
            self.sock = self.context.wrap_socket(
                self.sock, server_side=self.server_side, server_hostname=name
            )

        await self.call(work)

    def start_handshake(self):
        """Begin the handshake in the thread, and return the future of its end."""
        self.shaking = asyncio.ensure_future(self.handshake())
        return self.shaking

    async def receive_all(self):
        def work():
            data = bytearray()
            while chunk := self.sock.recv(65536):
                data += chunk
            return bytes(data)

        return await self.call(work)


@contextlib.asynccontextmanager
async def shaking_peer(loop, context, server_side=True, start=True):
    """A socket without a transport, the blocking TLS peer at its far end, and its handshake.

    Without *start*, the test begins the handshake. The peer is closed at the end.
    """
    near, far = socket_pair("tcp")
    peer = BlockingPeer(loop, far, context, server_side)
    if start:
        peer.start_handshake()
    try:
        yield near, peer, peer.shaking
    finally:
        if peer.shaking is not None:
            await asyncio.gather(peer.shaking, return_exceptions=True)
        peer.sock.close()
        far.close()         # a handshake that failed leaves both
        await turns()


@contextlib.asynccontextmanager
async def tls_to_peer(loop, tls, protocol, **keywords):
    """Our client, and a blocking TLS server at the other end."""
    async with shaking_peer(loop, tls.server) as (near, peer, shaking):
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost", **keywords
        )
        await shaking
        yield transport, peer
        if not protocol.lost.done():
            transport.abort()
        await protocol.closed()
