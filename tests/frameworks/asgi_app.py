"""The ASGI application that uvicorn and hypercorn serve. It knows nothing of mioloop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket_echo(receive, send)
    else:
        handler = {"/": which_loop, "/echo": echo, "/stream": stream}[scope["path"]]
        await handler(receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    await receive()
    log("app: startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    log("app: shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def which_loop(receive: Receive, send: Send) -> None:
    loop = asyncio.get_running_loop()
    name = f"{type(loop).__module__}.{type(loop).__qualname__}"
    body = json.dumps({"loop": name, "repr": repr(loop)}).encode()
    await begin(send)
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    await begin(send)
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            log("app: disconnect")
            return
        more_body = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": more_body})


async def stream(receive: Receive, send: Send) -> None:
    await begin(send)
    for number in range(1000):
        await send({"type": "http.response.body", "body": b"%9d\n" % number, "more_body": True})
        if number % 100 == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body"})


async def websocket_echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})
