"""Start the chat, with a PostgreSQL and a Redis of its own; Ctrl-C ends all of them.

    python -m examples.chat                     # then open the address that it prints
    python -m examples.chat --database postgresql://... --redis redis://...     # existing servers
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from contextlib import ExitStack

import mioloop
from examples import local_servers
from examples.local_servers import HOST, MissingServer

try:
    from aiohttp import web

    from examples.chat.app import make_app
except ModuleNotFoundError as missing:
    sys.exit(f"chat: {missing}: pip install 'mioloop[chat]'")


async def serve(app: web.Application, host: str, port: int) -> None:
    """Serve *app* until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound_host, bound_port, *_ = runner.addresses[0]
        print(f"chat on http://{bound_host}:{bound_port}/ (Ctrl-C ends it)", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.chat", description="A chat on mioloop, PostgreSQL and Redis."
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=8080, help="0: the system chooses")
    parser.add_argument("--database", metavar="URL", help="use this PostgreSQL; start none")
    parser.add_argument("--redis", metavar="URL", help="use this Redis; start none")
    options = parser.parse_args()
    # SIGTERM ends this program as Ctrl-C does, also before the loop runs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as servers:
        try:
            if options.database is None:
                server = servers.enter_context(local_servers.postgresql())
                print(server, flush=True)
                options.database = f"postgresql://postgres@{HOST}:{server.port}/postgres"
            if options.redis is None:
                server = servers.enter_context(local_servers.redis())
                print(server, flush=True)
                options.redis = f"redis://{HOST}:{server.port}"
        except MissingServer as missing:
            sys.exit(f"chat: {missing}")
        app = make_app(options.database, options.redis)
        mioloop.run(serve(app, options.host, options.port))


if __name__ == "__main__":
    main()
