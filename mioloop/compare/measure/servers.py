"""The measured servers: one for each workload of side "server"."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mioloop.compare.measure.workloads import SPLIT_HEAD

CHUNK = 64 * 1024
BACKLOG = 1024          # the load generator connects faster than any server accepts
BODY = b"Hello, world!"
HTTP_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)
# A request with the headers that a client library sends.
HTTP_REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: mioloop-compare\r\n"
    b"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
)


@dataclass(frozen=True)
class ListenAddress:
    """The address of a server, and its TLS context."""

    path: str = ""                          # Unix socket; empty: TCP or UDP on 127.0.0.1
    tls: ssl.SSLContext | None = None


# -- echo ------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class SplitEcho(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.write(b"h" * SPLIT_HEAD)
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(CHUNK))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class HttpProtocol(asyncio.Protocol):
    """A small HTTP server: it finds the end of a request, splits the headers, and answers."""

    answer: tuple[bytes, ...] = (HTTP_RESPONSE,)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.unparsed = b""

    def data_received(self, data: bytes) -> None:
        data = self.unparsed + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            first, *lines = data[:end].split(b"\r\n")
            method, path, _ = first.split(b" ")
            headers = dict(line.split(b": ", 1) for line in lines)
            if method == b"GET" and path == b"/" and b"Host" in headers:
                for part in self.answer:
                    self.transport.write(part)
            else:
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            data = data[end + 4 :]
        self.unparsed = data


class SplitHttpProtocol(HttpProtocol):
    answer = (HTTP_RESPONSE[: -len(BODY)], BODY)


# -- starting a server: each function returns the port ---------------------------------------

_kept: list[object] = []        # references that keep servers alive as long as the process


def port_of(server: Any) -> int:
    _kept.append(server)
    name = server.sockets[0].getsockname()
    return name[1] if isinstance(name, tuple) else 0


async def serve_protocol(factory: Callable[[], Any], address: ListenAddress) -> int:
    loop = asyncio.get_running_loop()
    if address.path:
        return port_of(
            await loop.create_unix_server(factory, address.path, ssl=address.tls, backlog=BACKLOG)
        )
    return port_of(
        await loop.create_server(factory, "127.0.0.1", 0, ssl=address.tls, backlog=BACKLOG)
    )


async def serve_streams(address: ListenAddress) -> int:
    return port_of(await asyncio.start_server(echo_stream, "127.0.0.1", 0, backlog=BACKLOG))


async def serve_sock(address: ListenAddress) -> int:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def echo(conn: socket.socket) -> None:
        with conn:
            while data := await loop.sock_recv(conn, CHUNK):
                await loop.sock_sendall(conn, data)

    async def accept() -> None:
        while True:
            conn, _ = await loop.sock_accept(listener)
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(echo(conn))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    _kept.append(loop.create_task(accept()))
    port: int = listener.getsockname()[1]
    return port


async def serve_datagrams(address: ListenAddress) -> int:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, ("127.0.0.1", 0))
    _kept.append(transport)
    port: int = transport.get_extra_info("sockname")[1]
    return port


async def serve_aiohttp(app: Any, host: str = "127.0.0.1", port: int = 0) -> int:
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    _kept.append(runner)
    bound: int = runner.addresses[0][1]
    return bound


async def serve_asgi(app: Any, lifespan: str = "auto") -> int:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan=lifespan)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("uvicorn ended at start")
        await asyncio.sleep(0.01)
    _kept.append(task)
    port: int = listener.getsockname()[1]
    return port


async def _serve_hello_aiohttp(address: ListenAddress) -> int:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    return await serve_aiohttp(app)


async def _serve_hello_asgi(address: ListenAddress) -> int:
    async def hello(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    return await serve_asgi(hello, lifespan="off")


_PROTOCOLS: dict[str, Callable[[], Any]] = {
    "echo-protocol": Echo,
    "echo-buffered": BufferedEcho,
    "unix": Echo,
    "tls": Echo,
    "split-writes": SplitEcho,
    "connect": Echo,
    "http": HttpProtocol,
    "http-split": SplitHttpProtocol,
    "idle": Echo,
    "idle-tls": Echo,
    "ping-pong": Echo,
    "trickle": Echo,
    "quiet": Echo,
    "scale-connections": Echo,
}
_STARTERS = {
    "echo-streams": serve_streams,
    "echo-sock": serve_sock,
    "udp": serve_datagrams,
    "aiohttp-server": _serve_hello_aiohttp,
    "uvicorn-server": _serve_hello_asgi,
}


async def serve(workload: str, address: ListenAddress) -> int:
    """Start the server of a workload in the running loop, and return its port; 0 for a path."""
    if workload in _PROTOCOLS:
        return await serve_protocol(_PROTOCOLS[workload], address)
    return await _STARTERS[workload](address)
