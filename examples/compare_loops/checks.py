"""Is every answer right? Each route in all its forms, then many requests on keep-alive connections.

The client is aiohttp on asyncio's own loop, for every loop of the server.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from ..aiohttp_server import INDEX, STREAM_CHUNKS, stream_chunk

REQUEST_S = 10.0
UPLOAD = b"".join(b"%07d\n" % number for number in range(16 * 1024))      # 128 KiB
# Sizes around the limits at which a WebSocket frame's header grows, and one that takes many reads.
WEBSOCKET_SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)

Check = Callable[[aiohttp.ClientSession], Awaitable[None]]


class WrongAnswer(Exception):
    """The server gave a wrong answer."""


@dataclass
class CheckResult:
    """The number of requests made, and a message for each that went wrong."""

    requests: int = 0
    errors: list[str] = field(default_factory=list)


def expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise WrongAnswer(f"{what}: got {actual!r:.100}, not {expected!r:.100}")


async def check_index(session: aiohttp.ClientSession) -> None:
    async with session.get("/") as response:
        expect("GET / status", response.status, 200)
        expect("GET / type", response.content_type, "text/html")
        expect("GET / body", await response.text(), INDEX)


async def check_json(session: aiohttp.ClientSession) -> None:
    async with session.get("/json") as response:
        expect("GET /json status", response.status, 200)
        document = await response.json()
        expect("GET /json body", document, {"message": "Hello, world!", "path": "/json"})


async def check_stream(session: aiohttp.ClientSession) -> None:
    async with session.get("/stream") as response:
        expect("GET /stream status", response.status, 200)
        expect("GET /stream encoding", response.headers.get("Transfer-Encoding"), "chunked")
        body = await response.read()
        expect("GET /stream body", body, b"".join(map(stream_chunk, range(STREAM_CHUNKS))))


async def check_not_found(session: aiohttp.ClientSession) -> None:
    async with session.get("/no-such-route") as response:
        expect("GET /no-such-route status", response.status, 404)
        await response.read()


def file_checks(file: Path) -> tuple[Check, Check]:
    """Checks of GET /file, whole and a range of it, for a server that serves *file*."""
    content = file.read_bytes()
    middle = len(content) // 2

    async def check_file(session: aiohttp.ClientSession) -> None:
        async with session.get("/file") as response:
            expect("GET /file status", response.status, 200)
            expect("GET /file length", response.content_length, len(content))
            expect("GET /file body", await response.read(), content)

    async def check_range(session: aiohttp.ClientSession) -> None:
        headers = {"Range": f"bytes={middle}-"}
        async with session.get("/file", headers=headers) as response:
            expect("GET /file range status", response.status, 206)
            expect("GET /file range body", await response.read(), content[middle:])

    return check_file, check_range


async def check_websocket(session: aiohttp.ClientSession) -> None:
    async with session.ws_connect("/ws") as websocket:
        for size in WEBSOCKET_SIZES:
            await websocket.send_str("x" * size)
            expect("WebSocket text", await websocket.receive_str(timeout=REQUEST_S), "x" * size)
            await websocket.send_bytes(b"\xff" * size)
            message = await websocket.receive_bytes(timeout=REQUEST_S)
            expect("WebSocket binary", message, b"\xff" * size)
        await websocket.close()
        expect("WebSocket close code", websocket.close_code, 1000)


async def check_raw_upload(session: aiohttp.ClientSession) -> None:
    await _check_upload(session, UPLOAD, "raw")


async def check_chunked_upload(session: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(UPLOAD), 10_000):
            yield UPLOAD[start : start + 10_000]

    await _check_upload(session, pieces(), "chunked")


async def check_multipart_upload(session: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("first", UPLOAD[:1000], filename="first.bin")
    form.add_field("second", UPLOAD[1000:], filename="second.bin")
    await _check_upload(session, form, "multipart")


async def _check_upload(
    session: aiohttp.ClientSession, data: bytes | AsyncIterator[bytes] | aiohttp.FormData, how: str
) -> None:
    async with session.post("/upload", data=data) as response:
        expect(f"POST /upload {how} status", response.status, 200)
        expected = {"size": len(UPLOAD), "sha256": hashlib.sha256(UPLOAD).hexdigest()}
        expect(f"POST /upload {how} answer", await response.json(), expected)


async def check_server(
    url: str, file: Path, requests: int, connections: int, limit_s: float
) -> CheckResult:
    """Check the server at *url*, which serves *file*: each route, then a mix of *requests*
    requests over *connections* connections. The result has a message for every error, also for
    a check that did not end within *limit_s* seconds."""
    result = CheckResult()
    try:
        await asyncio.wait_for(_check_all(result, url, file, requests, connections), limit_s)
    except asyncio.TimeoutError:
        result.errors.append(f"only {result.requests} requests were answered in {limit_s:g} s")
    return result


async def _check_all(
    result: CheckResult, url: str, file: Path, requests: int, connections: int
) -> None:
    opened = 0

    async def on_connection_create_end(*_: object) -> None:
        nonlocal opened
        opened += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(on_connection_create_end)
    check_file, check_range = file_checks(file)

    async with _session(url, 1) as session:
        for check in (
            *(check_index, check_json, check_stream, check_file, check_range, check_not_found),
            *(check_websocket, check_raw_upload, check_chunked_upload, check_multipart_upload),
        ):
            await _run_check(check, session, result)

    rare = {0: check_file, 10: check_stream, 20: check_raw_upload, 30: check_multipart_upload}
    mix = iter([rare.get(number % 50, check_json) for number in range(requests)])
    async with _session(url, connections, trace) as session:
        workers = [_work(mix, session, result) for _ in range(connections)]
        await asyncio.gather(*workers)
    # One connection too many is also the sign of a request that failed, and that the client has
    # silently made again.
    expected = min(connections, requests)
    if opened != expected:
        result.errors.append(f"{opened} connections were opened where {expected} should be kept")


def _session(
    url: str, connections: int, trace: aiohttp.TraceConfig | None = None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_S),
        trace_configs=[trace] if trace else None,
    )


async def _work(
    checks: Iterator[Check], session: aiohttp.ClientSession, result: CheckResult
) -> None:
    for check in checks:
        await _run_check(check, session, result)


async def _run_check(check: Check, session: aiohttp.ClientSession, result: CheckResult) -> None:
    result.requests += 1
    try:
        await check(session)
    except (WrongAnswer, aiohttp.ClientError, asyncio.TimeoutError, OSError, TypeError) as exc:
        # TypeError: a WebSocket message of another kind than was asked for.
        result.errors.append(f"{check.__name__}: {type(exc).__name__}: {exc}")
