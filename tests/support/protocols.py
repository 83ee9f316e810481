"""Stream protocols that record their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.waiting import PAUSE_S, until

PEER_TIMEOUT_S = 5.0
Hook = Callable[..., Any]


class Recording(asyncio.BaseProtocol):
    """Notes each call; then calls the hook of that name, with itself and the call's arguments."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **hooks: Hook) -> None:
        self.loop = loop
        self.hooks = hooks
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.made: asyncio.Future[None] = loop.create_future()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()

    def _note(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        hook = self.hooks.get(name)
        return None if hook is None else hook(self, *args)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.done() or self.made.set_result(None)
        self._note("connection_made", transport)

    def eof_received(self) -> Any:
        self.eof.done() or self.eof.set_result(None)
        return self._note("eof_received")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.done() or self.lost.set_result(exc)
        self._note("connection_lost", exc)

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    async def until(self, condition: Callable[[], object], what: str = "a condition") -> None:
        """Return when *condition* is true."""
        await until(
            condition, PEER_TIMEOUT_S, PAUSE_S, lambda: f"for {what}; calls: {self.calls}"
        )

    async def received(self, count: int) -> bytes:
        """All data so far, once it is at least `count` bytes."""
        await self.until(lambda: len(self.data) >= count, f"{count} bytes")
        return bytes(self.data)

    async def closed(self) -> BaseException | None:
        """Return the argument of connection_lost()."""
        return await asyncio.wait_for(asyncio.shield(self.lost), PEER_TIMEOUT_S)


class Recorder(Recording, asyncio.Protocol):
    """Is given its data."""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data_received", data)


class BufferedRecorder(Recording, asyncio.BufferedProtocol):
    """Reads into a buffer of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int = 65536, **hooks: Hook) -> None:
        super().__init__(loop, **hooks)
        self.buffer = bytearray(size)
        self.size_hints: list[int] = []

    def get_buffer(self, sizehint: int) -> Any:
        self.size_hints.append(sizehint)
        hook = self.hooks.get("get_buffer")
        return self.buffer if hook is None else hook(self, sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self._note("buffer_updated", nbytes)
