"""The loops that can be compared, by name."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

TRIGGERS = ("edge", "level", "oneshot")
SELECTORS = ("epoll", "kqueue", "poll")
FLOOR = "C floor"       # not a loop: the plain C server that does the same work

NAMES = (
    "asyncio, uvloop, mioloop, mioloop-TRIGGER, mioloop-TRIGGER-SELECTOR"
    " (edge, level, oneshot; epoll, kqueue, poll) or MODULE:FACTORY"
)


@dataclass(frozen=True)
class Loop:
    """One way to make an event loop, by its name.

    Raises:
        ValueError: the name is not one of `NAMES`.
    """

    name: str

    def __post_init__(self) -> None:
        if ":" in self.name:
            module, _, factory = self.name.partition(":")
            if all(part.isidentifier() for part in [*module.split("."), *factory.split(".")]):
                return
        elif self.name in ("asyncio", "uvloop", "mioloop"):
            return
        elif self.name.startswith("mioloop-"):
            trigger, _, selector = self.name[len("mioloop-") :].partition("-")
            if trigger in TRIGGERS and (not selector or selector in SELECTORS):
                return
        raise ValueError(f"there is no loop {self.name!r}; the loops are {NAMES}")

    @property
    def module(self) -> str:
        """The top-level module that has to be installed."""
        return self.name.partition(":")[0].partition(".")[0].partition("-")[0]

    @property
    def options(self) -> dict[str, str]:
        """The keywords of `mioloop.new_event_loop`; empty for MODULE:FACTORY."""
        if ":" in self.name:
            return {}
        backend, _, rest = self.name.partition("-")
        trigger, _, selector = rest.partition("-")
        options = {
            "backend": "mio" if backend == "mioloop" else backend,
            "trigger": trigger,
            "selector": selector,
        }
        return {key: value for key, value in options.items() if value}

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program of its own choose this loop."""
        variables = {f"MIOLOOP_{key.upper()}": value for key, value in self.options.items()}
        return variables | {"MIOLOOP_COMPARE_LOOP": self.name}

    def factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Raises ImportError or AttributeError if there is no such factory."""
        if ":" in self.name:
            module, _, path = self.name.partition(":")
            made: object = importlib.import_module(module)
            for name in path.split("."):
                made = getattr(made, name)
            return made  # type: ignore[return-value]
        from mioloop.policy import new_event_loop

        options = self.options
        return lambda: new_event_loop(**options)

    def problem(self) -> str | None:
        """Why this loop cannot be had here; None if it can."""
        if importlib.util.find_spec(self.module) is None:
            hint = "pip install uvloop" if self.module == "uvloop" else "no such module"
            return f"{self.module} is not installed ({hint})"
        try:
            factory: Callable[[], object] = self.factory()
            loop = factory()
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        if not isinstance(loop, asyncio.AbstractEventLoop):
            return f"{self.name} made {loop!r}, which is not an event loop"
        loop.close()
        return None

    def is_kind(self, class_name: str) -> bool:
        """Whether a loop of this class (module and name) is what this name asks for."""
        if ":" in self.name:
            return True
        return class_name.startswith(f"{self.module}.")


def parse(names: str) -> list[Loop]:
    """The loops of a comma-separated list, each once."""
    return [Loop(name) for name in dict.fromkeys(filter(None, map(str.strip, names.split(","))))]
