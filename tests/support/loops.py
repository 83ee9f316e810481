"""The kinds of loop that the tests run on."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class LoopKind:
    """One way to make a loop."""

    backend: str
    trigger: str = ""
    selector: str = ""
    bursts: bool = False    # also where so few connections are ready that it does not pay

    @property
    def name(self) -> str:
        return "mioloop" if self.backend == "mio" else self.backend

    def __str__(self) -> str:
        return "-".join(filter(None, (self.name, self.trigger, self.selector)))

    @property
    def options(self) -> dict[str, str]:
        """The keywords that make mioloop's functions choose this kind."""
        chosen = {"trigger": self.trigger, "selector": self.selector}
        return {"backend": self.backend} | {name: value for name, value in chosen.items() if value}

    def new(self) -> asyncio.AbstractEventLoop:
        if self.backend == "asyncio":
            return asyncio.SelectorEventLoop()
        if self.backend == "uvloop":
            return importlib.import_module("uvloop").new_event_loop()
        loop = importlib.import_module("mioloop").new_event_loop(**self.options)
        if self.bursts:
            loop._burst_from(1)
        return loop


MIOLOOP_KINDS = [
    LoopKind("mio", "edge", "epoll"),
    LoopKind("mio", "level", "epoll", bursts=True),
    LoopKind("mio", "oneshot", "epoll", bursts=True),
    LoopKind("mio", "edge", "poll", bursts=True),
    LoopKind("mio", "level", "poll"),
]
LOOP_KINDS = [LoopKind("asyncio"), LoopKind("uvloop"), *MIOLOOP_KINDS]
