"""mioloop: an asyncio event loop on a Poll core with mio 0.6 semantics.

    mioloop.run(main())                                          # any Python
    with mioloop.LoopGroup(workers=4) as group: group.run(main)  # a loop on each core
    asyncio.Runner(loop_factory=mioloop.new_event_loop)          # 3.11 and later
    asyncio.set_event_loop_policy(mioloop.EventLoopPolicy())     # an existing program, to 3.15

``mioloop.mio`` is the Poll core itself; ``docs/`` says more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "EventLoop",
    "Loop",
    "LoopGroup",
    "mio",
    "new_event_loop",
    "run",
]
if sys.version_info < (3, 16):      # 3.16 has no policies
    __all__ += ["EventLoopPolicy", "install"]

if TYPE_CHECKING:
    from mioloop import mio
    from mioloop.factory import new_event_loop, run
    from mioloop.group import LoopGroup
    from mioloop.loop.event_loop import EventLoop
    from mioloop.loop.event_loop import EventLoop as Loop

    if sys.version_info < (3, 16):
        from mioloop.policy import EventLoopPolicy, install

_HOMES = {
    "EventLoop": "mioloop.loop.event_loop",
    "Loop": "mioloop.loop.event_loop",
    "LoopGroup": "mioloop.group",
    "EventLoopPolicy": "mioloop.policy",
    "install": "mioloop.policy",
    "new_event_loop": "mioloop.factory",
    "run": "mioloop.factory",
}


def _import_on_demand(name: str) -> object:
    """Import each name on demand: ``import mioloop.mio`` needs neither asyncio nor the loop."""
    import importlib

    if name == "mio":
        return importlib.import_module("mioloop.mio")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] == "mioloop.policy":
        from mioloop.stdlib import HAS_POLICIES

        if not HAS_POLICIES:
            raise AttributeError(
                f"there is no mioloop.{name}, because asyncio of this Python has no event loop "
                "policies: use mioloop.run(), or loop_factory=mioloop.new_event_loop"
            )
    value = getattr(importlib.import_module(_HOMES[name]), "EventLoop" if name == "Loop" else name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:                   # a checker would take every name for one of mioloop's
    __getattr__ = _import_on_demand
