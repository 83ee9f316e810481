"""The names of the loops that can be compared."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mioloop.arguments import unknown

TRIGGERS = ("edge", "level", "oneshot")
SELECTORS = ("epoll", "kqueue", "poll")
BASELINE = "C baseline"   # the plain C server, which stands beside the loops in the results

SWITCH = {"on": True, "off": False}
IO_URING_CHOICES = (*SWITCH, "both")
OPTIONS = (*TRIGGERS, *SELECTORS, "spin=SECONDS", "io_uring=on|off")
NAMES = (
    "asyncio",
    "uvloop",
    "mioloop",
    *(f"mioloop:{option}" for option in OPTIONS),
    "mioloop:OPTION:OPTION",
    "MODULE:FACTORY",
)
VARIABLES = tuple(
    f"MIOLOOP_{option}"
    for option in ("BACKEND", "TRIGGER", "SELECTOR", "SPIN", "IO_URING", "STALL", "CONSOLE")
)


@dataclass(frozen=True)
class Loop:
    """A way to make an event loop, given by its name.

    Raises:
        ValueError: the name is not one of `NAMES`.
    """

    name: str

    def __post_init__(self) -> None:
        module, colon, rest = self.name.partition(":")
        if module == "mioloop" and colon:
            self._options_of(rest)
        elif colon:
            if not all(part.isidentifier() for part in [*module.split("."), *rest.split(".")]):
                raise ValueError(unknown("loop", self.name, NAMES))
        elif self.name not in ("asyncio", "uvloop", "mioloop"):
            raise ValueError(unknown("loop", self.name, NAMES))

    def _options_of(self, text: str) -> dict[str, Any]:
        """Parse ``level:poll:spin=0.0001`` into keyword arguments."""
        options: dict[str, Any] = {}
        for part in text.split(":"):
            option, _, value = part.partition("=")
            if part in TRIGGERS:
                options["trigger"] = part
            elif part in SELECTORS:
                options["selector"] = part
            elif option == "spin":
                options["spin"] = self._spin_of(value)
            elif option == "io_uring" and value in SWITCH:
                options["io_uring"] = SWITCH[value]
            else:
                raise ValueError(unknown("loop", self.name, NAMES))
        if len(options) != len(text.split(":")):
            raise ValueError(f"loop {self.name!r} has the same option twice")
        return options

    def _spin_of(self, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise ValueError(
                f"loop {self.name!r}: {text!r} is not a number of seconds, e.g. spin=0.0001"
            )
        return seconds

    @property
    def module(self) -> str:
        """The top-level module that has to be installed."""
        return self.name.partition(":")[0].partition(".")[0]

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `mioloop.new_event_loop`; empty for MODULE:FACTORY."""
        module, colon, rest = self.name.partition(":")
        if module == "mioloop":
            return {"backend": "mio", **(self._options_of(rest) if colon else {})}
        return {} if colon else {"backend": module}

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make a program in another process choose this loop."""
        variables = {f"MIOLOOP_{key.upper()}": str(value) for key, value in self.options.items()}
        return variables | {"MIOLOOP_COMPARE_LOOP": self.name}

    def without_io_uring(self) -> Loop | None:
        """This loop with io_uring off; None if the name states io_uring, or is not mioloop."""
        options = self.options
        if options.get("backend") != "mio" or "io_uring" in options:
            return None
        return Loop(f"{self.name}:io_uring=off")

    def factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return the function that makes this loop.

        Raises ImportError or AttributeError if it does not exist.
        """
        module, _, path = self.name.partition(":")
        if self.options:
            from mioloop.factory import new_event_loop

            options = self.options
            return lambda: new_event_loop(**options)
        made: object = importlib.import_module(module)
        for name in path.split("."):
            made = getattr(made, name)
        return made  # type: ignore[return-value]

    def problem(self) -> str | None:
        """The reason why this loop cannot be made here; None if it can."""
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
        """True if a loop of this class (module and name) fits the name of this loop."""
        return not self.options or class_name.startswith(f"{self.module}.")


def parse(names: str) -> list[Loop]:
    """The loops of a comma-separated list, without duplicates."""
    return [Loop(name) for name in dict.fromkeys(filter(None, map(str.strip, names.split(","))))]


@contextlib.contextmanager
def default_options() -> Iterator[list[str]]:
    """Take the options of mioloop out of the environment, and return them as ``NAME=VALUE``.

    Every loop then has the options that its name states, and the defaults of all others. The child
    processes inherit this environment.
    """
    taken = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield [f"{name}={value}" for name, value in taken.items() if value]
    finally:
        os.environ.update(taken)
