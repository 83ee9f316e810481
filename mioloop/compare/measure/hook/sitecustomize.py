"""Imported by every Python that ``mioloop compare -- COMMAND`` starts.

Sets the event loop policy, and writes the classes of the running loops to a file. Does nothing
if MIOLOOP_COMPARE_LOOP is not set.
"""

from __future__ import annotations

import importlib
import os
import sys


def _step_aside() -> None:
    """Import the sitecustomize that this file hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    this_module = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        if this_module is not None:
            sys.modules["sitecustomize"] = this_module


def _install(name: str, seen: str) -> None:
    import asyncio
    import warnings
    from asyncio import events

    from mioloop.compare.measure.loops import Loop
    from mioloop.factory import replace_default
    from mioloop.stdlib import HAS_POLICIES

    factory = Loop(name).factory()
    if not HAS_POLICIES:
        replace_default(factory)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # of policies, from 3.14
            base = type(asyncio.get_event_loop_policy())
            policy = type("ComparedPolicy", (base,), {"_loop_factory": staticmethod(factory)})
            asyncio.set_event_loop_policy(policy())

    set_running_loop = events._set_running_loop

    def note(loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None:
            with open(seen, "a") as file:
                print(f"{type(loop).__module__}.{type(loop).__qualname__}", file=file)
            # One note per process is enough. A loop that has imported this function keeps it.
            events._set_running_loop = asyncio._set_running_loop = set_running_loop
        set_running_loop(loop)

    events._set_running_loop = asyncio._set_running_loop = note


_step_aside()
if os.environ.get("MIOLOOP_COMPARE_LOOP"):
    _install(os.environ["MIOLOOP_COMPARE_LOOP"], os.environ["MIOLOOP_COMPARE_SEEN"])
