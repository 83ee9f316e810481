"""Web applications by their names, such as ``shop:app``: finding one, and telling its kind."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

AIOHTTP = "aiohttp"
ASGI = "asgi"


def find(name: str) -> Any:
    """Import the object ``module:name``.

    Raises ImportError or AttributeError if it does not exist.
    """
    module, _, path = name.partition(":")
    app: Any = importlib.import_module(module)
    for part in path.split("."):
        app = getattr(app, part)
    return app


def required_arguments(app: Any) -> int:
    """The number of required arguments; -1 if the object cannot be called."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return -1
    return sum(
        each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in signature.parameters.values()
    )


def kind_of(app: Any) -> str | None:
    """`AIOHTTP` for an aiohttp.web.Application, `ASGI` for app(scope, receive, send), or None."""
    if f"{type(app).__module__}.{type(app).__name__}" == "aiohttp.web_app.Application":
        return AIOHTTP
    return ASGI if required_arguments(app) == 3 else None
