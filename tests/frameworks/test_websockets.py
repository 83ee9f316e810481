"""An unmodified websockets, client and server, plain and over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.frameworks.certificates import Certificates

websockets = pytest.importorskip("websockets")
client_module = pytest.importorskip("websockets.asyncio.client")
server_module = pytest.importorskip("websockets.asyncio.server")

Run = Callable[..., Any]
Handler = Callable[[Any], Awaitable[None]]


@pytest.fixture(params=["plain", "tls"])
def sides(
    request: pytest.FixtureRequest, certificates: Certificates
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The ssl= arguments of server and client."""
    if request.param == "plain":
        return None, None
    return certificates.server, certificates.client


@asynccontextmanager
async def serving(
    handler: Handler, sides: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> AsyncIterator[Callable[..., Any]]:
    """``connect(**keywords)``, which connects to a server that runs *handler*."""
    server_tls, client_tls = sides
    async with server_module.serve(handler, "127.0.0.1", 0, ssl=server_tls) as server:
        host, port = server.sockets[0].getsockname()
        scheme = "ws" if client_tls is None else "wss"

        def connect(**keywords: Any) -> Any:
            return client_module.connect(f"{scheme}://{host}:{port}", ssl=client_tls, **keywords)

        yield connect


async def echo(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


async def test_messages_come_back_in_order(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    messages = ["", "text", b"\x00\xff", "x" * 70_000, b"y" * 900_000, *map(str, range(200))]
    async with serving(echo, sides) as connect, connect() as connection:
        async def send_all() -> None:
            for message in messages:
                await connection.send(message)

        sending = asyncio.ensure_future(send_all())
        assert [await connection.recv() for _ in messages] == messages
        await sending


async def test_close_handshake_tells_both_sides_the_reason(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    closed: asyncio.Future[tuple[int, str]] = loop.create_future()

    async def handler(connection: Any) -> None:
        await connection.wait_closed()
        closed.set_result((connection.close_code, connection.close_reason))

    async with serving(handler, sides) as connect, connect() as connection:
        await connection.close(4321, "had enough")
        assert await closed == (4321, "had enough")
        assert (connection.close_code, connection.close_reason) == (4321, "had enough")
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()


async def test_ping_is_answered_while_messages_are_sent(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    async with serving(echo, sides) as connect, connect() as connection:
        await connection.send("x" * 300_000)
        pong = await connection.ping()
        assert await connection.recv() == "x" * 300_000
        assert await pong >= 0


async def test_peer_that_drops_the_connection_ends_the_handler(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    ended: asyncio.Future[int] = loop.create_future()

    async def handler(connection: Any) -> None:
        with pytest.raises(websockets.ConnectionClosedError):
            await connection.recv()
        ended.set_result(connection.close_code)

    async with serving(handler, sides) as connect, connect() as connection:
        connection.transport.abort()
        assert await ended == 1006              # no close frame came


@pytest.mark.time_limit(30)
async def test_slow_reader_holds_its_sender_back(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    count, size = 200, 100_000                      # far more than the socket's buffers hold
    sent = 0
    handling: asyncio.Future[Any] = loop.create_future()

    async def handler(connection: Any) -> None:
        nonlocal sent
        handling.set_result(connection)
        for number in range(count):
            await connection.send(bytes([number]) * size)
            sent += 1

    async with (
        serving(handler, sides) as connect,
        connect(max_queue=1, compression=None) as connection,
    ):
        server_side = await handling
        while not server_side.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        assert sent < count
        for number in range(count):
            assert await connection.recv() == bytes([number]) * size


@pytest.mark.time_limit(20)
async def test_broadcast_reaches_every_client(
    loop: asyncio.AbstractEventLoop, sides: tuple[Any, Any]
) -> None:
    present: set[Any] = set()
    everybody = asyncio.Event()

    async def handler(connection: Any) -> None:
        present.add(connection)
        if len(present) == 20:
            everybody.set()
        await connection.wait_closed()

    async with serving(handler, sides) as connect:
        clients = await asyncio.gather(*(connect() for _ in range(20)))
        await everybody.wait()
        server_module.broadcast(present, "to all")
        assert await asyncio.gather(*(c.recv() for c in clients)) == ["to all"] * 20
        await asyncio.gather(*(c.close() for c in clients))
