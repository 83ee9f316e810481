"""An unmodified pyzmq: a socket of ZeroMQ has an edge-triggered descriptor of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")
zmq_asyncio = pytest.importorskip("zmq.asyncio")

pytestmark = pytest.mark.services


@pytest.fixture(params=["tcp", "ipc"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/socket"


@pytest.fixture
def context(loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    with zmq_asyncio.Context() as context:
        context.linger = 0
        yield context


def bound(socket: Any, endpoint: str) -> str:
    """Bind *socket*; the address to connect to."""
    socket.bind(endpoint)
    address: str = socket.last_endpoint.decode().rstrip("\0")
    return address


async def test_requests_are_answered(
    loop: asyncio.AbstractEventLoop, context: Any, endpoint: str
) -> None:
    with context.socket(zmq.REP) as server, context.socket(zmq.REQ) as client:
        client.connect(bound(server, endpoint))

        async def serve() -> None:
            while True:
                await server.send(b"answer to " + await server.recv())

        serving = asyncio.ensure_future(serve())
        for number in range(200):
            await client.send(b"%d" % number)
            assert await client.recv() == b"answer to %d" % number
        serving.cancel()


async def test_pushed_messages_arrive_in_order(
    loop: asyncio.AbstractEventLoop, context: Any, endpoint: str
) -> None:
    """More messages than the high water mark: the sender waits for the receiver."""
    with context.socket(zmq.PULL) as puller, context.socket(zmq.PUSH) as pusher:
        puller.rcvhwm = pusher.sndhwm = 10
        pusher.connect(bound(puller, endpoint))
        messages = [b"%d" % number + bytes(number) for number in range(1000)]

        async def push() -> None:
            for message in messages:
                await pusher.send(message)

        pushing = asyncio.ensure_future(push())
        assert [await puller.recv() for _ in messages] == messages
        await pushing


async def test_large_message_of_several_parts_comes_whole(
    loop: asyncio.AbstractEventLoop, context: Any, endpoint: str
) -> None:
    parts = [b"head", os.urandom(1 << 20) * 8, b"", b"tail"]
    with context.socket(zmq.PULL) as puller, context.socket(zmq.PUSH) as pusher:
        pusher.connect(bound(puller, endpoint))
        await pusher.send_multipart(parts)
        assert await puller.recv_multipart() == parts


async def test_published_message_reaches_each_subscriber(
    loop: asyncio.AbstractEventLoop, context: Any, endpoint: str
) -> None:
    with (
        context.socket(zmq.XPUB) as publisher,
        context.socket(zmq.SUB) as first,
        context.socket(zmq.SUB) as second,
    ):
        address = bound(publisher, endpoint)
        publisher.xpub_verbose = True
        for subscriber in (first, second):
            subscriber.connect(address)
            subscriber.subscribe(b"news")
            assert await publisher.recv() == b"\1news"
        for number in range(100):
            await publisher.send_multipart([b"news", b"%d" % number])
            await publisher.send_multipart([b"other", b"%d" % number])
        expected = [[b"news", b"%d" % number] for number in range(100)]
        assert [await first.recv_multipart() for _ in range(100)] == expected
        assert [await second.recv_multipart() for _ in range(100)] == expected


async def test_poll_tells_readiness_and_cancelled_receive_loses_no_message(
    loop: asyncio.AbstractEventLoop, context: Any, endpoint: str
) -> None:
    with context.socket(zmq.PULL) as puller, context.socket(zmq.PUSH) as pusher:
        pusher.connect(bound(puller, endpoint))
        assert await puller.poll(timeout=0) == 0
        receiving = asyncio.ensure_future(puller.recv())
        await asyncio.sleep(0)
        receiving.cancel()
        await pusher.send(b"message")
        assert await puller.poll() == zmq.POLLIN
        assert await puller.recv() == b"message"
