"""In-process workloads: servers that send a token to each of many open responses, again and again.

A program in a child process reads them all, so that the processor time is the server's. A token
has the moment at which it was due, on the clock that both processes share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from mioloop.compare.measure import servers

INTERVAL_S = 0.02               # a fast language model makes 50 tokens a second
TICKS = 50
TOKEN = b"data: %018.6f\n\n"

# Opens that many connections to the port, and reads until all responses have ended. Prints how
# late each token was, as doubles.
READER = r"""
import array, re, selectors, socket, sys, time

port, count = int(sys.argv[1]), int(sys.argv[2])
selector = selectors.DefaultSelector()
token = re.compile(rb"data: ([0-9.]{18})\n\n")
late, tails = array.array("d"), {}
for _ in range(count):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    sock.setblocking(False)
    selector.register(sock, selectors.EVENT_READ)
    tails[sock] = b""
while tails:
    for key, _ in selector.select():
        data, now = key.fileobj.recv(65536), time.monotonic()
        if not data:
            selector.unregister(key.fileobj)
            del tails[key.fileobj]
            key.fileobj.close()
            continue
        data, end = tails[key.fileobj] + data, 0
        for found in token.finditer(data):
            late.append(now - float(found[1]))
            end = found.end()
        tails[key.fileobj] = data[end:][-4096:]
sys.stdout.buffer.write(late.tobytes())
"""


class Audience:
    """The open responses: functions that send one token, and futures that end a response."""

    def __init__(self) -> None:
        self.members: list[tuple[Callable[[bytes], Coroutine[Any, Any, None]], Any]] = []

    async def stay(self, send: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        ended = asyncio.get_running_loop().create_future()
        self.members.append((send, ended))
        await ended

    async def stream(self, count: int, ticks: int) -> None:
        """Wait for *count* responses, send a token to each at each tick, and end them."""
        while len(self.members) < count:
            await asyncio.sleep(0.01)
        due = time.monotonic()
        for _ in range(ticks):
            due = max(due + INTERVAL_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            token = TOKEN % due
            for send, _ in self.members:
                await send(token)
        for _, ended in self.members:
            ended.set_result(None)
        self.members.clear()


async def _serve_aiohttp(audience: Audience) -> int:
    from aiohttp import web

    async def tokens(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await audience.stay(response.write)
        return response

    app = web.Application()
    app.router.add_get("/", tokens)
    return await servers.serve_aiohttp(app)


async def _serve_asgi(audience: Audience) -> int:
    async def tokens(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await audience.stay(
            lambda token: send({"type": "http.response.body", "body": token, "more_body": True})
        )
        await send({"type": "http.response.body", "body": b""})

    return await servers.serve_asgi(tokens, lifespan="off")


_SERVERS = {"aiohttp": _serve_aiohttp, "uvicorn": _serve_asgi}
_started: dict[tuple[str, asyncio.AbstractEventLoop], tuple[Audience, int]] = {}


async def _stream(server: str, responses: int, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    if (server, loop) not in _started:      # it goes on serving until the process ends
        audience = Audience()
        _started[server, loop] = audience, await _SERVERS[server](audience)
    audience, port = _started[server, loop]
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", READER, str(port), str(responses),
        stdout=asyncio.subprocess.PIPE,
    )
    await audience.stream(responses, count // responses)
    output, _ = await reader.communicate()
    late = array("d", output)
    if len(late) != count:
        raise RuntimeError(f"{len(late):,} of {count:,} tokens arrived")
    return list(late)


# A few thousand connections need some seconds to open, a batch is one series of tokens.
BATCHES = {
    f"tokens-{server}-{responses}": (partial(_stream, server, responses), responses * TICKS)
    for server in _SERVERS
    for responses in (1000, 4000)
}
