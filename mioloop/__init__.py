"""mioloop: an asyncio event loop on a Poll core with mio 0.6 semantics.

    asyncio.set_event_loop_policy(mioloop.EventLoopPolicy())     # an existing program
    asyncio.Runner(loop_factory=mioloop.new_event_loop)          # Python 3.11 and later
    mioloop.run(main())                                          # any

``mioloop.mio`` is the Poll core itself; ``docs/`` says more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "Loop",
    "install",
    "mio",
    "new_event_loop",
    "run",
]

if TYPE_CHECKING:
    from mioloop import mio
    from mioloop.loop.event_loop import EventLoop
    from mioloop.loop.event_loop import EventLoop as Loop
    from mioloop.policy import EventLoopPolicy, install, new_event_loop, run

_HOMES = {
    "EventLoop": "mioloop.loop.event_loop",
    "Loop": "mioloop.loop.event_loop",
    "EventLoopPolicy": "mioloop.policy",
    "install": "mioloop.policy",
    "new_event_loop": "mioloop.policy",
    "run": "mioloop.policy",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: ``import mioloop.mio`` needs neither asyncio nor the loop."""
    import importlib

    if name == "mio":
        return importlib.import_module("mioloop.mio")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), "EventLoop" if name == "Loop" else name)
    globals()[name] = value
    return value
