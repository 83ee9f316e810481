"""Loops whose figures are shown under names, for mioloop.prometheus and mioloop.opentelemetry.

The loops are held weakly. Any thread may add loops and read their figures.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from mioloop.loop.event_loop import EventLoop


class NamedLoops:
    """The loops that are neither closed nor freed, each with a name of its own."""

    def __init__(self) -> None:
        self._loops: dict[str, weakref.ref[EventLoop]] = {}
        self._lock = threading.RLock()      # a destructor may ask while this thread has the lock

    def add(self, loop: EventLoop, name: str) -> None:
        """Add *loop*. Nothing happens if it has this name already.

        Raises TypeError if *loop* is not a loop of mioloop, and ValueError if another loop has
        the name or the loop has another name.
        """
        if not isinstance(loop, EventLoop):
            raise TypeError(f"loop must be an event loop of mioloop, not {loop!r}")
        with self._lock:
            for other_name, other in self:
                if other_name == name and other is not loop:
                    raise ValueError(f"the name {name!r} belongs to another loop")
                if other is loop and other_name != name:
                    raise ValueError(f"the loop has the name {other_name!r} already")
            self._loops[name] = weakref.ref(loop)

    def __iter__(self) -> Iterator[tuple[str, EventLoop]]:
        with self._lock:
            loops = list(self._loops.items())
        for name, reference in loops:
            loop = reference()
            if loop is None or loop.is_closed():
                with self._lock:
                    if self._loops.get(name) is reference:
                        del self._loops[name]
            else:
                yield name, loop
