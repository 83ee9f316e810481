"""In-process workloads that move many bytes one way, and workloads beside idle connections.

Each is a coroutine function as in in_process.py. Both ends are in the measured process, so its
processor time includes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from typing import Any

from mioloop.compare.load import client

MIB = 2**20
DATAGRAM = bytes(1200)          # the size of most of QUIC's datagrams
WINDOW = 32                     # datagrams under way: the kernel's buffer holds them
IDLE = 64                       # connections that stay open and silent
MEMBERS = 100                   # clients of the WebSocket that broadcasts
LINE = "x" * 64


class _Counter(asyncio.Protocol):
    """Counts the bytes that arrive. `received` is done when all of *expected* have."""

    def __init__(self, expected: int) -> None:
        self.left = expected
        self.received = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left == 0:
            self.received.set_result(None)


@contextlib.asynccontextmanager
async def _connection(
    expected: int, tls: bool = False
) -> AsyncIterator[tuple[_Counter, asyncio.StreamWriter]]:
    """A writer, and the counter of *expected* bytes at its far end."""
    loop = asyncio.get_running_loop()
    counter = _Counter(expected)
    serving, connecting = _contexts() if tls else (None, None)
    server = await loop.create_server(lambda: counter, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=connecting)
    try:
        yield counter, writer
    finally:
        writer.close()
        await writer.wait_closed()
        server.close()


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.TemporaryDirectory(prefix="mioloop-compare-") as directory:
        path = os.path.join(directory, "certificate.pem")
        client.make_certificate(path)
        serving.load_cert_chain(path)
    connecting.check_hostname = False
    connecting.verify_mode = ssl.CERT_NONE
    return serving, connecting


async def _write_one_way(count: int, tls: bool) -> None:
    chunk = bytes(MIB)
    async with _connection(count * MIB, tls) as (counter, writer):
        for _ in range(count):
            writer.write(chunk)
            await writer.drain()
        await counter.received


async def stream_one_way(count: int) -> None:
    await _write_one_way(count, False)


async def tls_one_way(count: int) -> None:
    await _write_one_way(count, True)


async def sendfile(count: int) -> None:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryFile() as file:
        file.truncate(MIB)
        async with _connection(count * MIB) as (counter, writer):
            for _ in range(count):
                await loop.sendfile(writer.transport, file)
            await counter.received


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.left = 0
        self.received: asyncio.Future[None] | None = None

    def expect(self, count: int) -> asyncio.Future[None]:
        self.left = count
        self.received = asyncio.get_running_loop().create_future()
        return self.received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.received is not None:
            self.received.set_result(None)


async def datagrams_one_way(count: int) -> None:
    """Send datagrams in groups: a group follows when the last one has arrived."""
    loop = asyncio.get_running_loop()
    there, receiver = await loop.create_datagram_endpoint(
        _Datagrams, local_addr=("127.0.0.1", 0)
    )
    address = there.get_extra_info("sockname")
    here, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=address
    )
    for _ in range(count // WINDOW):
        arrived = receiver.expect(WINDOW)
        for _ in range(WINDOW):
            here.sendto(DATAGRAM)
        await asyncio.wait_for(arrived, 10)
    here.close()
    there.close()


async def child_pipe(count: int) -> None:
    """Send MiB after MiB through a child's standard input and output, and read all back."""
    child = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    chunk = bytes(MIB)

    async def feed(stdin: asyncio.StreamWriter) -> None:
        for _ in range(count):
            stdin.write(chunk)
            await stdin.drain()
        stdin.close()

    feeding = asyncio.get_running_loop().create_task(feed(child.stdin))
    returned = 0
    while data := await child.stdout.read(MIB):
        returned += len(data)
    await feeding
    if await child.wait() != 0 or returned != count * MIB:
        raise RuntimeError(f"cat returned {returned:,} of {count * MIB:,} bytes")


async def websocket_broadcast(count: int) -> None:
    """Send lines to all members at once; the next one when all have received the last."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    async def stay(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(stay, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with contextlib.AsyncExitStack() as members:
            clients = [
                await members.enter_async_context(connect(url, compression=None))
                for _ in range(MEMBERS)
            ]
            for _ in range(count // MEMBERS):
                broadcast(server.connections, LINE)
                for member in clients:
                    if await member.recv() != LINE:
                        raise RuntimeError("a member received another line")


Batch = Callable[[int], Coroutine[Any, Any, Any]]


def beside_idle_connections(batch: Batch) -> Batch:
    """The same workload in a process that has open connections, as servers do."""

    async def run(count: int) -> Any:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        writers = [(await asyncio.open_connection(*address))[1] for _ in range(IDLE)]
        try:
            return await batch(count)
        finally:
            for writer in writers:
                writer.close()
                await writer.wait_closed()
            server.close()

    return run
