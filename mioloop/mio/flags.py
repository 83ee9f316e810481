"""Flag sets: the algebra that `Ready`, `PollOpt` and `Interest` share.

`enum.IntFlag` does not fit: its ``-`` subtracts integers, its members mix with
plain numbers, and mio's sets have no complement.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

B = TypeVar("B", bound="Bits")
S = TypeVar("S", bound="FlagSet")


class Bits:
    """An immutable, hashable set of named flags."""

    __slots__ = ("_bits",)

    _bits: int
    # Text and bit of each flag that this platform has, in order of printing.
    _flags: ClassVar[tuple[tuple[str, int], ...]] = ()

    def __init__(self, bits: int = 0) -> None:
        known = self._known()
        if not isinstance(bits, int):
            raise TypeError(f"{type(self).__name__} takes an int, not {bits!r}")
        if bits & ~known:                               # also true if negative
            raise ValueError(
                f"{type(self).__name__} has no flags beyond {known:#x} here, not {bits:#x}"
            )
        object.__setattr__(self, "_bits", bits)

    @classmethod
    def _known(cls) -> int:
        known = 0
        for _, bit in cls._flags:
            known |= bit
        return known

    def _operand(self, other: object) -> int:
        """The bits of *other*, which must be a set of the same kind."""
        if not isinstance(other, type(self)):
            name = type(self).__name__
            raise TypeError(f"expected {name}, not {type(other).__name__} ({other!r})")
        return other._bits

    def contains(self: B, other: B) -> bool:
        """Whether every flag of *other* is in this set; always true of an empty *other*."""
        return not self._operand(other) & ~self._bits

    def __contains__(self: B, other: B) -> bool:
        return self.contains(other)

    def __or__(self: B, other: B) -> B:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self._bits | other._bits)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._bits == other._bits

    def __hash__(self) -> int:
        return hash((type(self), self._bits))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self: B) -> tuple[type[B], tuple[int]]:
        return type(self), (self._bits,)

    def __repr__(self) -> str:
        names = [name for name, bit in self._flags if self._bits & bit]
        return " | ".join(names) or "(empty)"


class FlagSet(Bits):
    """A flag set that may be empty, with mio's whole algebra except complement."""

    __slots__ = ()

    def insert(self: S, other: S) -> S:
        """A new set: this one and the flags of *other*."""
        return type(self)(self._bits | self._operand(other))

    def remove(self: S, other: S) -> S:
        """A new set: this one without the flags of *other*."""
        return type(self)(self._bits & ~self._operand(other))

    def is_empty(self) -> bool:
        return not self._bits

    def as_usize(self) -> int:
        """An opaque number, from which `from_usize` makes an equal set."""
        return self._bits

    @classmethod
    def from_usize(cls: type[S], value: int) -> S:
        """The set for the number *value* that `as_usize` returned.

        Raises:
            ValueError: *value* has bits that are no flag on this platform.
        """
        return cls(value)

    def __and__(self: S, other: S) -> S:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self._bits & other._bits)

    def __xor__(self: S, other: S) -> S:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self._bits ^ other._bits)

    def __sub__(self: S, other: S) -> S:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self._bits & ~other._bits)

    def __bool__(self) -> bool:
        return self._bits != 0
