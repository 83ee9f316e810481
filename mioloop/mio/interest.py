"""Interest: a set of readiness kinds to ask for, never empty.

Source: mio 0.8, ``src/interest.rs``.
"""

from __future__ import annotations

from typing import ClassVar

from mioloop.mio.flags import Bits
from mioloop.mio.ready import Ready


class Interest(Bits):
    """The readiness to ask for; `Poll.register` takes an Interest in the place of a `Ready`.

    A constant that this platform does not have raises `AttributeError`. (`Ready`'s is
    empty in that case, but an Interest cannot be empty.)

    Raises:
        ValueError: the set would be empty.
    """

    __slots__ = ()

    READABLE: ClassVar[Interest]
    WRITABLE: ClassVar[Interest]
    PRIORITY: ClassVar[Interest]
    AIO: ClassVar[Interest]
    LIO: ClassVar[Interest]

    # Errors and hang-ups are reported anyway and cannot be asked for.
    _flags = tuple(
        (name, bit) for name, bit in Ready._flags if bit and name not in ("Error", "Hup")
    )

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        if not bits:
            raise ValueError("an Interest cannot be empty; Ready.EMPTY can be registered")

    def add(self, other: Interest) -> Interest:
        """A new set: this one and the kinds of *other*."""
        return Interest(self._bits | self._operand(other))

    def remove(self, other: Interest) -> Interest | None:
        """A new set: this one without the kinds of *other*; None if nothing is left."""
        left = self._bits & ~self._operand(other)
        return Interest(left) if left else None

    def is_readable(self) -> bool:
        return Ready(self._bits).is_readable()

    def is_writable(self) -> bool:
        return Ready(self._bits).is_writable()

    def is_priority(self) -> bool:
        return Ready(self._bits).is_priority()

    def is_aio(self) -> bool:
        return Ready(self._bits).is_aio()

    def is_lio(self) -> bool:
        return Ready(self._bits).is_lio()


for _name, _bit in Interest._flags:
    setattr(Interest, _name.upper(), Interest(_bit))
