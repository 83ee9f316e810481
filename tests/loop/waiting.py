"""How the tests of the loop wait: turn by turn, for what they name."""

from __future__ import annotations

import asyncio


async def receive_exactly(loop, sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = await loop.sock_recv(sock, 1 << 16)
        assert chunk, f"end of file after {len(data)} bytes"
        data += chunk
    return bytes(data)


async def until(condition, timeout_s=5.0):
    """Turns of the loop until it is so."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout_s
    while not condition():
        assert loop.time() < give_up, "waited too long"
        await asyncio.sleep(0)


async def until_waiting(*tasks):
    """Turns until each task waits for a future."""
    await until(lambda: all(task._fut_waiter is not None for task in tasks))


def future_is_set(task):
    return task._fut_waiter is not None and task._fut_waiter.done()


def run_until(loop, condition, timeout_s=10.0):
    async def main():
        give_up = loop.time() + timeout_s
        while not condition():
            assert loop.time() < give_up, "waited too long"
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
