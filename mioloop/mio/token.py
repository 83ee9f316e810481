"""Token: the number by which an event names its source.

Source: mio 0.6.21, ``src/token.rs``.
"""

from __future__ import annotations

from typing import ClassVar

from mioloop.mio._core import lib
from mioloop.mio.errors import check


class Token(int):
    """An unsigned 64-bit number that the program picks for each source.

    It may be a slab index or a dictionary key: the Poll only hands it back.
    `Token.MAX` is reserved for the core and cannot be registered.

    Raises:
        OverflowError: the number is negative or greater than `Token.MAX`.
    """

    __slots__ = ()

    MAX: ClassVar[Token]

    def __new__(cls, value: int) -> Token:
        if not isinstance(value, int):
            raise TypeError(f"a token is an int, not {value!r}")
        if not 0 <= value <= lib.MIO_TOKEN_MAX:
            raise OverflowError(f"a token is from 0 to {lib.MIO_TOKEN_MAX}, not {value}")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"Token({int(self)})"

    __str__ = __repr__


Token.MAX = Token(lib.MIO_TOKEN_MAX)


def registrable(token: int) -> Token:
    """*token* as a `Token`, if a source may be registered under it.

    Raises:
        TypeError, OverflowError: as `Token`.
        InvalidTokenError: it is `Token.MAX`.
    """
    if type(token) is not Token:
        token = Token(token)
    if token == Token.MAX:
        check(-lib.MIO_ETOKEN)
    return token
