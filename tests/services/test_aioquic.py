"""An unmodified aioquic, client and server of HTTP/3: datagrams, timers, and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST
from tests.frameworks.certificates import Certificates

pytest.importorskip("aioquic")
quic = pytest.importorskip("aioquic.asyncio")
quic_protocol = pytest.importorskip("aioquic.asyncio.protocol")
h3 = pytest.importorskip("aioquic.h3.connection")
h3_events = pytest.importorskip("aioquic.h3.events")
quic_events = pytest.importorskip("aioquic.quic.events")
configuration = pytest.importorskip("aioquic.quic.configuration")

pytestmark = pytest.mark.services


class Peer(quic_protocol.QuicConnectionProtocol):  # type: ignore[misc, name-defined]
    """One side of an HTTP/3 connection: gathers the headers and the body of each stream."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.http: Any = None
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytearray] = {}

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, quic_events.ProtocolNegotiated):
            self.http = h3.H3Connection(self._quic)
        if self.http is None:
            return
        for received in self.http.handle_event(event):
            stream = received.stream_id
            if isinstance(received, h3_events.HeadersReceived):
                self.headers[stream] = dict(received.headers)
                self.bodies[stream] = bytearray()
            elif isinstance(received, h3_events.DataReceived):
                self.bodies[stream] += received.data
            if received.stream_ended:
                self.on_message(stream, self.headers.pop(stream), bytes(self.bodies.pop(stream)))

    def send_message(self, stream: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.http.send_headers(stream, headers)
        self.http.send_data(stream, body, end_stream=True)
        self.transmit()

    def on_message(self, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
        raise NotImplementedError


class Server(Peer):
    """Answers each request with its path and its body."""

    def on_message(self, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
        answer = headers[b":path"] + b" " + body
        self.send_message(stream, [(b":status", b"200")], answer)


class Client(Peer):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.answers: dict[int, asyncio.Future[tuple[bytes, bytes]]] = {}

    async def request(self, path: bytes, body: bytes = b"") -> tuple[bytes, bytes]:
        """The status and the body of the answer."""
        stream = self._quic.get_next_available_stream_id()
        answer = self.answers[stream] = asyncio.get_running_loop().create_future()
        method = b"POST" if body else b"GET"
        headers = [
            (b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"),
            (b":path", path),
        ]
        self.send_message(stream, headers, body)
        return await answer

    def on_message(self, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.answers.pop(stream).set_result((headers[b":status"], body))


@asynccontextmanager
async def connected(certificates: Certificates) -> AsyncIterator[Any]:
    serving = configuration.QuicConfiguration(is_client=False, alpn_protocols=h3.H3_ALPN)
    serving.load_cert_chain(certificates.server_pem, certificates.server_pem)
    asking = configuration.QuicConfiguration(alpn_protocols=h3.H3_ALPN, server_name="localhost")
    asking.load_verify_locations(certificates.authority_pem)
    server = await quic.serve(HOST, 0, configuration=serving, create_protocol=Server)
    try:
        port = server._transport.get_extra_info("sockname")[1]
        async with quic.connect(
            HOST, port, configuration=asking, create_protocol=Client
        ) as client:
            yield client
    finally:
        server.close()


async def test_requests_at_once_share_one_connection(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    async with connected(certificates) as client:
        answers = await asyncio.gather(*(client.request(b"/%d" % n) for n in range(20)))
        assert answers == [(b"200", b"/%d " % number) for number in range(20)]


@pytest.mark.time_limit(30)
async def test_body_of_1_megabyte_goes_both_ways(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    """Flow control and congestion control: the timers of the loop drive both."""
    body = os.urandom(1 << 20)
    async with connected(certificates) as client:
        assert await client.request(b"/upload", body) == (b"200", b"/upload " + body)


async def test_ping_is_answered(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    async with connected(certificates) as client:
        await client.ping()
        assert await client.request(b"/after") == (b"200", b"/after ")
