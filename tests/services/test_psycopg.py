"""An unmodified psycopg 3: libpq has the socket, and the loop only watches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST, LocalServer

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)     # where libpq is missing
psycopg_pool = pytest.importorskip("psycopg_pool")

pytestmark = pytest.mark.services

ROWS = [(number, f"name {number}" * 20) for number in range(20_000)]


def address_of(server: LocalServer) -> str:
    return f"host={HOST} port={server.port} user=postgres dbname=postgres sslmode=disable"


@asynccontextmanager
async def connected(server: LocalServer) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(
        address_of(server), autocommit=True
    ) as connection:
        yield connection


async def until_active(connection: Any, observer: Any) -> None:
    """Return when the server runs the query of *connection*."""
    active = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    while not await (await observer.execute(active, [connection.info.backend_pid])).fetchone():
        pass


async def test_rows_are_copied_in_and_out(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection, connection.cursor() as cursor:
        await cursor.execute("CREATE TEMP TABLE rows (id int, name text)")
        async with cursor.copy("COPY rows FROM STDIN") as copy:
            for row in ROWS:
                await copy.write_row(row)
        async with cursor.copy("COPY (SELECT * FROM rows ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            assert [row async for row in copy.rows()] == ROWS


async def test_pipeline_answers_in_order(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection:
        if not psycopg.Pipeline.is_supported():
            pytest.skip("libpq has no pipeline mode")
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::int", [n]) for n in range(200)]
            assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(200))


async def test_notification_reaches_a_listener(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as listener, connected(postgresql) as speaker:
        await listener.execute("LISTEN news")

        async def speak() -> None:
            for number in range(50):
                await speaker.execute(f"NOTIFY news, '{number}'")

        speaking = asyncio.ensure_future(speak())
        heard: list[str] = []
        async for notification in listener.notifies():
            heard.append(notification.payload)
            if len(heard) == 50:
                break
        await speaking
        assert heard == [str(number) for number in range(50)]


async def test_cancelled_query_leaves_a_usable_connection(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection, connected(postgresql) as observer:
        asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
        await until_active(connection, observer)
        asking.cancel()
        with pytest.raises((asyncio.CancelledError, psycopg.errors.QueryCanceled)):
            await asking
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_query_that_the_connection_cancels_is_an_error(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection, connected(postgresql) as observer:
        asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
        await until_active(connection, observer)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await asking
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_pool_serves_more_users_than_it_has_connections(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with psycopg_pool.AsyncConnectionPool(
        address_of(postgresql), min_size=3, max_size=3, open=False
    ) as pool:

        async def use(number: int) -> tuple[int, int]:
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT %s::int", [number])
                return (await cursor.fetchone())[0], connection.info.backend_pid

        answers = await asyncio.gather(*map(use, range(60)))
        assert [number for number, _ in answers] == list(range(60))
        assert len({pid for _, pid in answers}) <= 3
