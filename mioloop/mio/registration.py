"""Registration, SetReadiness: events that the program makes itself.

Source: mio 0.6.21, ``src/poll.rs: Registration, SetReadiness``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mioloop.mio._core import ffi, lib
from mioloop.mio.closeable import Closeable
from mioloop.mio.errors import check
from mioloop.mio.event import Evented
from mioloop.mio.interest import Interest
from mioloop.mio.poll import Poll, _others
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready

if TYPE_CHECKING:
    from mioloop.mio._core import CData


# The halves of a pair share a node, for which the core counts references: each object here has one
# reference, and drops it when it is finalized. The collector finalizes the objects of a cycle in
# any order, so that a __del__ of the program may call a finalized object: it is then closed. The
# default arguments are for the end of the interpreter, when the module's globals may be cleared.


class Registration(Closeable, Evented):
    """The half of a pair that is registered with a Poll; `SetReadiness` is the other.

    Make a pair by `new2`. The first `register` or `reregister` binds it to that Poll
    for life. Garbage collection closes it.
    """

    __slots__ = ("__weakref__", "_closed", "_node")

    _node: CData | None         # None once finalized
    _closed: bool

    def __init__(self) -> None:
        raise TypeError("a Registration is made by Registration.new2()")

    @staticmethod
    def new2() -> tuple[Registration, SetReadiness]:
        """A pair with empty readiness, registered nowhere.

        Raises:
            OSError: ``ENOMEM``.
        """
        out = ffi.new("mio_registration **")
        check(lib.mio_registration_new(out))
        registration = Registration.__new__(Registration)
        registration._node = out[0]
        registration._closed = False
        _others.add(registration)
        return registration, SetReadiness._of(out[0])

    new = new2

    def _open(self) -> CData:
        if self._closed or self._node is None:
            raise ValueError("the Registration is closed")
        return self._node

    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """Report readiness to *poll*; at once, if some is set already.

        Registering again is no error, and is equivalent to `reregister`.

        Raises:
            InvalidTokenError: *token* is `Token.MAX`.
            WrongPollError: the pair is bound to another Poll.
            ValueError: *opts* has both edge and level; the Poll or the Registration is closed.
        """
        poll._update_registration(self._open(), token, interest, opts)

    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """Report under *token* from now on, and once now if it is ready. Raises as `register`."""
        poll._update_registration(self._open(), token, interest, opts)

    def deregister(self, poll: Poll) -> None:
        """Report nothing until the next `register`. The readiness is kept.

        Raises:
            WrongPollError: the pair is bound to another Poll.
            ValueError: the Poll or the Registration is closed.
        """
        poll._deregister_registration(self._open())

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Report no further event, not even one that a poll has yet to deliver.

        `SetReadiness` can still be called, but has no effect. Closing twice is fine.
        """
        self._close(lib.mio_registration_drop)

    def _close(self, drop: Callable[[CData], None]) -> None:
        if not self._closed and self._node is not None:
            self._closed = True
            drop(self._node)

    def _forked(self) -> None:
        if self._node is not None:
            lib.mio_registration_forked(self._node)

    def __del__(
        self,
        drop: Callable[[CData], None] = lib.mio_registration_drop,
        unref: Callable[[CData], None] = lib.mio_registration_unref,
    ) -> None:
        node = getattr(self, "_node", None)     # missing if __init__() raised
        if node is not None:
            self._close(drop)
            self._node = None
            unref(node)


class SetReadiness:
    """Sets the readiness of its `Registration`, from any thread."""

    __slots__ = ("__weakref__", "_node")

    _node: CData | None         # None once finalized

    def __init__(self) -> None:
        raise TypeError("a SetReadiness is made by Registration.new2()")

    @classmethod
    def _of(cls, node: CData) -> SetReadiness:
        set_readiness = cls.__new__(cls)
        lib.mio_registration_ref(node)
        set_readiness._node = node
        _others.add(set_readiness)
        return set_readiness

    def _open(self) -> CData:
        if self._node is None:
            raise ValueError("the SetReadiness has been finalized")
        return self._node

    def _forked(self) -> None:
        if self._node is not None:
            lib.mio_registration_forked(self._node)

    def readiness(self) -> Ready:
        """The readiness that any thread has set last, whether it was delivered or not."""
        return Ready(lib.mio_readiness_get(self._open()))

    def set_readiness(self, ready: Ready) -> None:
        """Replace the readiness, and wake the Poll if the interest includes any of it.

        With edge, every call makes a new event, even if the value does not change; calls
        before one poll merge into one event. The call does not order memory accesses: share
        data through a lock or a queue. Never waits for a poll that blocks.
        """
        if not isinstance(ready, Ready):
            raise TypeError(f"ready must be a Ready, not {ready!r}")
        check(lib.mio_readiness_set(self._open(), ready.as_usize()))

    def clone(self) -> SetReadiness:
        """Another SetReadiness for this `Registration`."""
        return SetReadiness._of(self._open())

    __copy__ = clone

    def __del__(self, unref: Callable[[CData], None] = lib.mio_registration_unref) -> None:
        node = getattr(self, "_node", None)
        if node is not None:
            self._node = None
            unref(node)
