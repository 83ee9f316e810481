"""PollOpt: the options of a registration.

Source: mio 0.6.21, ``src/event_imp.rs: PollOpt``.
"""

from __future__ import annotations

from typing import ClassVar

from mioloop.mio._core import lib
from mioloop.mio.flags import FlagSet


class PollOpt(FlagSet):
    """Edge or level, and perhaps oneshot.

    Neither EDGE nor LEVEL means level. Both together are a set that can be made
    but not registered, because the selectors disagree on its meaning.
    """

    __slots__ = ()

    EMPTY: ClassVar[PollOpt]
    EDGE: ClassVar[PollOpt]
    LEVEL: ClassVar[PollOpt]
    ONESHOT: ClassVar[PollOpt]

    _flags = (
        ("Edge-Triggered", lib.MIO_EDGE),
        ("Level-Triggered", lib.MIO_LEVEL),
        ("OneShot", lib.MIO_ONESHOT),
    )

    @staticmethod
    def empty() -> PollOpt:
        return PollOpt.EMPTY

    @staticmethod
    def edge() -> PollOpt:
        return PollOpt.EDGE

    @staticmethod
    def level() -> PollOpt:
        return PollOpt.LEVEL

    @staticmethod
    def oneshot() -> PollOpt:
        return PollOpt.ONESHOT

    def is_edge(self) -> bool:
        return bool(self & PollOpt.EDGE)

    def is_level(self) -> bool:
        return bool(self & PollOpt.LEVEL)

    def is_oneshot(self) -> bool:
        return bool(self & PollOpt.ONESHOT)


PollOpt.EMPTY = PollOpt(0)
PollOpt.EDGE = PollOpt(lib.MIO_EDGE)
PollOpt.LEVEL = PollOpt(lib.MIO_LEVEL)
PollOpt.ONESHOT = PollOpt(lib.MIO_ONESHOT)
