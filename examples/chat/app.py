"""The web application of the chat. It is written for asyncio, and knows nothing of mioloop.

Routes:
    GET  /                          a page to chat with
    GET  /loop                      the event loop that serves
    GET  /rooms/ROOM/messages       the messages of a room; ?after=ID leaves out the earlier ones
    POST /rooms/ROOM/messages       posts {"author": ..., "text": ...}
    GET  /rooms/ROOM/socket         a WebSocket: the client sends such an object, and hears the room
    GET  /rooms/ROOM/events         server-sent events; Last-Event-ID continues where it ended
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import WSMsgType, web

from examples.chat.messages import Messages

MESSAGES: web.AppKey[Messages] = web.AppKey("messages", Messages)
PAGE = Path(__file__).parent / "page.html"


async def page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def loop_name(request: web.Request) -> web.Response:
    loop = type(asyncio.get_running_loop())
    return web.json_response({"loop": f"{loop.__module__}.{loop.__qualname__}"})


async def read_messages(request: web.Request) -> web.Response:
    messages = await request.app[MESSAGES].since(
        request.match_info["room"], number_in(request.query.get("after", "0"))
    )
    body = "[" + ",".join(message.to_json() for message in messages) + "]"
    return web.Response(text=body, content_type="application/json")


async def post_message(request: web.Request) -> web.Response:
    try:
        author, text = author_and_text(await request.text())
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    message = await request.app[MESSAGES].post(request.match_info["room"], author, text)
    return web.Response(text=message.to_json(), content_type="application/json", status=201)


async def socket(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(heartbeat=30)
    await websocket.prepare(request)
    messages, room = request.app[MESSAGES], request.match_info["room"]

    async def tell() -> None:
        with contextlib.suppress(ConnectionError):      # the client has gone
            async for message in messages.follow(room, after=0):
                await websocket.send_str(message.to_json())
            await websocket.close()     # the server ends, or the client is too slow

    telling = asyncio.create_task(tell())
    try:
        async for received in websocket:
            if received.type is WSMsgType.TEXT:
                try:
                    await messages.post(room, *author_and_text(received.data))
                except ValueError as error:
                    await websocket.send_json({"error": str(error)})
    finally:
        telling.cancel()
        await asyncio.wait([telling])
    return websocket


async def events(request: web.Request) -> web.StreamResponse:
    last = request.headers.get("Last-Event-ID")
    after = None if last is None else number_in(last)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    await response.write(b": hello\n\n")
    async for message in request.app[MESSAGES].follow(request.match_info["room"], after):
        await response.write(f"id: {message.id}\ndata: {message.to_json()}\n\n".encode())
    return response


def author_and_text(body: str) -> tuple[str, str]:
    try:
        fields = json.loads(body)
        author, text = fields["author"], fields["text"]
    except (ValueError, KeyError, TypeError):
        author = text = None
    if not (isinstance(author, str) and isinstance(text, str) and author and text):
        raise ValueError('expected {"author": "...", "text": "..."}')
    return author, text


def number_in(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise web.HTTPBadRequest(text=f"{text!r} is not the number of a message")
    return int(text)


def make_app(database_url: str, redis_url: str) -> web.Application:
    app = web.Application()

    async def connections(app: web.Application) -> AsyncIterator[None]:
        async with Messages.connect(database_url, redis_url) as messages:
            app[MESSAGES] = messages
            yield

    async def end_streams(app: web.Application) -> None:
        app[MESSAGES].end()

    app.cleanup_ctx.append(connections)
    app.on_shutdown.append(end_streams)
    app.add_routes(
        [
            web.get("/", page),
            web.get("/loop", loop_name),
            web.get("/rooms/{room}/messages", read_messages),
            web.post("/rooms/{room}/messages", post_message),
            web.get("/rooms/{room}/socket", socket),
            web.get("/rooms/{room}/events", events),
        ]
    )
    return app
