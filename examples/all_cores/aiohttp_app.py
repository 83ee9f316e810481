"""An aiohttp application on all cores: one application for each worker, and one port.

    python examples/all_cores/aiohttp_app.py --port 8080

The visits of all workers are counted in worker 0, by `worker.call()`. Ctrl-C stops the server:
aiohttp closes idle connections, and waits for requests that are under way.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools

from aiohttp import web

import mioloop
from mioloop.group import Worker

WORKER: web.AppKey[Worker] = web.AppKey("worker", Worker)

visits = itertools.count(1)


def next_visit() -> int:
    """Runs in worker 0 only."""
    return next(visits)


async def index(request: web.Request) -> web.Response:
    worker = request.app[WORKER]
    visit = await asyncio.wrap_future(worker.call(0, next_visit))
    return web.json_response({"worker": worker.index, "visit": visit})


async def main(port: int, worker: Worker) -> None:
    """Runs once in each loop."""
    app = web.Application()
    app[WORKER] = worker
    app.add_routes([web.get("/", index)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    sock = worker.listen("127.0.0.1", port)
    await web.SockSite(runner, sock).start()
    if worker.index == 0:
        print(f"{worker.count} workers on port {sock.getsockname()[1]}", flush=True)
    await worker.stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An aiohttp application on all cores.")
    parser.add_argument("--port", type=int, default=0, help="default: the system chooses")
    parser.add_argument("--workers", type=int, help="default: one for each core")
    parser.add_argument("--kind", choices=["process", "thread"])
    options = parser.parse_args()
    with mioloop.LoopGroup(options.workers, kind=options.kind, grace=5) as group:
        group.run(functools.partial(main, options.port))
