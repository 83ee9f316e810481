"""``python -m mioloop serve``: a web application on all cores, behind one port."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from mioloop import applications
from mioloop.arguments import Parser, unknown
from mioloop.group.loop_group import KINDS, LoopGroup
from mioloop.group.worker import Worker

APP_KINDS = (
    "an aiohttp.web.Application, an ASGI application (scope, receive, send), or a function without"
    " arguments that returns one of these"
)


class UnusableApplication(Exception):
    """The application cannot be served; the message is one line for the user."""


def find(name: str) -> Any:
    """The application ``module:name``. Raises UnusableApplication if there is none.

    An exception of the module's own code goes through, with its traceback.
    """
    module, _, path = name.partition(":")
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError as exc:          # its package is none, or missing
        if not f"{module}.".startswith(f"{exc.name}."):
            raise
        found = None
    if found is None:
        raise UnusableApplication(f"there is no module {module!r}")
    importlib.import_module(module)
    try:
        return applications.find(name)
    except AttributeError:
        names = [each for each in vars(sys.modules[module]) if not each.startswith("_")]
        close = difflib.get_close_matches(path, names, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UnusableApplication(f"module {module!r} has no {path!r}{meant}") from None


async def main(name: str, host: str, port: int, grace: float, worker: Worker) -> None:
    """Serve the application ``module:name`` in one loop."""
    app = find(name)
    kind = applications.kind_of(app)
    if kind == applications.AIOHTTP and worker.kind == "thread" and worker.count > 1:
        raise UnusableApplication(
            f"{name} is one aiohttp Application, and only one loop can run it: name a function"
            " that makes one, or use --kind process"
        )
    if kind is None and applications.required_arguments(app) == 0:
        app = app()
        if inspect.isawaitable(app):
            app = await app
        kind = applications.kind_of(app)
    if kind is None:
        raise UnusableApplication(f"{name} is of type {type(app).__name__}, and not {APP_KINDS}")
    serve = serve_aiohttp if kind == applications.AIOHTTP else serve_asgi
    await serve(app, host, port, grace, worker)


async def serve_aiohttp(app: Any, host: str, port: int, grace: float, worker: Worker) -> None:
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace)
    await runner.setup()
    try:
        sock = worker.listen(host, port)
        await web.SockSite(runner, sock).start()
        announce(worker, sock.getsockname())
        await worker.stopping.wait()
    finally:
        await runner.cleanup()


async def serve_asgi(app: Any, host: str, port: int, grace: float, worker: Worker) -> None:
    try:
        import uvicorn
    except ImportError:
        raise UnusableApplication(
            "an ASGI application needs uvicorn: pip install uvicorn"
        ) from None
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", timeout_graceful_shutdown=max(1, int(grace))
    )
    server = uvicorn.Server(config)
    sock = worker.listen(host, port)
    announce(worker, sock.getsockname())
    worker.on_stop(setattr, server, "should_exit", True)
    try:
        await server.serve(sockets=[sock])
    except SystemExit:                          # uvicorn has logged the reason
        raise UnusableApplication("the startup of the application has failed") from None


def announce(worker: Worker, address: Any) -> None:
    if worker.index == 0:
        host, port = address[:2]
        shown = f"[{host}]" if ":" in host else host
        workers = "1 worker" if worker.count == 1 else f"{worker.count} workers"
        kinds = "process" if worker.kind == "process" else "thread"
        print(
            f"mioloop: serving on http://{shown}:{port} ({workers}, kind {kinds})",
            file=sys.stderr, flush=True,
        )


# -- the command line ------------------------------------------------------------------------------


def number(low: int, high: int | None, what: str) -> Any:
    """A type of argument: a whole number from *low* to *high*."""

    def check(text: str) -> int:
        with contextlib.suppress(ValueError):
            if low <= int(text) and (high is None or int(text) <= high):
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}")

    return check


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m mioloop serve",
        description="Serve a web application by several loops behind one port. ASGI applications"
        " are served by uvicorn, aiohttp applications by aiohttp's runner.",
        epilog=f"APPLICATION is {APP_KINDS}. SIGINT (Ctrl-C) and SIGTERM stop the server, and"
        " print the figures of each worker.",
    )
    parser.add_argument("application", metavar="MODULE:NAME", help="such as shop:app")
    parser.add_argument(
        "--workers", type=number(1, None, "number of workers, 1 or more"), metavar="N",
        help="number of loops (default: one for each core)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=number(0, 65535, "port, 0 to 65535"), default=8000,
        help="port (default: 8000; 0: the system chooses)",
    )
    parser.add_argument(
        "--grace", type=seconds, default=10.0, metavar="SECONDS",
        help="time for open connections to finish (default: 10)",
    )
    parser.add_argument(
        "--kind", metavar="|".join(KINDS),
        help="default: threads where Python has no GIL, else processes",
    )
    return parser


def serve(arguments: Sequence[str]) -> int:
    """The command. Returns its exit code: 0 if it was stopped, 1 if serving has failed."""
    parser = make_parser()
    options = parser.parse(arguments)
    module, _, path = options.application.partition(":")
    if not module or not path:
        parser.error(f"{options.application!r} is not MODULE:NAME, such as shop:app")
    if options.kind not in (None, *KINDS):
        parser.error(unknown("kind", options.kind, KINDS))
    if "" not in sys.path:                      # as `python -m` has it
        sys.path.insert(0, "")
    run = functools.partial(
        main, options.application, options.host, options.port, options.grace
    )
    try:
        with LoopGroup(options.workers, kind=options.kind, grace=options.grace) as group:
            group.run(run)
    except (UnusableApplication, OSError) as exc:
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        print(f"{parser.prog}: {text}", file=sys.stderr)
        return 1
    return 0
