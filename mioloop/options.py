"""LoopOptions: how an EventLoop polls, by argument, environment or default."""

from __future__ import annotations

import os

TRIGGERS = ("edge", "level", "oneshot")
SPIN_RANGE = "a number of seconds from 0 to 1"
STALL_RANGE = "0 or a number of seconds from 0.001 to 3600"
SWITCH = {
    "1": True, "yes": True, "on": True, "true": True,
    "0": False, "no": False, "off": False, "false": False,
}


class LoopOptions:
    """The options of an `EventLoop`, which documents them.

    Raises ValueError for a spin or a stall out of its range, and for an io_uring, a console or
    durations that are no bool. The reactor knows the valid triggers and selectors, and refuses any
    other name.

    This is no dataclass, because to import `dataclasses` and to make such a class takes 2 ms of
    every start.
    """

    trigger: str = "edge"
    selector: str | None = None
    spin: float = 0.0
    io_uring: bool = True
    stall: float = 0.0
    console: bool = False
    durations: bool = False

    def __init__(
        self,
        trigger: str = trigger,
        selector: str | None = selector,
        spin: float = spin,
        io_uring: bool = io_uring,
        stall: float = stall,
        console: bool = console,
        durations: bool = durations,
    ) -> None:
        if isinstance(spin, bool) or not isinstance(spin, (int, float)) or not 0 <= spin <= 1:
            raise ValueError(f"spin must be {SPIN_RANGE}, not {spin!r}")
        switches = {"io_uring": io_uring, "console": console, "durations": durations}
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
        if (
            isinstance(stall, bool) or not isinstance(stall, (int, float))
            or not (stall == 0 or 0.001 <= stall <= 3600)
        ):
            raise ValueError(f"stall must be {STALL_RANGE}, not {stall!r}")
        self.trigger = trigger
        self.selector = selector
        self.spin = spin
        self.io_uring = io_uring
        self.stall = stall
        self.console = console
        self.durations = durations

    @classmethod
    def from_environment(
        cls,
        trigger: str | None = None,
        selector: str | None = None,
        spin: float | None = None,
        io_uring: bool | None = None,
        stall: float | None = None,
        console: bool | None = None,
        durations: bool | None = None,
    ) -> LoopOptions:
        """The given options. An option that is None is taken from the environment (MIOLOOP_TRIGGER,
        MIOLOOP_SPIN and so on), which is read at each call, or else has its default."""
        return cls(
            trigger=trigger or os.environ.get("MIOLOOP_TRIGGER") or cls.trigger,
            selector=selector or os.environ.get("MIOLOOP_SELECTOR") or None,
            spin=_seconds("MIOLOOP_SPIN", SPIN_RANGE) if spin is None else spin,
            io_uring=_switch("MIOLOOP_IO_URING", "1") if io_uring is None else io_uring,
            stall=_seconds("MIOLOOP_STALL", STALL_RANGE) if stall is None else stall,
            console=_switch("MIOLOOP_CONSOLE", "0") if console is None else console,
            durations=_switch("MIOLOOP_DURATIONS", "0") if durations is None else durations,
        )


def _seconds(name: str, valid: str) -> float:
    text = os.environ.get(name) or "0"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be {valid}, not {text!r}") from None


def _switch(name: str, default: str) -> bool:
    text = os.environ.get(name) or default
    try:
        return SWITCH[text.lower()]
    except KeyError:
        raise ValueError(f"{name} must be one of {', '.join(SWITCH)}, not {text!r}") from None
