"""Registration, SetReadiness: events that the program makes itself.

Source: mio 0.6.21, ``src/poll.rs: Registration, SetReadiness``.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from mioloop.mio._core import ffi, lib
from mioloop.mio.errors import check
from mioloop.mio.event import Evented
from mioloop.mio.interest import Interest
from mioloop.mio.poll import Poll
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready

if TYPE_CHECKING:
    from mioloop.mio._core import CData

# The core counts references to the node that a pair shares. Here every object of
# the pair holds one cffi object instead, whose last holder gives back the one
# reference that the node began with: right in any order, at exit too.


class Registration(Evented):
    """The half of a pair that is registered with a Poll; `SetReadiness` is the other.

    Make a pair by `new2`. The first `register` or `reregister` binds it to that Poll
    for life. Garbage collection closes it.
    """

    __slots__ = ("__weakref__", "_drop", "_node")

    _drop: CData
    _node: CData | None         # None once closed

    def __init__(self) -> None:
        raise TypeError("a Registration is made by Registration.new2()")

    @staticmethod
    def new2() -> tuple[Registration, SetReadiness]:
        """A pair with empty readiness, registered nowhere.

        Raises:
            MemoryError: none is left.
        """
        out = ffi.new("mio_registration **")
        check(lib.mio_registration_new(out))
        node = ffi.gc(out[0], lib.mio_registration_unref)
        registration = Registration.__new__(Registration)
        registration._node = node
        registration._drop = ffi.gc(node, lib.mio_registration_drop)
        return registration, SetReadiness._of(node)

    new = new2

    def _open(self) -> CData:
        if self._node is None:
            raise ValueError("the Registration is closed")
        return self._node

    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """Report readiness to *poll*; at once, if there is some already.

        Registering again is no error: it does what `reregister` does.

        Raises:
            InvalidTokenError: *token* is `Token.MAX`.
            WrongPollError: the pair is bound to another Poll.
            ValueError: *opts* has both edge and level; the Poll or the Registration is closed.
        """
        poll._update_registration(self._open(), token, interest, opts)

    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """As `register`: report under *token* from now on, and once now if it is ready."""
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
        return self._node is None

    def close(self) -> None:
        """Report nothing any more, not even what a poll has yet to deliver.

        `SetReadiness` goes on to work, unheard. Closing twice is fine.
        """
        self._node = None
        ffi.release(self._drop)

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class SetReadiness:
    """Says, from any thread, what its `Registration` is ready for."""

    __slots__ = ("__weakref__", "_node")

    _node: CData

    def __init__(self) -> None:
        raise TypeError("a SetReadiness is made by Registration.new2()")

    @classmethod
    def _of(cls, node: CData) -> SetReadiness:
        set_readiness = cls.__new__(cls)
        set_readiness._node = node
        return set_readiness

    def readiness(self) -> Ready:
        """What was set last, by whomever, delivered or not."""
        return Ready(lib.mio_readiness_get(self._node))

    def set_readiness(self, ready: Ready) -> None:
        """Replace the readiness, and wake the Poll if the interest includes any of it.

        With edge, every call is an event of its own, also with the same value again;
        calls before one poll merge. It orders no memory: share data through a lock or
        a queue. Never waits for a poll that blocks.
        """
        if not isinstance(ready, Ready):
            raise TypeError(f"ready must be a Ready, not {ready!r}")
        check(lib.mio_readiness_set(self._node, ready.as_usize()))

    def clone(self) -> SetReadiness:
        """Another one for the same `Registration`."""
        return SetReadiness._of(self._node)

    __copy__ = clone
