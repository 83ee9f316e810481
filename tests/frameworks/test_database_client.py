"""A database's client and server as asyncpg makes them: protocols, futures, and no streams.

The wire is PostgreSQL's in small. A client asks for TLS by one byte, is answered by one byte, and
both upgrade the connection that they have. A message is a length of four bytes, a kind and a body.
A request is cancelled on a second connection, by the secret that the first one was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.frameworks.certificates import Certificates

Run = Callable[..., Any]

ASK_TLS = b"S"
CANCEL, HELLO, SECRET, QUERY, ROW, DONE, ERROR = b"C", b"H", b"K", b"Q", b"R", b"D", b"E"
HEADER = struct.Struct("!Ic")


class Peer(asyncio.Protocol):
    """Framing, and flow control by a future, for both sides."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._drained: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(exc or ConnectionResetError("lost"))
            self._drained.exception()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        assert drained is not None
        drained.set_result(None)

    @property
    def writing_is_paused(self) -> bool:
        return self._drained is not None

    async def drain(self) -> None:
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self.transport.write(HEADER.pack(len(body), kind) + body)

    def data_received(self, data: bytes) -> None:
        self._received += data
        # The peer's first message may come before start_tls() has returned the transport.
        while self.transport is not None and len(self._received) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._received)
            if len(self._received) < HEADER.size + length:
                return
            body = bytes(self._received[HEADER.size : HEADER.size + length])
            del self._received[: HEADER.size + length]
            self.on_message(kind, body)

    def on_message(self, kind: bytes, body: bytes) -> None:
        raise NotImplementedError


# -- the server ----------------------------------------------------------------------------------


class Negotiation(asyncio.Protocol):
    """The server's first protocol: TLS or not is the first byte of a connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data[:1] != ASK_TLS:
            session = Session(self.server)
            self.transport.set_protocol(session)
            session.connection_made(self.transport)
            session.data_received(data)
        elif self.server.tls is None:
            self.transport.write(b"N")
        else:
            # The bytes that follow belong to TLS, also if they arrive before start_tls() has begun.
            self.transport.pause_reading()
            self.transport.write(b"Y")
            self.server.spawn(self.upgrade())

    async def upgrade(self) -> None:
        session = Session(self.server)
        assert self.server.tls is not None
        with contextlib.suppress(OSError):
            transport = await asyncio.get_running_loop().start_tls(
                self.transport, session, self.server.tls, server_side=True
            )
            session.connection_made(transport)


class Session(Peer):
    """One client: its queries are answered one after another."""

    numbers = itertools.count(1)

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.secret = b"%d" % next(self.numbers)
        self.queries: deque[bytes] = deque()
        self.task: asyncio.Task[None] | None = None

    def on_message(self, kind: bytes, body: bytes) -> None:
        if kind == CANCEL:
            self.server.cancel(body)
            self.transport.close()
        elif kind == HELLO:
            self.server.sessions[self.secret] = self
            self.send(SECRET, self.secret)
        elif kind == QUERY:
            self.queries.append(body)
            if self.task is None:
                self.task = self.server.spawn(self.answer_all())

    async def answer_all(self) -> None:
        while self.queries and not self.lost.done():
            query = self.queries.popleft()
            try:
                await self.answer(query)
            except asyncio.CancelledError:
                self.send(ERROR, b"cancelled")
            except OSError:
                break
        self.task = None

    async def answer(self, query: bytes) -> None:
        """`rows COUNT SIZE`, `wait`, or an echo."""
        if query == b"wait":
            self.server.waiting.set()
            await asyncio.Event().wait()
        elif query.startswith(b"rows"):
            count, size = map(int, query.split()[1:])
            for number in range(count):
                self.send(ROW, bytes([number % 256]) * size)
                self.server.rows_sent += 1
                await self.drain()
        else:
            self.send(ROW, query)
        self.send(DONE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server.sessions.pop(self.secret, None)
        if self.task is not None:
            self.task.cancel()


class Server:
    """All sessions, by their secrets."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.sessions: dict[bytes, Session] = {}
        self.waiting = asyncio.Event()
        self.rows_sent = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.address: tuple[str, int] = ("", 0)

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def cancel(self, secret: bytes) -> None:
        session = self.sessions.get(secret)
        if session is not None and session.task is not None:
            session.task.cancel()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Negotiation(self), "127.0.0.1", 0)
        self.address = listener.sockets[0].getsockname()
        try:
            yield self
        finally:
            listener.close()
            lost = [session.lost for session in self.sessions.values()]
            for session in list(self.sessions.values()):
                session.transport.abort()
            await asyncio.gather(*lost, *self.tasks, return_exceptions=True)
            await listener.wait_closed()


# -- the client ----------------------------------------------------------------------------------


