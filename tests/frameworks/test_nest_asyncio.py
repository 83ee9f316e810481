"""Unmodified nest_asyncio and nest_asyncio2: a nested run_until_complete(), as in notebooks.

It patches asyncio for the whole process, so that each test has a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import asyncio
import socket
import sys

import mioloop
nest = __import__(sys.argv.pop(1))


async def echo(reader, writer):
    writer.write(await reader.readexactly(4))
    writer.close()


async def inner():
    await asyncio.sleep(0.001)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"ping")
    assert await reader.read() == b"ping"
    writer.close()
    server.close()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: "from a thread")


def deeper(depth):
    loop = asyncio.get_event_loop()
    return asyncio.run(inner()) if depth == 0 else loop.run_until_complete(nested(depth - 1))


async def nested(depth):
    await asyncio.sleep(0)
    result = deeper(depth)
    await asyncio.sleep(0.001)
    return result


mioloop.install(**dict(argument.split("=") for argument in sys.argv[1:]))
nest.apply()
print(asyncio.run(nested(3)))
"""


@pytest.mark.known_difference("uvloop", "is no BaseEventLoop, and is refused")
@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_loop_runs_inside_itself(loop_kind: Any, module: str) -> None:
    """R100: callbacks, timers, sockets and threads in nested runs."""
    pytest.importorskip(module)
    options = [f"{name}={value}" for name, value in loop_kind.options.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, module, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "from a thread\n", "")
