"""OwnedHandle: the base of every handle that owns its descriptor.

Source: mio 0.6.21, ``src/poll.rs: SelectorId``.
"""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from mioloop.mio._core import lib
from mioloop.mio.closeable import Closeable
from mioloop.mio.errors import check
from mioloop.mio.event import Evented
from mioloop.mio.interest import Interest
from mioloop.mio.poll import Poll, _others
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready

P = ParamSpec("P")
R = TypeVar("R")


class Binding:
    """The Poll to which a handle and its clones belong for life, from their first register.

    The reference is weak: a handle does not keep its Poll open. Once the Poll is garbage
    collected, the handle can no longer be registered.
    """

    __slots__ = ("__weakref__", "_lock", "_poll")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._poll: weakref.ref[Poll] | None = None
        _others.add(self)

    def _forked(self) -> None:
        self._lock = threading.RLock()

    def poll(self) -> Poll | None:
        """The Poll, if there is one and it still exists."""
        bound = self._poll
        return None if bound is None else bound()

    def check(self, poll: Poll) -> None:
        if self._poll is not None and self._poll() is not poll:
            check(-lib.MIO_EWRONGPOLL)

    @contextmanager
    def registering(self, poll: Poll) -> Iterator[None]:
        """Bind to *poll* if the body of the ``with`` statement succeeds."""
        with self._lock:
            self.check(poll)
            yield
            self._poll = weakref.ref(poll)


class OwnedHandle(Closeable, Evented):
    """An Evented that owns a descriptor and closes it.

    Any operation that would block raises `BlockingIOError`: wait for the next event.
    A handle that is garbage collected is closed. Operations on a closed handle raise
    `ValueError`.
    """

    __slots__ = ("__weakref__", "_binding")

    _binding: Binding

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor.

        Raises:
            ValueError: the handle is closed.
        """

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    @abstractmethod
    def _release(self) -> int:
        """Give up the descriptor, which stays open. The handle is then closed."""

    @abstractmethod
    def _close(self) -> None:
        """Close the descriptor, if it is open."""

    def detach(self) -> int:
        """Give up the descriptor, which stays open and registered. mio: ``into_raw_fd``.

        Raises:
            ValueError: the handle is closed.
        """
        self.fileno()
        return self._release()

    def close(self) -> None:
        """Close the descriptor, which ends its events. Closing twice is fine."""
        poll = self._binding.poll()
        if poll is not None:
            with suppress(ValueError):      # another thread has closed it meanwhile
                poll._closing(self.fileno())
        self._close()

    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        with self._binding.registering(poll):
            poll.register(self.fileno(), token, interest, opts)

    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        self._binding.check(poll)
        poll.reregister(self.fileno(), token, interest, opts)

    def deregister(self, poll: Poll) -> None:
        self._binding.check(poll)
        poll.deregister(self.fileno())

    def _try(
        self, direction: Ready, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Do *operation*, and tell a Poll that emulates edges if it would have blocked."""
        try:
            return operation(*args, **kwargs)
        except BlockingIOError:
            poll = self._binding.poll()
            if poll is not None and not self.closed:
                poll.drained(self.fileno(), direction)
            raise

    def __del__(self) -> None:
        # Construction may have failed before there was anything to close.
        if hasattr(self, "_binding"):
            self.close()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} closed>" if self.closed else f"<{name} fd={self.fileno()}>"
