"""An unmodified redis-py and a Redis server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST, LocalServer

redis = pytest.importorskip("redis.asyncio")

pytestmark = pytest.mark.services


@asynccontextmanager
async def client_of(server: LocalServer) -> AsyncIterator[Any]:
    client = redis.Redis(host=HOST, port=server.port)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()


async def test_pipeline_answers_in_order(
    loop: asyncio.AbstractEventLoop, redis_server: LocalServer
) -> None:
    async with client_of(redis_server) as client:
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(2000):
                pipeline.set(f"key {number}", number)
                pipeline.get(f"key {number}")
            answers = await pipeline.execute()
        assert answers[1::2] == [b"%d" % number for number in range(2000)]


async def test_value_of_20_megabytes_comes_back_whole(
    loop: asyncio.AbstractEventLoop, redis_server: LocalServer
) -> None:
    value = os.urandom(1 << 20) * 20
    async with client_of(redis_server) as client:
        await client.set("large", value)
        assert await client.get("large") == value


async def test_message_reaches_every_subscriber(
    loop: asyncio.AbstractEventLoop, redis_server: LocalServer
) -> None:
    async with client_of(redis_server) as client:

        async def hear(subscribed: asyncio.Event) -> list[bytes]:
            async with client.pubsub() as pubsub:
                await pubsub.psubscribe("news.*")
                heard = []
                async for message in pubsub.listen():
                    if message["type"] == "psubscribe":
                        subscribed.set()
                    else:
                        heard.append(message["data"])
                        if len(heard) == 100:
                            break
                return heard

        events = [asyncio.Event() for _ in range(3)]
        hearing = [asyncio.ensure_future(hear(event)) for event in events]
        for event in events:
            await event.wait()
        for number in range(100):
            assert await client.publish(f"news.{number % 2}", number) == 3
        expected = [b"%d" % number for number in range(100)]
        assert await asyncio.gather(*hearing) == [expected] * 3


async def test_blocked_pop_gets_the_element_that_comes(
    loop: asyncio.AbstractEventLoop, redis_server: LocalServer
) -> None:
    async with client_of(redis_server) as client:
        popping = [asyncio.ensure_future(client.blpop(["queue"], timeout=9)) for _ in range(5)]
        while not (await client.info("clients"))["blocked_clients"] == 5:
            pass
        await client.rpush("queue", *range(5))
        popped = await asyncio.gather(*popping)
        assert sorted(popped) == [(b"queue", b"%d" % number) for number in range(5)]


async def test_cancelled_command_gives_no_answer_to_the_next_one(
    loop: asyncio.AbstractEventLoop, redis_server: LocalServer
) -> None:
    async with client_of(redis_server) as client:
        await client.set("key", "value")
        waiting = asyncio.ensure_future(client.blpop(["nothing"], timeout=9))
        while not (await client.info("clients"))["blocked_clients"]:
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.gather(*(client.get("key") for _ in range(10))) == [b"value"] * 10
