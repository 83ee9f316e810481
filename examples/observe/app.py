"""An aiohttp application that shows the figures of its loop at /metrics.

    python -m examples.observe.app --port 8080

Every hundredth request for /orders blocks the loop for 300 ms. The stall watch reports the line
while it blocks, and the figures show when and for how long.

Routes:
    GET /orders    a JSON document
    GET /metrics   the figures, for Prometheus
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import time

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

import mioloop
from examples.aiohttp_server import port_number, serve
from mioloop.prometheus import Collector

REGISTRY: web.AppKey[CollectorRegistry] = web.AppKey("registry", CollectorRegistry)

BLOCKS_EVERY = 100
BLOCKS_S = 0.3
STALL_S = 0.1

_requests = itertools.count(1)


def write_report(number: int) -> None:
    """Code that blocks, in the place of a slow query or a large file."""
    time.sleep(BLOCKS_S)


async def orders(request: web.Request) -> web.Response:
    number = next(_requests)
    if number % BLOCKS_EVERY == 0:
        write_report(number)
    return web.json_response({"number": number})


async def metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=generate_latest(request.app[REGISTRY]),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def make_app() -> web.Application:
    app = web.Application()
    app[REGISTRY] = CollectorRegistry()
    app.add_routes([web.get("/orders", orders), web.get("/metrics", metrics)])
    return app


async def main(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, mioloop.EventLoop)
    app = make_app()
    app[REGISTRY].register(Collector(loop, name="web"))
    await serve(app, host, port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An application whose loop is observed.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=8080, help="0: the system chooses")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    mioloop.run(main(options.host, options.port), stall=STALL_S)
