"""An echo server of plain asyncio on all cores: each worker serves the same port.

    python examples/all_cores/echo.py --port 9000
    python examples/all_cores/echo.py --workers 4 --kind thread

Ctrl-C stops it: open connections have five seconds to finish. Then it prints the figures of each
worker.
"""

from __future__ import annotations

import argparse
import asyncio
import functools

import mioloop
from mioloop.group import Worker


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def main(port: int, worker: Worker) -> None:
    """Runs once in each loop."""
    sock = worker.listen("127.0.0.1", port)
    server = await asyncio.start_server(echo, sock=sock)
    if worker.index == 0:
        print(f"{worker.count} workers on port {sock.getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server on all cores.")
    parser.add_argument("--port", type=int, default=0, help="default: the system chooses")
    parser.add_argument("--workers", type=int, help="default: one for each core")
    parser.add_argument("--kind", choices=["process", "thread"])
    options = parser.parse_args()
    with mioloop.LoopGroup(options.workers, kind=options.kind, grace=5) as group:
        group.run(functools.partial(main, options.port))
