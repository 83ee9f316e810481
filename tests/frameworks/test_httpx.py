"""An unmodified httpx on transports of anyio, against an aiohttp server on the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from examples.aiohttp_server import STREAM_CHUNKS, make_app, stream_chunk
from tests.frameworks.certificates import Certificates

httpx = pytest.importorskip("httpx")

Run = Callable[..., Any]


@pytest.fixture(params=["http", "https"])
def server_tls(
    request: pytest.FixtureRequest, certificates: Certificates
) -> ssl.SSLContext | None:
    return certificates.server if request.param == "https" else None


async def hang(request: web.Request) -> web.StreamResponse:
    """The beginning of an answer, and no more of it until the client has gone."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"beginning")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return response


@asynccontextmanager
async def serving(
    certificates: Certificates, server_tls: ssl.SSLContext | None, **settings: Any
) -> AsyncIterator[Any]:
    """A client of a server of examples.aiohttp_server's routes, and /hang."""
    app = make_app(Path(__file__))
    app.router.add_get("/hang", hang)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=5, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls).start()
        host, port = runner.addresses[0][:2]
        url = f"{'http' if server_tls is None else 'https'}://{host}:{port}"
        async with httpx.AsyncClient(
            base_url=url, verify=certificates.client, **{"timeout": 10, **settings}
        ) as client:
            yield client
    finally:
        await runner.cleanup()


async def test_many_requests_at_once_are_answered(
    loop: asyncio.AbstractEventLoop, certificates: Certificates, server_tls: ssl.SSLContext | None
) -> None:
    limits = httpx.Limits(max_connections=5)
    async with serving(certificates, server_tls, limits=limits) as client:
        answers = await asyncio.gather(*(client.get("/json") for _ in range(15)))
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["path"] == "/json" for answer in answers)


async def test_bodies_are_streamed_both_ways(
    loop: asyncio.AbstractEventLoop, certificates: Certificates, server_tls: ssl.SSLContext | None
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%04d" % number * 2500

    async with serving(certificates, server_tls) as client:
        answer = await client.post("/upload", content=pieces())
        assert answer.json()["size"] == 1_000_000
        async with client.stream("GET", "/stream") as response:
            body = b"".join([piece async for piece in response.aiter_raw()])
        assert body == b"".join(map(stream_chunk, range(STREAM_CHUNKS)))


async def test_read_timeout_in_the_middle_of_a_body(
    loop: asyncio.AbstractEventLoop, certificates: Certificates, server_tls: ssl.SSLContext | None
) -> None:
    timeout = httpx.Timeout(10, read=0.05)
    async with serving(certificates, server_tls, timeout=timeout) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/hang")
        assert (await client.get("/json", timeout=10)).status_code == 200


async def test_cancelled_in_the_middle_of_a_body(
    loop: asyncio.AbstractEventLoop, certificates: Certificates, server_tls: ssl.SSLContext | None
) -> None:
    async with serving(certificates, server_tls) as client:
        began = asyncio.Event()

        async def read_on() -> None:
            async with client.stream("GET", "/hang") as response:
                async for _ in response.aiter_raw():
                    began.set()

        task = asyncio.ensure_future(read_on())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.get("/json")).status_code == 200


async def test_refused_connection_and_unknown_authority_are_connect_errors(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    async with serving(certificates, certificates.server) as client:
        async with httpx.AsyncClient(timeout=10) as stranger:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get(client.base_url)
        url = client.base_url
    async with httpx.AsyncClient(verify=certificates.client, timeout=10) as late:
        with pytest.raises(httpx.ConnectError):
            await late.get(url)

# A handshake that the client gave up is nothing to report.
