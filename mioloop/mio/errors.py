"""Errors: the exceptions for negative results of the core.

Source: the ``io::Error`` values of mio 0.6.21. Every error with an errno is the
`OSError` subclass that Python itself picks for it. Only the failures of mio that
have no errno need new classes.
"""

from __future__ import annotations

import os

from mioloop.mio._core import lib


class MioError(OSError):
    """A failure without an errno: mio's ``ErrorKind::Other`` or ``WriteZero``.

    Attributes:
        kind: the name of mio's error kind, ``"Other"`` or ``"WriteZero"``.
    """

    def __init__(self, message: str, kind: str = "Other") -> None:
        super().__init__(message)
        self.kind = kind


class InvalidTokenError(MioError, ValueError):
    """The token is `Token.MAX`, which the core keeps for itself."""


class WrongPollError(MioError):
    """The handle was registered with another `Poll`, to which it belongs for life."""


def check(rc: int) -> int:
    """Return the result *rc* of a core function, or raise the error that it stands for.

    Raises:
        InvalidTokenError: the token is reserved.
        WrongPollError: the handle is bound to another Poll.
        OSError: the errno is ``-rc``; the subclass is the one of that errno.
    """
    if rc >= 0:
        return rc
    if rc == -lib.MIO_ETOKEN:
        raise InvalidTokenError(f"token {lib.MIO_TOKEN_MAX} (Token.MAX) is reserved for the waker")
    if rc == -lib.MIO_EWRONGPOLL:
        raise WrongPollError("the handle belongs to another Poll, where it was first registered")
    raise OSError(-rc, os.strerror(-rc))
