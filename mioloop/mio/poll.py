"""Poll: which sources are ready.

Source: mio 0.6.21, ``src/poll.rs: Poll``. Differences are listed in docs/mio.md.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from mioloop.mio._core import ffi, lib
from mioloop.mio.errors import check
from mioloop.mio.event import Evented, Events
from mioloop.mio.interest import Interest
from mioloop.mio.poll_opt import PollOpt
from mioloop.mio.ready import Ready
from mioloop.mio.token import Token, registrable

if TYPE_CHECKING:
    from mioloop.mio._core import CData

FOREVER_NS = -1
# Longer waits are cut to this (146 years), so that now + timeout fits an int64.
_LONGEST_NS = 2**62


class HasFileno(Protocol):
    """An object with a descriptor, such as a stdlib socket."""

    def fileno(self) -> int: ...


class Forkable(Protocol):
    def _forked(self) -> None:
        """We are in a forked child, in which there is no other thread yet."""


class TokenGuard(Protocol):
    """What a borrowed Poll asks before it lets a token in."""

    def check_token(self, token: int) -> None:
        """Raise `ValueError` unless *token* is one that the owner handed out."""

    def is_armed(self, token: int, oneshot: bool) -> bool:
        """Whether *token* is in use and, if *oneshot*, was not reported since it was registered."""

    def _renew_after_fork(self) -> None:
        """Make the poll anew, for a forked child, and call `BorrowedPoll._renewed`."""


Handle = Evented | int | HasFileno


def selectors() -> tuple[str, ...]:
    """The names of the selectors that this build has, the default first."""
    names: list[str] = []
    while (name := lib.mio_selector_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


class Poll:
    """Watches sources, and fills an `Events` with those that are ready.

    Any thread may call any method, also during a `poll` elsewhere; one thread
    polls at a time, the others wait their turn. No reference to a registered
    handle is kept: closing it ends its events. A `Poll` that is garbage collected
    is closed. A forked child can only close a `Poll` of its parent, and must make its
    own: any other method raises `RuntimeError` there.

    Args:
        selector: one of `selectors()`; None for the first of them.

    Raises:
        ValueError: no such selector.
        OSError: the system refused a descriptor (``EMFILE`` and the like).
    """

    def __init__(self, selector: str | None = None) -> None:
        if selector is not None and selector not in selectors():
            raise ValueError(
                f"selector must be one of {', '.join(map(repr, selectors()))}, not {selector!r}"
            )
        out = ffi.new("mio_poll **")
        check(lib.mio_poll_new(ffi.NULL if selector is None else selector.encode(), out))
        self._owned = out[0]
        self._attach(self._owned)

    def _attach(self, poll: CData) -> None:
        self._poll = poll
        self._closed = False
        self._inherited = False             # from the process that forked this one
        _polls.add(self)
        self._selector = ffi.string(lib.mio_poll_selector(poll)).decode()
        self._emulates_edges = bool(lib.mio_poll_emulates_edges(poll))

    @classmethod
    def new(cls) -> Poll:
        return cls()

    @staticmethod
    def _borrow(address: int, guard: TokenGuard) -> BorrowedPoll:
        """A Poll over the ``mio_poll`` at *address*, which stays its owner's."""
        return BorrowedPoll(address, guard)

    @property
    def selector(self) -> str:
        """The name of the selector in use."""
        return self._selector

    @property
    def closed(self) -> bool:
        return self._closed

    # -- registering ------------------------------------------------------

    def register(
        self, handle: Handle, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """Report *handle* from now on, as *token*.

        Args:
            handle: an `Evented`, a descriptor, or an object with ``fileno()``.
            token: comes back in every event of this handle.
            interest: what to report, besides errors and hang-ups.
            opts: edge or level, and perhaps oneshot.

        Raises:
            InvalidTokenError: *token* is `Token.MAX`.
            OverflowError: *token* is no unsigned 64-bit number.
            FileExistsError: the descriptor is registered already.
            PermissionError: the descriptor cannot be polled (a regular file).
            WrongPollError: the handle belongs to another Poll.
            ValueError: *opts* has both edge and level; the Poll or the handle is closed.
            OSError: anything else from the system (``EBADF``, ``ELOOP``).
        """
        if _is_evented(handle):
            handle.register(self, *self._checked(token, interest, opts))
        else:
            self._control(lib.mio_poll_register, _descriptor(handle), token, interest, opts)

    def reregister(
        self, handle: Handle, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        """Replace token, interest and options of *handle*; re-arm it if it was oneshot.

        Raises:
            FileNotFoundError: the descriptor is not registered here.
            Others as `register`, except `FileExistsError`.
        """
        if _is_evented(handle):
            handle.reregister(self, *self._checked(token, interest, opts))
        else:
            self._control(lib.mio_poll_reregister, _descriptor(handle), token, interest, opts)

    def deregister(self, handle: Handle) -> None:
        """Report *handle* no more. It may be registered again, with this Poll only.

        Raises:
            FileNotFoundError: the descriptor is not registered here.
            WrongPollError: the handle belongs to another Poll.
            ValueError: the Poll or the handle is closed.
            OSError: anything else from the system (``EBADF``).
        """
        if _is_evented(handle):
            handle.deregister(self)
        else:
            check(self._call(lib.mio_poll_deregister, _descriptor(handle)))

    def drained(self, handle: int | HasFileno, ready: Ready) -> None:
        """Say that an operation on *handle* would have blocked, in the directions of *ready*.

        The handles of `net` and `unix` say so themselves. A program that reads a bare
        descriptor with edge needs this (or `reregister`) on a selector that emulates
        edges, poll(2): there a reported bit stays silent until then. Elsewhere, on a
        descriptor that is not registered, and on a closed Poll, it does nothing.
        """
        if not isinstance(ready, Ready):
            raise TypeError(f"ready must be a Ready, not {ready!r}")
        fd = _descriptor(handle)
        if self._emulates_edges:
            self._tell(lib.mio_poll_drained, fd, ready.as_usize())

    # -- polling ----------------------------------------------------------

    def poll(self, events: Events, timeout: float | None = None) -> int:
        """Wait until a source is ready, and replace the contents of *events*.

        It can return 0 before *timeout*, even if that is None: a Registration that
        was dropped, or cleared before it was reported, wakes the poll as well. When a
        signal comes, its Python handler runs and the wait goes on.

        Args:
            events: receives at most ``events.capacity`` events; sources left out are
                reported by the next call.
            timeout: seconds. 0 returns at once, None or infinity waits for ever.
                Rounded up to the selector's resolution, never down.

        Returns:
            The number of events; 0 if *timeout* passed first.

        Raises:
            ValueError: *timeout* is negative or NaN; the Poll is closed, perhaps by
                another thread meanwhile.
            RuntimeError: *events* is being filled by another poll.
            OSError: the selector failed; ``errno`` is the system's.
        """
        return self._wait(events, timeout, restart=True)

    def poll_interruptible(self, events: Events, timeout: float | None = None) -> int:
        """As `poll`, but a signal ends the wait.

        Raises:
            InterruptedError: a signal came and its handler raised nothing.
            Others as `poll`.
        """
        return self._wait(events, timeout, restart=False)

    def _wait(self, events: Events, timeout: float | None, restart: bool) -> int:
        if not isinstance(events, Events):
            raise TypeError(f"events must be an Events, not {events!r}")
        timeout_ns = _to_ns(timeout)
        deadline_ns = time.monotonic_ns() + timeout_ns
        count = 0
        events._begin()
        try:
            while True:
                rc = self._call(lib.mio_poll_poll, events._buffer, events.capacity, timeout_ns)
                if rc != -errno.EINTR or not restart:
                    break
                # Python's signal handlers have run, now that we are out of C.
                if timeout_ns > 0:
                    timeout_ns = max(0, deadline_ns - time.monotonic_ns())
            count = check(rc)
        finally:
            events._end(count)
        return count

    def fileno(self) -> int:
        """The selector's descriptor, for nesting in another selector.

        It becomes readable when a poll would report something, user events included.

        Raises:
            ValueError: the Poll is closed.
            OSError: this selector has none (``ENOTSUP`` on poll(2)).
        """
        return check(self._call(lib.mio_poll_fd))

    # -- closing ----------------------------------------------------------

    def close(self) -> None:
        """Free the descriptors; a poll in another thread ends with `ValueError`.

        Handles stay open, and stay bound to this Poll. Closing twice is fine.
        """
        if not self._closed:
            self._closed = True
            lib.mio_poll_close(self._poll)

    # The collector finalizes the objects of a cycle in any order, so that a __del__ of the
    # program's may still call us after this: it finds a closed Poll. The default argument is
    # for the end of the interpreter, when the module's globals may have gone.
    def __del__(self, free: Callable[[CData], None] = lib.mio_poll_free) -> None:
        owned = self.__dict__.pop("_owned", None)
        if owned is not None:
            self._closed = True
            free(owned)

    def __enter__(self) -> Poll:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._selector}{' closed' if self._closed else ''}>"

    # -- what the handles of this package call ------------------------------

    def _update_registration(
        self, node: CData, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        args = self._raw(token, interest, opts)
        check(self._call(lambda poll: lib.mio_registration_update(node, poll, *args)))

    def _deregister_registration(self, node: CData) -> None:
        check(self._call(lambda poll: lib.mio_registration_deregister(node, poll)))

    def _closing(self, fd: int) -> None:
        """*fd* is about to be closed."""
        self._tell(lib.mio_poll_closing, fd)

    # -- the two ways down --------------------------------------------------

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        """``function(poll, *args)``, of which a closed or inherited Poll need not know."""
        if not self._closed and not self._inherited:
            function(self._poll, *args)

    def _call(self, function: Callable[..., int], *args: Any) -> int:
        """What ``function(poll, *args)`` returns.

        Raises:
            ValueError: the Poll is closed, or was while the core was at it.
            RuntimeError: the Poll is the parent's.
        """
        if not self._closed:
            if self._inherited:
                self._use_inherited()
            rc = function(self._poll, *args)
            if rc != -errno.EBADF or not self._closed:
                return rc
        raise ValueError("the Poll is closed")

    def _use_inherited(self) -> None:
        raise RuntimeError("this Poll was made before a fork: the child must make its own")

    def _forked(self) -> None:
        """We are in the child. There is no other thread yet."""
        owned = self.__dict__.get("_owned")     # else it is being freed
        if owned is not None:
            lib.mio_poll_forked(owned)
            self._inherited = True

    def _control(
        self,
        function: Callable[..., int],
        fd: int,
        token: int,
        interest: Ready | Interest,
        opts: PollOpt,
    ) -> None:
        check(self._call(function, fd, *self._raw(token, interest, opts)))

    def _raw(
        self, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> tuple[Token, int, int]:
        """The arguments of a registration as the core takes them."""
        token, interest, opts = self._checked(token, interest, opts)
        return token, interest._bits, opts._bits

    def _checked(
        self, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> tuple[Token, Ready | Interest, PollOpt]:
        if not isinstance(interest, (Ready, Interest)):
            raise TypeError(f"interest must be a Ready or an Interest, not {interest!r}")
        if not isinstance(opts, PollOpt):
            raise TypeError(f"opts must be a PollOpt, not {opts!r}")
        if opts.contains(PollOpt.EDGE | PollOpt.LEVEL):
            raise ValueError(f"opts must be edge or level, not both: {opts!r}")
        return registrable(token), interest, opts


class BorrowedPoll(Poll):
    """A Poll that belongs to, and is driven by, an event loop.

    Handles are registered with it as with any other, under tokens that the loop
    hands out. Once the loop is closed it answers as a closed Poll. In a forked child
    the first use gives the loop a poll of its own, with all that was registered.
    """

    def __init__(self, address: int, guard: TokenGuard) -> None:
        self._guard = guard
        # The owner frees what `address` points to after _forget(): no call may
        # be under way then. Reentrant, for a signal handler that registers.
        self._lock = threading.RLock()
        # What a forked child registers again: its descriptor, token, interest and options.
        self._registered: dict[int, tuple[int, int, int]] = {}
        self._attach(ffi.cast("mio_poll *", address))

    def deregister(self, handle: Handle) -> None:
        super().deregister(handle)
        if not _is_evented(handle):
            self._registered.pop(_descriptor(handle), None)

    def _closing(self, fd: int) -> None:
        self._registered.pop(fd, None)
        super()._closing(fd)

    def _control(
        self,
        function: Callable[..., int],
        fd: int,
        token: int,
        interest: Ready | Interest,
        opts: PollOpt,
    ) -> None:
        with self._lock:
            super()._control(function, fd, token, interest, opts)
            self._registered[fd] = (token, interest._bits, opts._bits)

    def _forked(self) -> None:
        self._lock = threading.RLock()
        if not self._closed:
            lib.mio_poll_forked(self._poll)
            self._inherited = True

    def _use_inherited(self) -> None:
        self._guard._renew_after_fork()

    def _renewed(self) -> None:
        """The owner has made the poll anew; our lock is held."""
        self._inherited = False
        for fd, registration in list(self._registered.items()):
            if self._guard.is_armed(registration[0], bool(registration[2] & PollOpt.ONESHOT._bits)):
                rc = lib.mio_poll_register(self._poll, fd, *registration)
                if -rc not in _GONE:
                    check(rc)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        with self._lock:
            super()._tell(function, *args)

    def _call(self, function: Callable[..., int], *args: Any) -> int:
        with self._lock:
            return super()._call(function, *args)

    def _checked(
        self, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> tuple[Token, Ready | Interest, PollOpt]:
        checked = super()._checked(token, interest, opts)
        self._guard.check_token(checked[0])
        return checked

    def _wait(self, events: Events, timeout: float | None, restart: bool) -> int:
        if self._closed:
            raise ValueError("the Poll is closed")
        raise RuntimeError("this Poll is driven by its event loop; use loop.watch()")

    def close(self) -> None:
        """Raises `RuntimeError`: the loop closes its Poll."""
        if not self._closed:
            raise RuntimeError("this Poll is driven by its event loop; close the loop")

    def _forget(self) -> None:
        """The owner is about to free the poll."""
        with self._lock:
            self._closed = True
            self._poll = ffi.NULL


# Every Poll, Registration, SetReadiness and Binding. What they own has locks, and a thread of the
# parent may have held them when it forked.
_polls: weakref.WeakSet[Poll] = weakref.WeakSet()
_others: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Errors of registering again what its owner has closed; the number may be in use again.
_GONE = (errno.EBADF, errno.EPERM, errno.EEXIST)


def _after_fork_in_child() -> None:
    for inherited in [*_polls, *_others]:
        inherited._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _is_evented(handle: object) -> TypeGuard[Evented]:
    # A Poll has the three methods too, but nests by its descriptor.
    return isinstance(handle, Evented) and not isinstance(handle, Poll)


def _descriptor(handle: Handle) -> int:
    if isinstance(handle, int):
        return handle
    fileno: Callable[[], int] | None = getattr(handle, "fileno", None)
    if fileno is None:
        raise TypeError(
            f"a handle is an Evented, a descriptor or an object with fileno(), not {handle!r}"
        )
    return fileno()


def _to_ns(timeout: float | None) -> int:
    if timeout is None:
        return FOREVER_NS
    if not timeout >= 0:                                # negative, or NaN
        raise ValueError(f"timeout must be >= 0 or None, not {timeout!r}")
    if timeout >= _LONGEST_NS / 1e9:
        return FOREVER_NS if timeout == float("inf") else _LONGEST_NS
    return max(round(timeout * 1e9), 1 if timeout > 0 else 0)
