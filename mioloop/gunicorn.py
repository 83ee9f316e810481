"""gunicorn's workers on mioloop: ``gunicorn -k mioloop.gunicorn.UvicornWorker app:app``.

`UvicornWorker` serves ASGI applications and needs uvicorn-worker; `AiohttpWorker` serves those of
aiohttp and needs aiohttp. Each is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "UvicornWorker":
        try:
            from uvicorn_worker import UvicornWorker as Base
        except ImportError:             # before uvicorn-worker was a package of its own
            from uvicorn.workers import UvicornWorker as Base

        made: Any = type(name, (Base,), {
            "__doc__": "uvicorn's worker, on a loop of `mioloop.new_event_loop`.",
            "__module__": __name__,
            "CONFIG_KWARGS": {**Base.CONFIG_KWARGS, "loop": "mioloop:new_event_loop"},
        })
    elif name == "AiohttpWorker":
        from aiohttp.worker import GunicornWebWorker

        class AiohttpWorker(GunicornWebWorker):
            """aiohttp's worker, on a loop of `mioloop.new_event_loop`."""

            def init_process(self) -> None:
                from gunicorn.workers import base

                from mioloop.factory import new_event_loop

                self.loop = new_event_loop()
                asyncio.set_event_loop(self.loop)
                base.Worker.init_process(self)

        made = AiohttpWorker
        made.__qualname__ = name
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made
