"""Poll: tells which sources are ready.

Source: mio 0.6.21, ``src/poll.rs: Poll``. Differences are listed in docs/mio.md.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from mioloop.mio._core import ffi, lib
from mioloop.mio.closeable import Closeable
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
        """Called in a forked child, before it has another thread."""


class TokenGuard(Protocol):
    """The owner of a borrowed Poll, which checks the tokens of new registrations."""

    def check_token(self, token: int) -> None:
        """Raise `ValueError` unless the owner has handed out *token*."""

    def is_armed(self, token: int, oneshot: bool) -> bool:
        """Whether *token* is in use and, if *oneshot*, was not reported since it was registered."""

    def _renew_after_fork(self) -> None:
        """Make the poll anew, for a forked child, and call `BorrowedPoll._renewed`."""


Handle = Evented | int | HasFileno


def selectors() -> tuple[str, ...]:
    """The names of the selectors of this build; the first is the default."""
    names: list[str] = []
    while (name := lib.mio_selector_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


class Poll(Closeable):
    """Watches sources, and fills an `Events` with an event for each ready source.

    Any thread may call any method, also while another thread polls. One thread
    polls at a time; further threads wait for their turn. A Poll keeps no reference
    to a registered handle, and closing the handle ends its events. A `Poll` that is
    garbage collected is closed. A forked child can only close a `Poll` of its parent,
    and must make a new one: any other method raises `RuntimeError` in the child.

    Args:
        selector: one of `selectors()`; None for the first of them.

    Raises:
        ValueError: this build has no such selector.
        OSError: the system refused a descriptor (for example ``EMFILE``).
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
        """A Poll over the ``mio_poll`` at *address*, which its owner frees."""
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
            interest: the readiness to report, besides errors and hang-ups.
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

        Raises the errors of `register`, with one in the place of FileExistsError:

        Raises:
            FileNotFoundError: the descriptor is not registered here.
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
        """Tell the Poll that an operation on *handle* would have blocked; *ready* is its direction.

        The handles of `net` and `unix` do this themselves. A program that reads a bare
        descriptor with edge needs this (or `reregister`) on a selector that emulates
        edges, poll(2), which does not report a reported bit again until this call. It does
        nothing on other selectors, on a descriptor that is not registered, and on a closed
        Poll.
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
            events: receives at most ``events.capacity`` events; the next call reports
                the sources for which there was no room.
            timeout: seconds. 0 returns at once, None or infinity waits for ever.
                Rounded up to the selector's resolution, never down.

        Returns:
            The number of events; 0 if *timeout* passed first.

        Raises:
            ValueError: *timeout* is negative or NaN; the Poll is closed, or another thread
                closed it during the call.
            RuntimeError: *events* is being filled by another poll.
            OSError: the selector failed; ``errno`` is the system's.
        """
        return self._wait(events, timeout, restart=True)

    def poll_interruptible(self, events: Events, timeout: float | None = None) -> int:
        """As `poll`, but a signal ends the wait.

        Raises the errors of `poll`, and one more:

        Raises:
            InterruptedError: a signal came and its handler raised nothing.
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
                # The call has left C, so Python's signal handlers have run.
                if timeout_ns > 0:
                    timeout_ns = max(0, deadline_ns - time.monotonic_ns())
            count = check(rc)
        finally:
            events._end(count)
        return count

    def fileno(self) -> int:
        """The selector's descriptor, for nesting in another selector.

        It becomes readable when a poll would report an event, user events included.

        Raises:
            ValueError: the Poll is closed.
            OSError: this selector has no descriptor (``ENOTSUP`` on poll(2)).
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
    # program may use this Poll after this method: it then finds the Poll closed. The default
    # argument is for the end of the interpreter, when the module's globals may be cleared.
    def __del__(self, free: Callable[[CData], None] = lib.mio_poll_free) -> None:
        owned = self.__dict__.pop("_owned", None)
        if owned is not None:
            self._closed = True
            free(owned)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._selector}{' closed' if self._closed else ''}>"

    # -- for the handles of this package ------------------------------------

    def _update_registration(
        self, node: CData, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None:
        args = self._raw(token, interest, opts)
        check(self._call(lambda poll: lib.mio_registration_update(node, poll, *args)))

    def _deregister_registration(self, node: CData) -> None:
        check(self._call(lambda poll: lib.mio_registration_deregister(node, poll)))

    def _closing(self, fd: int) -> None:
        """To be called before *fd* is closed."""
        self._tell(lib.mio_poll_closing, fd)

    # -- calls of the core --------------------------------------------------

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function(poll, *args)``, unless the Poll is closed or inherited."""
        if not self._closed and not self._inherited:
            function(self._poll, *args)

    def _call(self, function: Callable[..., int], *args: Any) -> int:
        """Call ``function(poll, *args)`` and return its result.

        Raises:
            ValueError: the Poll is closed, or was closed during the call.
            RuntimeError: this is a forked child, and the Poll is the parent's.
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
        owned = self.__dict__.get("_owned")     # missing while __del__() frees the poll
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
    """A Poll that belongs to an event loop, which polls it.

    Handles are registered with it as with any other Poll, under tokens that the loop
    hands out. When the loop is closed, this Poll is closed too. In a forked child the
    first use gives the loop a new poll, with all registrations of the old one.
    """

    def __init__(self, address: int, guard: TokenGuard) -> None:
        self._guard = guard
        # After _forget() the owner frees the mio_poll: no call of the core may be under
        # way by then. Reentrant, for a signal handler that registers.
        self._lock = threading.RLock()
        # The registrations that a forked child makes again: by descriptor, the token,
        # interest and options.
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
        """Register everything again. The owner has made a new poll, and self._lock is held."""
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
        """Close this Poll, because the owner is about to free the mio_poll."""
        with self._lock:
            self._closed = True
            self._poll = ffi.NULL


# Every Poll, Registration, SetReadiness and Binding. Each owns a lock, and a thread of the parent
# may have held it at the time of the fork.
_polls: weakref.WeakSet[Poll] = weakref.WeakSet()
_others: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Errors of registering a descriptor again that the program has closed, and whose number may have
# been given to another file.
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
