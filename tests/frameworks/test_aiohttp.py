"""aiohttp, client and server, unmodified on every loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from examples.aiohttp_server import make_app
from examples.compare_loops import checks
from tests.frameworks.certificates import Certificates

Run = Callable[..., Any]


@pytest.fixture
def served_file(tmp_path: Path) -> Path:
    path = tmp_path / "served.bin"
    path.write_bytes(bytes(range(256)) * 8 * 1024)      # 2 MiB: sending it takes several turns
    return path


@asynccontextmanager
async def serving(
    app: web.Application, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[str]:
    """The URL at which *app* is served."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5, **settings)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        yield f"{'http' if tls is None else 'https'}://{host}:{port}"
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class TransportSecurity:
    """Plain HTTP, or HTTPS."""

    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | bool = True

    @asynccontextmanager
    async def serving(
        self, app: web.Application
    ) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
        """The URL at which *app* is served, and a client's session for it."""
        async with (
            serving(app, self.server) as url,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.client)) as session,
        ):
            yield url, session


@pytest.fixture(params=["http", "https"])
def transport_security(
    request: pytest.FixtureRequest, certificates: Certificates
) -> TransportSecurity:
    if request.param == "http":
        return TransportSecurity()
    return TransportSecurity(certificates.server, certificates.client)


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


async def test_https_answers_like_http(
    loop: asyncio.AbstractEventLoop, served_file: Path, certificates: Certificates
) -> None:
    check_file, _ = checks.file_checks(served_file)
    async with (
        serving(make_app(served_file), certificates.server) as url,
        aiohttp.ClientSession(
            url, connector=aiohttp.TCPConnector(ssl=certificates.client)
        ) as session,
    ):
        for check in (check_file, checks.check_websocket, checks.check_chunked_upload):
            await check(session)


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


async def test_client_that_leaves_in_the_middle_of_a_response_ends_its_handler(
    loop: asyncio.AbstractEventLoop
) -> None:
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


async def test_client_that_leaves_in_the_middle_of_an_upload_ends_its_handler(
    loop: asyncio.AbstractEventLoop
) -> None:
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


async def test_client_timeout_ends_a_request_that_gets_no_answer(
    loop: asyncio.AbstractEventLoop
) -> None:
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


