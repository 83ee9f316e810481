"""A pytest plugin: every event loop of the tests is mioloop's.

``pytest -p mioloop.pytest``, or in the configuration::

    [pytest]
    addopts = -p mioloop.pytest
    mioloop_loop = true         # false: only the options exist
    mioloop_trigger = edge      # or level, oneshot
    mioloop_debug = false

It changes what asyncio gives to everyone who asks for a loop (see `mioloop.takeover`), so that it
serves pytest-asyncio, pytest-aiohttp, anyio's plugin, `unittest.IsolatedAsyncioTestCase` and
Starlette's TestClient alike. A fixture or a test that names the class of its loop keeps it.
"""

from __future__ import annotations

import importlib.metadata
import os

import pytest

from mioloop.options import TRIGGERS
from mioloop.takeover import TakeOver

_over = pytest.StashKey[TakeOver]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("mioloop_loop", "run the tests on mioloop", type="bool", default=True)
    parser.addini("mioloop_trigger", f"one of {', '.join(TRIGGERS)}", default="")
    parser.addini("mioloop_debug", "run the loops in asyncio's debug mode", type="bool")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getini("mioloop_loop") or TakeOver.current is not None:
        return
    trigger = config.getini("mioloop_trigger")
    if trigger:
        if trigger not in TRIGGERS:
            raise pytest.UsageError(
                f"mioloop_trigger must be one of {', '.join(TRIGGERS)}, not {trigger!r}"
            )
        os.environ["MIOLOOP_TRIGGER"] = trigger
    if config.getini("mioloop_debug"):
        os.environ["PYTHONASYNCIODEBUG"] = "1"
    config.stash[_over] = TakeOver().begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _over in config.stash:
        config.stash[_over].undo()
        del config.stash[_over]


def pytest_report_header(config: pytest.Config) -> str | None:
    if _over not in config.stash:
        return None
    trigger = os.environ.get("MIOLOOP_TRIGGER") or "edge"
    return f"mioloop: {importlib.metadata.version('mioloop')}, trigger {trigger}"