class AskForTLS(asyncio.Protocol):
    """The client's first protocol: one byte is all it waits for."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("lost"))


class Client(Peer):
    """A connection; queries may be sent before earlier ones are answered."""

    def __init__(self, server: Server, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self.server, self.tls = server, tls
        self.waiters: deque[tuple[asyncio.Future[list[bytes]], list[bytes]]] = deque()
        self.secret: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, server: Server, tls: ssl.SSLContext | None) -> Client:
        loop = asyncio.get_running_loop()
        client = cls(server, tls)
        if tls is None:
            await loop.create_connection(lambda: client, *server.address)
        else:
            sock = socket.socket()
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, server.address)
            except BaseException:
                sock.close()
                raise
            plain, asking = await loop.create_connection(AskForTLS, sock=sock)
            plain.write(ASK_TLS)
            if await asking.answer != b"Y":
                plain.close()
                raise ConnectionError("the server has no TLS")
            client.connection_made(
                await loop.start_tls(plain, client, tls, server_hostname="localhost")
            )
        return client

    async def log_in(self) -> Client:
        self.send(HELLO)
        await self.secret
        return self

    def on_message(self, kind: bytes, body: bytes) -> None:
        if kind == SECRET:
            self.secret.set_result(body)
        elif kind == ROW:
            self.waiters[0][1].append(body)
        else:
            waiter, rows = self.waiters.popleft()
            if waiter.done():                       # its task was cancelled
                return
            if kind == ERROR:
                waiter.set_exception(RuntimeError(body.decode()))
            else:
                waiter.set_result(rows)

    async def query(self, text: bytes) -> list[bytes]:
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append((waiter, []))
        self.send(QUERY, text)
        try:
            return await waiter
        except asyncio.CancelledError:
            await asyncio.shield(self.cancel())
            raise

    async def cancel(self) -> None:
        """As asyncpg does it: by a connection that is closed when the server has understood."""
        other = await Client.connect(self.server, self.tls)
        other.send(CANCEL, self.secret.result())
        await other.lost

    async def close(self) -> None:
        self.transport.close()
        await self.lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for waiter, _ in self.waiters:
            if not waiter.done():
                waiter.set_exception(exc or ConnectionResetError("lost"))


# -- scenarios -----------------------------------------------------------------------------------


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    return certificates if request.param == "tls" else None


@asynccontextmanager
async def database(tls: Certificates | None) -> AsyncIterator[tuple[Server, Client]]:
    """A server, and a client that has logged in."""
    async with Server(tls and tls.server).serving() as server:
        client = await (await Client.connect(server, tls and tls.client)).log_in()
        try:
            yield server, client
        finally:
            await client.close()


async def test_pipelined_queries_are_answered_in_order(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    async with database(tls) as (_, client):
        queries = [b"echo %d" % number for number in range(200)]
        assert await asyncio.gather(*map(client.query, queries)) == [[q] for q in queries]


@pytest.mark.time_limit(30)
async def test_large_result_is_held_back_until_it_is_read(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    """pause_writing on the server while the client has paused its reading."""
    count, size = 200, 100_000
    async with database(tls) as (server, client):
        client.transport.pause_reading()
        asking = asyncio.ensure_future(client.query(b"rows %d %d" % (count, size)))
        (session,) = server.sessions.values()
        while not session.writing_is_paused:
            await asyncio.sleep(0)
        assert server.rows_sent < count
        client.transport.resume_reading()
        rows = await asking
        assert rows == [bytes([number % 256]) * size for number in range(count)]


async def test_cancelled_query_is_cancelled_at_the_server_and_the_connection_stays_usable(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    async with database(tls) as (server, client):
        for _ in range(5):
            asking = asyncio.ensure_future(client.query(b"wait"))
            await server.waiting.wait()
            server.waiting.clear()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await client.query(b"still there") == [b"still there"]


async def test_query_that_another_connection_cancels_is_an_error(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    async with database(tls) as (server, client):
        asking = asyncio.ensure_future(client.query(b"wait"))
        await server.waiting.wait()
        await client.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            await asking


async def test_server_that_dies_fails_every_query(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    async with database(tls) as (server, client):
        asking = [asyncio.ensure_future(client.query(b"wait")) for _ in range(3)]
        await server.waiting.wait()
        for session in list(server.sessions.values()):
            session.transport.abort()
        failures = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(failure, ConnectionError) for failure in failures)


async def test_server_without_tls_says_so(
    loop: asyncio.AbstractEventLoop, certificates: Certificates
) -> None:
    async with Server(None).serving() as server:
        with pytest.raises(ConnectionError, match="has no TLS"):
            await Client.connect(server, certificates.client)


async def test_pool_of_connections(
    loop: asyncio.AbstractEventLoop, tls: Certificates | None
) -> None:
    """More users than connections, each of which is handed on when it is free."""
    async with Server(tls and tls.server).serving() as server:
        pool: asyncio.Queue[Client] = asyncio.Queue()
        for client in await asyncio.gather(
            *(Client.connect(server, tls and tls.client) for _ in range(8))
        ):
            pool.put_nowait(await client.log_in())
        assert len(server.sessions) == 8

        async def use(number: int) -> None:
            client = await pool.get()
            try:
                assert await client.query(b"echo %d" % number) == [b"echo %d" % number]
            finally:
                pool.put_nowait(client)

        await asyncio.gather(*map(use, range(100)))
        for _ in range(8):
            await (await pool.get()).close()