def test_file_response_is_sent_by_the_loop_s_sendfile(
    mioloop_loop: Any, run: Run, served_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    original = mioloop_loop.sendfile

    async def sendfile(transport: Any, file: Any, *args: Any, **kwargs: Any) -> int:
        sent.append(await original(transport, file, *args, fallback=False))
        return sent[-1]

    monkeypatch.setattr(mioloop_loop, "sendfile", sendfile)
    check_file, check_range = checks.file_checks(served_file)
    check_answers(mioloop_loop, run, served_file, check_file)
    check_answers(mioloop_loop, run, served_file, check_range)
    size = served_file.stat().st_size
    assert sent == [size, size - size // 2]


def test_client_that_leaves_in_the_middle_of_a_file_does_no_harm(
    loop: asyncio.AbstractEventLoop, run: Run, served_file: Path
) -> None:
    check_file, _ = checks.file_checks(served_file)

    async def main() -> None:
        async with serving(make_app(served_file)) as url:
            request = b"GET /file HTTP/1.1\r\nHost: test\r\n\r\n"
            await asyncio.gather(*(send_and_reset(url, request) for _ in range(5)))
            async with aiohttp.ClientSession(url) as session:
                await check_file(session)

    run(loop, main())


def test_one_connection_is_kept_for_many_requests(
    loop: asyncio.AbstractEventLoop, run: Run
) -> None:
    peers = set()

    async def remember(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=await request.read())

    async def main() -> None:
        async with serving(app_of(remember)) as url, aiohttp.ClientSession() as session:
            for number in range(100):
                async with session.post(url, data=b"x" * number * 100) as response:
                    assert await response.read() == b"x" * number * 100

    run(loop, main())
    assert len(peers) == 1


async def test_client_that_leaves_cancels_a_handler_that_waits(
    loop: asyncio.AbstractEventLoop
) -> None:
    """With handler_cancellation, as aiohttp did by default up to 3.6."""
    started = asyncio.Event()
    cancelled = asyncio.Event()

    async def waits(request: web.Request) -> web.Response:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    async with serving(app_of(waits), handler_cancellation=True) as url:
        await send_and_reset(url, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", until=started)
        await cancelled.wait()


async def test_client_cancelled_in_the_middle_of_a_body_closes_its_connection(
    loop: asyncio.AbstractEventLoop, transport_security: TransportSecurity
) -> None:
    ended = asyncio.Event()
    reading = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        if request.query_string == "short":
            return web.Response(text="short")
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 64 * 1024)
        finally:
            ended.set()

    async with transport_security.serving(app_of(endless)) as (url, session):
        async def read_on() -> None:
            async with session.get(url) as response:
                async for _ in response.content.iter_any():
                    reading.set()

        task = asyncio.ensure_future(read_on())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()
        async with session.get(f"{url}?short") as response:     # the session is as it was
            assert await response.text() == "short"


async def test_upload_cancelled_in_the_middle_is_an_error_of_the_handler(
    loop: asyncio.AbstractEventLoop, transport_security: TransportSecurity
) -> None:
    ended: asyncio.Future[BaseException] = loop.create_future()
    reading = asyncio.Event()

    async def read_all(request: web.Request) -> web.Response:
        try:
            async for _ in request.content.iter_any():
                reading.set()
        except BaseException as exc:
            ended.set_result(exc)
            raise
        return web.Response()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    async with transport_security.serving(app_of(read_all)) as (url, session):
        task = asyncio.ensure_future(session.post(url, data=endless()))
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        exc = await ended
        assert isinstance(
            exc, (ConnectionError, asyncio.CancelledError, aiohttp.ClientPayloadError)
        )


@pytest.mark.time_limit(30)
async def test_upload_to_a_slow_reader_is_held_back(
    loop: asyncio.AbstractEventLoop, transport_security: TransportSecurity
) -> None:
    piece, count = b"y" * 100_000, 200                  # far more than sockets and buffers hold
    produced = 0
    read_on = asyncio.Event()
    held: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(count):
            produced += 1
            yield piece

    async def slow(request: web.Request) -> web.Response:
        await request.content.readany()
        await read_on.wait()
        held.append(produced)
        size = 0
        async for data in request.content.iter_any():
            size += len(data)
        return web.Response(text=str(size))

    async with transport_security.serving(app_of(slow)) as (url, session):
        task = asyncio.ensure_future(session.post(url, data=pieces()))
        while not writing_is_paused(session):
            await asyncio.sleep(0)
        read_on.set()
        async with await task as response:
            assert 0 < int(await response.text()) <= count * len(piece)
        assert held[0] < produced == count


def writing_is_paused(session: aiohttp.ClientSession) -> bool:
    """Whether the connection that *session* uses has more to send than it may hold."""
    assert session.connector is not None
    return any(getattr(c, "_paused", False) for c in session.connector._acquired)


@pytest.mark.time_limit(20)
async def test_websockets_of_a_room_hear_each_other(
    loop: asyncio.AbstractEventLoop, transport_security: TransportSecurity
) -> None:
    clients = 20
    room: set[web.WebSocketResponse] = set()
    everybody = asyncio.Event()

    async def join(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=5)
        await websocket.prepare(request)
        room.add(websocket)
        if len(room) == clients:
            everybody.set()
        async for message in websocket:
            for member in room:
                await member.send_str(message.data)
        room.discard(websocket)
        return websocket

    async with transport_security.serving(app_of(join)) as (url, session):
        sockets = await asyncio.gather(*(session.ws_connect(url) for _ in range(clients)))
        await everybody.wait()
        for number, websocket in enumerate(sockets):
            await websocket.send_str(str(number))
        for websocket in sockets:
            heard = [await websocket.receive_str() for _ in sockets]
            assert sorted(heard, key=int) == [str(number) for number in range(clients)]
        await asyncio.gather(*(websocket.close() for websocket in sockets))


async def test_websocket_of_a_client_that_vanished_is_closed(
    loop: asyncio.AbstractEventLoop, transport_security: TransportSecurity
) -> None:
    closed: asyncio.Future[int | None] = loop.create_future()

    async def wait_for_the_end(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            pass
        closed.set_result(websocket.close_code)
        return websocket

    async with transport_security.serving(app_of(wait_for_the_end)) as (url, session):
        websocket = await session.ws_connect(url)
        transport = websocket._response.connection.transport
        transport.abort()
        assert await closed == 1006
        await websocket.close()


async def test_cleanup_waits_for_the_request_in_progress(loop: asyncio.AbstractEventLoop) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def waits(request: web.Request) -> web.Response:
        started.set()
        await finish.wait()
        return web.Response(text="finished")

    runner = web.AppRunner(app_of(waits), access_log=None, shutdown_timeout=10)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(session.get(f"http://{host}:{port}/"))
        await started.wait()
        cleanup = asyncio.ensure_future(runner.cleanup())
        loop.call_soon(finish.set)
        async with await asking as response:
            assert await response.text() == "finished"
        await cleanup


async def test_unix_socket_is_served(
    loop: asyncio.AbstractEventLoop, served_file: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    runner = web.AppRunner(make_app(served_file), access_log=None)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    try:
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
            await checks.check_json(session)
            await checks.check_websocket(session)
    finally:
        await runner.cleanup()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The steps of an HTTP proxy that is asked to CONNECT."""
    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split(b" ")[1].decode().partition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(
        copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True
    )
    for end in (writer, far_writer):
        end.close()
        with contextlib.suppress(OSError):
            await end.wait_closed()


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_https_through_a_proxy_is_tls_started_in_its_tunnel(
    loop: asyncio.AbstractEventLoop,
    served_file: Path,
    certificates: Certificates,
    proxy_scheme: str,
) -> None:
    """loop.start_tls() on a connection in use; with an HTTPS proxy, TLS in TLS."""
    if proxy_scheme == "https" and sys.version_info < (3, 11):
        pytest.skip("asyncio has TLS in TLS since 3.11")
    check_file, _ = checks.file_checks(served_file)
    proxy = await asyncio.start_server(
        tunnel, "127.0.0.1", 0, ssl=certificates.server if proxy_scheme == "https" else None
    )
    proxy_port = proxy.sockets[0].getsockname()[1]
    async with (
        serving(make_app(served_file), certificates.server) as url,
        aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(ssl=certificates.client),
            proxy=f"{proxy_scheme}://127.0.0.1:{proxy_port}",
        ) as session,
    ):
        await check_file(session)
        await checks.check_chunked_upload(session)
    proxy.close()
    await proxy.wait_closed()
