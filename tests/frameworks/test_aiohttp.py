"""aiohttp, client and server, unmodified on every loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from examples.aiohttp_server import make_app
from examples.compare_loops import checks

Run = Callable[..., Any]


@pytest.fixture
def served_file(tmp_path: Path) -> Path:
    path = tmp_path / "served.bin"
    path.write_bytes(bytes(range(256)) * 8 * 1024)      # 2 MiB: sending it takes several turns
    return path


@asynccontextmanager
async def serving(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL at which *app* is served."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        yield f"{'http' if tls is None else 'https'}://{host}:{port}"
    finally:
        await runner.cleanup()


def check_answers(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path, check: checks.Check
) -> None:
    async def main() -> None:
        async with (
            serving(make_app(served_file)) as url,
            aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as session,
        ):
            await check(session)

    run(loop, main())


@pytest.mark.parametrize(
    "check",
    [
        checks.check_index,
        checks.check_json,
        checks.check_stream,
        checks.check_websocket,
        checks.check_raw_upload,
        checks.check_chunked_upload,
        checks.check_multipart_upload,
        checks.check_not_found,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_client_and_server_agree_on(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path, check: checks.Check
) -> None:
    check_answers(loop, run, served_file, check)


@pytest.mark.parametrize("part", ["whole", "range"])
def test_file_response_delivers_the_file(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path, part: str
) -> None:
    check_file, check_range = checks.file_checks(served_file)
    check_answers(loop, run, served_file, check_file if part == "whole" else check_range)


def test_keep_alive_connections_serve_many_requests(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path
) -> None:
    async def main() -> checks.CheckResult:
        async with serving(make_app(served_file)) as url:
            return await checks.check_server(
                url, served_file, requests=500, connections=16, limit_s=15
            )

    assert run(loop, main()).errors == []


def test_https_answers_like_http(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path
) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    check_file, _ = checks.file_checks(served_file)

    async def main() -> None:
        async with (
            serving(make_app(served_file), server_tls) as url,
            aiohttp.ClientSession(
                url, connector=aiohttp.TCPConnector(ssl=client_tls)
            ) as session,
        ):
            for check in (check_file, checks.check_websocket, checks.check_chunked_upload):
                await check(session)

    run(loop, main())


def app_of(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/", handler)
    return app


async def send_and_reset(url: str, request: bytes, until: asyncio.Event | None = None) -> None:
    """Send the beginning of a request, wait until *until*, or for the first bytes of the answer,
    and drop the connection without reading on."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await (reader.read(1) if until is None else until.wait())
    writer.transport.abort()


def test_client_that_leaves_in_the_middle_of_a_response_ends_its_handler(
    loop: asyncio.AbstractEventLoop, run: Run
) -> None:
    async def main() -> None:
        ended: asyncio.Future[BaseException] = loop.create_future()

        async def endless(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"x" * 64 * 1024)
            except BaseException as exc:
                ended.set_result(exc)
                raise

        async with serving(app_of(endless)) as url:
            await send_and_reset(url, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            exc = await ended
            assert isinstance(exc, (ConnectionError, asyncio.CancelledError))

    run(loop, main())


def test_client_that_leaves_in_the_middle_of_an_upload_ends_its_handler(
    loop: asyncio.AbstractEventLoop, run: Run
) -> None:
    async def main() -> None:
        started = asyncio.Event()
        ended: asyncio.Future[BaseException] = loop.create_future()

        async def read_all(request: web.Request) -> web.Response:
            try:
                async for _ in request.content.iter_any():
                    started.set()
            except BaseException as exc:
                ended.set_result(exc)
                raise
            return web.Response()

        async with serving(app_of(read_all)) as url:
            head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n"
            await send_and_reset(url, head + b"x" * 1000, until=started)
            exc = await ended
            assert isinstance(
                exc, (ConnectionError, asyncio.CancelledError, aiohttp.ClientPayloadError)
            )

    run(loop, main())


def test_server_that_dies_in_the_middle_of_a_body_is_an_error_of_the_client(
    loop: asyncio.AbstractEventLoop, run: Run
) -> None:
    async def die(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    async def main() -> None:
        async with serving(app_of(die)) as url, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientPayloadError):
                async with session.get(url) as response:
                    await response.read()

    run(loop, main())


def test_client_timeout_ends_a_request_that_gets_no_answer(
    loop: asyncio.AbstractEventLoop, run: Run
) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def silent(request: web.Request) -> web.Response:
            await release.wait()
            return web.Response()

        timeout = aiohttp.ClientTimeout(total=0.05)
        async with (
            serving(app_of(silent)) as url,
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            with pytest.raises(asyncio.TimeoutError):
                await session.get(url)
            release.set()

    run(loop, main())
