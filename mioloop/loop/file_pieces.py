"""A file in pieces, for sendfile() where the system's own call cannot send the file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mioloop import stdlib

PIECE_BYTES = 16384  # size of the reads when loop.sendfile() reads the file itself; asyncio's value


async def send_pieces(
    loop: asyncio.AbstractEventLoop,
    file: Any,
    offset: int,
    count: int | None,
    most: int,
    send: Callable[[memoryview], Awaitable[None]],
) -> int:
    """Read *file* from *offset* on, in the executor, and await send() for each piece.

    A piece has at most *most* bytes, all pieces together have *count*; None: to the end of the
    file. Returns the number of bytes sent. The file's position is *offset* plus this number,
    also after an error. A file without seek() is read from its current position. (Before 3.14
    asyncio reads every file from its current position if *offset* is 0.)
    """
    seekable = hasattr(file, "seek")
    if seekable:
        file.seek(offset)
    buffer = memoryview(bytearray(min(count, most) if count else most))
    sent = 0
    try:
        while not count or sent < count:
            room = buffer[: count - sent] if count else buffer
            size = await loop.run_in_executor(None, file.readinto, room)
            if not size:
                break
            await send(buffer[:size])
            sent += size
    finally:
        if seekable:
            file.seek(offset + sent)
    return sent


async def send_through(
    loop: asyncio.AbstractEventLoop, transp: Any, file: Any, offset: int, count: int | None
) -> int:
    """Send *file* through *transp*, which has no way to send a file itself."""
    flow = stdlib.SendfileFallbackProtocol(transp)

    async def send(data: memoryview) -> None:
        # Before write(): if this raises, the pieces that the transport holds count as sent.
        await flow.drain()
        transp.write(data)

    try:
        sent = await send_pieces(loop, file, offset, count, PIECE_BYTES, send)
        # Without this, the protocol might get a resume_writing() without a pause_writing().
        await flow.drain()
        return sent
    finally:
        await flow.restore()
