"""The messages of the chat: PostgreSQL keeps them, and Redis tells every server of new ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

TABLE = """
CREATE TABLE IF NOT EXISTS messages (
    id bigserial PRIMARY KEY,
    room text NOT NULL,
    author text NOT NULL,
    text text NOT NULL
)
"""

# A listener that is this many messages behind is closed: the client asks for the rest later.
MAX_BEHIND = 1000


@dataclass(frozen=True)
class Message:
    id: int
    room: str
    author: str
    text: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


# The messages that wait for one listener; None ends them.
Inbox = asyncio.Queue["Message | None"]


class Messages:
    """All rooms. Several servers may share a database and a Redis: each hears of every message."""

    def __init__(self, database: asyncpg.Pool, redis: Redis) -> None:
        self._database = database
        self._redis = redis
        self._inboxes: defaultdict[str, set[Inbox]] = defaultdict(set)

    @classmethod
    @asynccontextmanager
    async def connect(cls, database_url: str, redis_url: str) -> AsyncIterator[Messages]:
        async with (
            asyncpg.create_pool(database_url, min_size=1, max_size=8) as database,
            Redis.from_url(redis_url) as redis,
            redis.pubsub() as subscription,
        ):
            await database.execute(TABLE)
            await subscription.psubscribe("chat.*")
            messages = cls(database, redis)
            hearing = asyncio.create_task(messages._hear(subscription))
            try:
                yield messages
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])

    async def post(self, room: str, author: str, text: str) -> Message:
        """Keep a message, and tell every listener of its room."""
        number = await self._database.fetchval(
            "INSERT INTO messages (room, author, text) VALUES ($1, $2, $3) RETURNING id",
            room, author, text,
        )
        message = Message(number, room, author, text)
        await self._redis.publish(f"chat.{room}", message.to_json())
        return message

    async def since(self, room: str, after: int) -> list[Message]:
        """The messages of *room* with a number above *after*."""
        rows = await self._database.fetch(
            "SELECT id, room, author, text FROM messages WHERE room = $1 AND id > $2 ORDER BY id",
            room, after,
        )
        return [Message(*row) for row in rows]

    async def follow(self, room: str, after: int | None = None) -> AsyncIterator[Message]:
        """The messages of *room* from now on; with *after*, also the earlier ones above it."""
        with self._inbox(room) as inbox:
            # The inbox is open before the database is read: a message may come by both, and none
            # is missed.
            earlier = [] if after is None else await self.since(room, after)
            for message in earlier:
                yield message
            told = {message.id for message in earlier}
            while (new := await inbox.get()) is not None:
                if new.id not in told:
                    yield new

    def end(self) -> None:
        """End each `follow`."""
        for inboxes in self._inboxes.values():
            for inbox in inboxes:
                inbox.put_nowait(None)

    @contextlib.contextmanager
    def _inbox(self, room: str) -> Iterator[Inbox]:
        inbox: Inbox = asyncio.Queue()
        self._inboxes[room].add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes[room].discard(inbox)
            if not self._inboxes[room]:
                del self._inboxes[room]

    async def _hear(self, subscription: PubSub) -> None:
        try:
            async for published in subscription.listen():
                if published["type"] == "pmessage":
                    self._deliver(Message(**json.loads(published["data"])))
        finally:
            self.end()          # without Redis a listener would wait for ever

    def _deliver(self, message: Message) -> None:
        for inbox in self._inboxes.get(message.room, ()):
            if inbox.qsize() < MAX_BEHIND:
                inbox.put_nowait(message)
            elif inbox.qsize() == MAX_BEHIND:
                inbox.put_nowait(None)
