"""Ready: a set of readiness kinds.

Source: mio 0.6.21, ``src/event_imp.rs: Ready`` and ``src/sys/unix/ready.rs: UnixReady``,
which are one class here.
"""

from __future__ import annotations

import sys
from typing import ClassVar

from mioloop.mio._core import lib
from mioloop.mio.flags import FlagSet

_AIO = sys.platform == "darwin" or sys.platform.startswith(("freebsd", "dragonfly"))
_LIO = sys.platform.startswith("freebsd")
_PRIORITY = sys.platform.startswith(("linux", "android", "sunos"))


class Ready(FlagSet):
    """The readiness of a source, or the readiness that is asked for.

    Only READABLE and WRITABLE have one meaning everywhere. ERROR and HUP are hints
    that are reported without being asked for. A constant that this platform
    does not have equals EMPTY.
    """

    __slots__ = ()

    EMPTY: ClassVar[Ready]
    READABLE: ClassVar[Ready]
    WRITABLE: ClassVar[Ready]
    ERROR: ClassVar[Ready]
    HUP: ClassVar[Ready]
    AIO: ClassVar[Ready]
    LIO: ClassVar[Ready]
    PRIORITY: ClassVar[Ready]
    ALL: ClassVar[Ready]

    _flags = (
        ("Readable", lib.MIO_READABLE),
        ("Writable", lib.MIO_WRITABLE),
        ("Error", lib.MIO_ERROR),
        ("Hup", lib.MIO_HUP),
        ("Aio", lib.MIO_AIO if _AIO else 0),
        ("Lio", lib.MIO_LIO if _LIO else 0),
        ("Priority", lib.MIO_PRIORITY if _PRIORITY else 0),
    )

    @staticmethod
    def empty() -> Ready:
        return Ready.EMPTY

    @staticmethod
    def readable() -> Ready:
        return Ready.READABLE

    @staticmethod
    def writable() -> Ready:
        return Ready.WRITABLE

    @staticmethod
    def error() -> Ready:
        return Ready.ERROR

    @staticmethod
    def hup() -> Ready:
        return Ready.HUP

    @staticmethod
    def aio() -> Ready:
        return Ready.AIO

    @staticmethod
    def lio() -> Ready:
        return Ready.LIO

    @staticmethod
    def priority() -> Ready:
        return Ready.PRIORITY

    @staticmethod
    def all() -> Ready:
        return Ready.ALL

    # These use `&` and not contains(): an absent flag is the empty set, which every set contains.

    def is_readable(self) -> bool:
        return bool(self & Ready.READABLE)

    def is_writable(self) -> bool:
        return bool(self & Ready.WRITABLE)

    def is_error(self) -> bool:
        return bool(self & Ready.ERROR)

    def is_hup(self) -> bool:
        return bool(self & Ready.HUP)

    def is_aio(self) -> bool:
        return bool(self & Ready.AIO)

    def is_lio(self) -> bool:
        return bool(self & Ready.LIO)

    def is_priority(self) -> bool:
        return bool(self & Ready.PRIORITY)


Ready.EMPTY = Ready(0)
for _name, _bit in Ready._flags:
    setattr(Ready, _name.upper(), Ready(_bit))
Ready.ALL = Ready(Ready._known())

UnixReady = Ready
