"""An unmodified asyncpg and a PostgreSQL server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST, LocalServer

asyncpg = pytest.importorskip("asyncpg")

pytestmark = pytest.mark.services

ROWS = [(number, f"name {number}", bytes([number % 256]) * 50) for number in range(20_000)]


@asynccontextmanager
async def connected(server: LocalServer) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(
        host=HOST, port=server.port, user="postgres", database="postgres", ssl=False
    )
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pool_of(server: LocalServer, size: int) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(
        host=HOST, port=server.port, user="postgres", database="postgres", ssl=False,
        min_size=size, max_size=size,
    ) as pool:
        yield pool


async def test_prepared_statement_answers_each_type(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection:
        statement = await connection.prepare("SELECT $1::int, $2::text, $3::bytea, $4::float8[]")
        row = await statement.fetchrow(7, "sept", b"\x00\xff", [0.5, 1.5])
        assert tuple(row) == (7, "sept", b"\x00\xff", [0.5, 1.5])


async def test_cursor_reads_a_large_result_in_parts(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with connected(postgresql) as connection, connection.transaction():
        cursor = connection.cursor("SELECT generate_series(1, 20000)", prefetch=500)
        assert [row[0] async for row in cursor] == list(range(1, 20_001))


async def test_records_are_copied_in_and_out(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    """COPY in both directions: flow control of the transport, and binary rows."""
    async with connected(postgresql) as connection:
        await connection.execute("CREATE TEMP TABLE rows (id int, name text, data bytea)")
        copied = await connection.copy_records_to_table("rows", records=ROWS)
        assert copied == f"COPY {len(ROWS)}"
        assert list(map(tuple, await connection.fetch("SELECT * FROM rows ORDER BY id"))) == ROWS

        output = io.BytesIO()
        await connection.copy_from_query(
            "SELECT id, name FROM rows ORDER BY id", output=output, format="csv"
        )
        assert output.getvalue().splitlines() == [
            b"%d,%s" % (number, name.encode()) for number, name, _ in ROWS
        ]


async def test_slow_receiver_holds_a_copy_back(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    received = 0

    async def receive(data: bytes) -> None:
        nonlocal received
        for _ in range(3):              # turns of the loop in which more of the copy arrives
            await asyncio.sleep(0)
        received += len(data)

    async with connected(postgresql) as connection:
        await connection.copy_from_query(
            "SELECT repeat('x', 999) FROM generate_series(1, 5000)", output=receive
        )
    assert received == 5000 * 1000


async def test_notification_reaches_a_listener(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with connected(postgresql) as listener, connected(postgresql) as speaker:
        await listener.add_listener(
            "news", lambda _connection, _pid, channel, payload: heard.put_nowait((channel, payload))
        )
        for number in range(50):
            await speaker.execute(f"NOTIFY news, '{number}'")
        assert [await heard.get() for _ in range(50)] == [("news", str(n)) for n in range(50)]


async def test_cancelled_query_leaves_a_usable_connection(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    """asyncpg cancels on a second connection, and waits for it when the task is cancelled."""
    async with connected(postgresql) as connection, connected(postgresql) as observer:
        pid = connection.get_server_pid()
        for _ in range(3):
            asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
            while not await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid
            ):
                pass
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await connection.fetchval("SELECT 1") == 1


async def test_pool_serves_more_users_than_it_has_connections(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with pool_of(postgresql, 4) as pool:

        async def use(number: int) -> tuple[int, int]:
            async with pool.acquire() as connection:
                return await connection.fetchval("SELECT $1::int", number), id(connection._con)

        answers = await asyncio.gather(*map(use, range(100)))
        assert [number for number, _ in answers] == list(range(100))
        assert len({connection for _, connection in answers}) <= 4


async def test_connection_that_the_server_ends_is_replaced_by_the_pool(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with pool_of(postgresql, 1) as pool, connected(postgresql) as other:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
            await asyncio.sleep(0)
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await asking
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid
