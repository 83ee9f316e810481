"""An unmodified grpc.aio: threads of its own that wake the loop by a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc.aio")

pytestmark = pytest.mark.services


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
    """Messages are bytes: the tests need no compiler of protocol buffers."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        return {
            "Upper": grpc.unary_unary_rpc_method_handler(self.upper),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
        }[name]

    async def upper(self, request: bytes, context: Any) -> bytes:
        return request.upper()

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([int(request) async for request in requests])

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "refused")
        return b""


@pytest.fixture
def no_leaked_descriptor() -> None:
    """Not checked here: grpc's threads open pollers, and keep them, on every loop."""


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Handlers, Any]]:
    """The handlers of a server, and a channel to it."""
    handlers = Handlers()
    server = grpc.aio.server(handlers=[handlers])
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            yield handlers, channel
    finally:
        await server.stop(None)


async def test_calls_at_once_are_answered(loop: asyncio.AbstractEventLoop) -> None:
    async with served() as (_, channel):
        upper = channel.unary_unary("/tests.Service/Upper")
        answers = await asyncio.gather(*(upper(b"call %d" % number) for number in range(200)))
        assert answers == [b"CALL %d" % number for number in range(200)]


async def test_message_of_3_megabytes_comes_whole(loop: asyncio.AbstractEventLoop) -> None:
    async with served() as (_, channel):
        message = b"x" * 3_000_000
        assert await channel.unary_unary("/tests.Service/Upper")(message) == message.upper()


async def test_streams_in_either_direction_keep_their_order(
    loop: asyncio.AbstractEventLoop,
) -> None:
    numbers = [b"%d" % number for number in range(300)]

    async def requests() -> AsyncIterator[bytes]:
        for number in numbers:
            yield number

    async with served() as (_, channel):
        count = channel.unary_stream("/tests.Service/Count")
        assert [answer async for answer in count(b"300")] == numbers
        assert await channel.stream_unary("/tests.Service/Sum")(requests()) == b"44850"
        echo = channel.stream_stream("/tests.Service/Echo")
        assert [answer async for answer in echo(requests())] == numbers


async def test_dialogue_on_one_stream(loop: asyncio.AbstractEventLoop) -> None:
    async with served() as (_, channel):
        call = channel.stream_stream("/tests.Service/Echo")()
        for number in range(100):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_cancelled_call_is_cancelled_at_the_server(loop: asyncio.AbstractEventLoop) -> None:
    async with served() as (handlers, channel):
        call = channel.unary_unary("/tests.Service/Wait")(b"")
        await handlers.waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await handlers.cancelled.wait()


async def test_refused_call_tells_the_status(loop: asyncio.AbstractEventLoop) -> None:
    async with served() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/tests.Service/Refuse")(b"")
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert refused.value.details() == "refused"
