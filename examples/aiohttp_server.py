"""A small aiohttp application, on the event loop of your choice.

    python examples/aiohttp_server.py --loop mioloop --port 8080

Only `main` knows that there are several loops. The application is written for asyncio, and
`mioloop.run()` in the place of `asyncio.run()` runs it on mioloop.

Routes:
    GET  /         a page that lists the other routes
    GET  /json     a small JSON document
    GET  /stream   a chunked body of `STREAM_CHUNKS` chunks
    GET  /file     the file given by --file
    GET  /ws       a WebSocket that echoes text and binary messages
    POST /upload   takes a raw or multipart body; answers its size and SHA-256

The first line on stdout is a JSON object with "host", "port" (the one that was bound, also when
--port is 0) and "loop" (the class that really runs). SIGTERM and SIGINT end the server cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import BodyPartReader, WSMsgType, web

STREAM_CHUNKS = 64
FILE: web.AppKey[Path] = web.AppKey("file", Path)

INDEX = """<!doctype html>
<title>mioloop and aiohttp</title>
<h1>mioloop and aiohttp</h1>
<ul>
<li><a href="/json">/json</a>
<li><a href="/stream">/stream</a>
<li><a href="/file">/file</a>
<li>/ws: a WebSocket that echoes
<li>/upload: POST a raw or multipart body
</ul>
"""


def stream_chunk(number: int) -> bytes:
    """The chunk *number* of GET /stream: 1 KiB, different for each number."""
    return f"chunk {number:06d}\n".encode().ljust(1024, b".")


async def index(request: web.Request) -> web.Response:
    return web.Response(text=INDEX, content_type="text/html")


async def json_document(request: web.Request) -> web.Response:
    return web.json_response({"message": "Hello, world!", "path": request.path})


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number in range(STREAM_CHUNKS):
        await response.write(stream_chunk(number))
    await response.write_eof()
    return response


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[FILE])


async def websocket_echo(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def upload(request: web.Request) -> web.Response:
    size = 0
    digest = hashlib.sha256()
    async for chunk in body_of(request):
        size += len(chunk)
        digest.update(chunk)
    return web.json_response({"size": size, "sha256": digest.hexdigest()})


async def body_of(request: web.Request) -> AsyncIterator[bytes]:
    """The bytes that were uploaded: the parts of a multipart body one after another, or all of
    any other body. Never the whole of it in memory."""
    if not request.content_type.startswith("multipart/"):
        async for chunk in request.content.iter_chunked(64 * 1024):
            yield chunk
        return
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise web.HTTPBadRequest(text="a multipart body inside another is not supported")
        while chunk := await part.read_chunk():
            yield bytes(chunk)


def make_app(file_to_serve: Path) -> web.Application:
    """The application; GET /file answers *file_to_serve*."""
    app = web.Application()
    app[FILE] = file_to_serve
    app.add_routes(
        [
            web.get("/", index),
            web.get("/json", json_document),
            web.get("/stream", stream),
            web.get("/file", file),
            web.get("/ws", websocket_echo),
            web.post("/upload", upload),
        ]
    )
    return app


async def serve(app: web.Application, host: str, port: int) -> None:
    """Serve *app* until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound_host, bound_port, *_ = runner.addresses[0]
        loop_class = f"{type(loop).__module__}.{type(loop).__qualname__}"
        print(
            json.dumps({"host": bound_host, "port": bound_port, "loop": loop_class}), flush=True
        )
        await stop.wait()
    finally:
        await runner.cleanup()


def port_number(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (port := int(text)) <= 65535:
            return port
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; 0 to 65535")


def existing_file(text: str) -> Path:
    if not (path := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="A small aiohttp application.")
    parser.add_argument("--loop", choices=["mioloop", "uvloop", "asyncio"], default="mioloop")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=0, help="0: the system chooses")
    parser.add_argument(
        "--file",
        type=existing_file,
        default=Path(__file__),
        help="what GET /file answers (default: this program)",
    )
    options = parser.parse_args()
    module = importlib.import_module(options.loop)      # each of them has a run()
    module.run(serve(make_app(options.file), options.host, options.port))


if __name__ == "__main__":
    main()
