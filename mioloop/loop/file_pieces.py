"""A file in pieces, for sendfile() where the system's own call cannot send the file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


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
