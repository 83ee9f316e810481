"""An ASGI application on all cores, by uvicorn: one server for each worker, and one port.

    python examples/all_cores/uvicorn_app.py --port 8080

`mioloop serve` does this for an application that is named on its command line.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

import mioloop
from mioloop.group import Worker, current_worker

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    body = f"hello from worker {current_worker().index}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, worker: Worker) -> None:
    """Runs once in each loop."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    worker.on_stop(setattr, server, "should_exit", True)
    sock = worker.listen("127.0.0.1", port)
    if worker.index == 0:
        print(f"{worker.count} workers on port {sock.getsockname()[1]}", flush=True)
    await server.serve(sockets=[sock])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An ASGI application on all cores.")
    parser.add_argument("--port", type=int, default=0, help="default: the system chooses")
    parser.add_argument("--workers", type=int, help="default: one for each core")
    parser.add_argument("--kind", choices=["process", "thread"])
    options = parser.parse_args()
    with mioloop.LoopGroup(options.workers, kind=options.kind, grace=5) as group:
        group.run(functools.partial(main, options.port))
