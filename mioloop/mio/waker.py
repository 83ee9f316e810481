"""Waker: ends a poll from another thread, by an event with a token that the program chooses.

Source: mio 0.7, ``src/waker.rs``. This one is a `Registration` that `Waker.wake` makes ready.
"""

from __future__ import annotations

from mioloop.mio.closeable import Closeable
from mioloop.mio.poll import Poll
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready
from mioloop.mio.registration import Registration


class Waker(Closeable):
    """Makes *poll* report a readable event with *token* whenever `wake` was called.

    Raises:
        InvalidTokenError: *token* is `Token.MAX`.
        ValueError: the Poll is closed.
    """

    __slots__ = ("_registration", "_set_readiness")

    def __init__(self, poll: Poll, token: int) -> None:
        self._registration, self._set_readiness = Registration.new2()
        self._registration.register(poll, token, Ready.READABLE, PollOpt.EDGE)

    def wake(self) -> None:
        """Cause an event; calls before one poll merge into one. Any thread may call it.

        Raises:
            ValueError: the Waker is closed.
        """
        if self._registration.closed:
            raise ValueError("the Waker is closed")
        self._set_readiness.set_readiness(Ready.READABLE)

    def close(self) -> None:
        """Cause no further event, not even one that `wake` has caused and no poll has reported."""
        self._registration.close()
