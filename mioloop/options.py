"""LoopOptions: how an EventLoop polls, by argument, environment or default."""

from __future__ import annotations

import os
from dataclasses import dataclass

TRIGGERS = ("edge", "level", "oneshot")
SWITCH = {
    "1": True, "yes": True, "on": True, "true": True,
    "0": False, "no": False, "off": False, "false": False,
}


@dataclass(frozen=True)
class LoopOptions:
    """The options of an `EventLoop`, which documents them.

    Raises ValueError for a spin out of its range and for an io_uring that is no bool. The reactor
    knows the valid triggers and selectors, and refuses any other name.
    """

    trigger: str = "edge"
    selector: str | None = None
    spin: float = 0.0
    io_uring: bool = True

    def __post_init__(self) -> None:
        spin = self.spin
        if isinstance(spin, bool) or not isinstance(spin, (int, float)) or not 0 <= spin <= 1:
            raise ValueError(f"spin must be a number of seconds from 0 to 1, not {spin!r}")
        if not isinstance(self.io_uring, bool):
            raise ValueError(f"io_uring must be True or False, not {self.io_uring!r}")

    @classmethod
    def from_environment(
        cls,
        trigger: str | None = None,
        selector: str | None = None,
        spin: float | None = None,
        io_uring: bool | None = None,
    ) -> LoopOptions:
        """The given options. An option that is None is taken from the environment (MIOLOOP_TRIGGER,
        MIOLOOP_SPIN and so on), which is read at each call, or else has its default."""
        return cls(
            trigger=trigger or os.environ.get("MIOLOOP_TRIGGER") or cls.trigger,
            selector=selector or os.environ.get("MIOLOOP_SELECTOR") or None,
            spin=_spin_of_environment() if spin is None else spin,
            io_uring=_io_uring_of_environment() if io_uring is None else io_uring,
        )


def _spin_of_environment() -> float:
    text = os.environ.get("MIOLOOP_SPIN") or "0"
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"MIOLOOP_SPIN must be a number of seconds from 0 to 1, not {text!r}"
        ) from None


def _io_uring_of_environment() -> bool:
    text = os.environ.get("MIOLOOP_IO_URING") or "1"
    try:
        return SWITCH[text.lower()]
    except KeyError:
        raise ValueError(
            f"MIOLOOP_IO_URING must be one of {', '.join(SWITCH)}, not {text!r}"
        ) from None
