"""Event (one report of a poll), Events (a buffer for them), Evented (a source of them).

Source: mio 0.6.21, ``src/event_imp.rs: Event, Evented`` and ``src/poll.rs: Events``.
"""

from __future__ import annotations

import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mioloop.mio._core import ffi, lib
from mioloop.mio.ready import Ready
from mioloop.mio.token import Token

if TYPE_CHECKING:
    from mioloop.mio.interest import Interest
    from mioloop.mio.poll import Poll
    from mioloop.mio.poll_opt import PollOpt

# The core counts in C ints.
_MAX_CAPACITY = 2**31 - 1

# Every Ready that an event can have, made once.
_READY = {
    bits: Ready(bits)
    for bits in range(Ready.ALL.as_usize() + 1)
    if not bits & ~Ready.ALL.as_usize()
}


class Event:
    """An immutable value: the token of a source, and its readiness.

    Two events are equal if their readiness and token are equal. The ``is_...``
    predicates come from mio 0.7; they also use the system's report of a
    half-closed peer, for which mio 0.6 has no readiness.
    """

    __slots__ = ("_bits", "_token")

    _bits: int
    _token: Token

    def __init__(self, readiness: Ready, token: int) -> None:
        if not isinstance(readiness, Ready):
            raise TypeError(f"readiness must be a Ready, not {readiness!r}")
        object.__setattr__(self, "_bits", readiness.as_usize())
        object.__setattr__(self, "_token", Token(token))

    @classmethod
    def _from_core(cls, bits: int, token: int) -> Event:
        event = cls.__new__(cls)
        object.__setattr__(event, "_bits", bits)
        object.__setattr__(event, "_token", Token(token))
        return event

    @property
    def readiness(self) -> Ready:
        return _READY[self._bits & ~lib.MIO_READ_CLOSED]

    @property
    def token(self) -> Token:
        return self._token

    def is_readable(self) -> bool:
        return bool(self._bits & (lib.MIO_READABLE | lib.MIO_PRIORITY))

    def is_writable(self) -> bool:
        return bool(self._bits & lib.MIO_WRITABLE)

    def is_error(self) -> bool:
        return bool(self._bits & lib.MIO_ERROR)

    def is_read_closed(self) -> bool:
        """Whether the peer will send nothing more. True also for a pipe without writers,
        although that is not readable (``Hup`` alone). False negatives are possible."""
        closed = lib.MIO_READABLE | lib.MIO_READ_CLOSED
        return bool(self._bits & lib.MIO_HUP) or self._bits & closed == closed

    def is_write_closed(self) -> bool:
        """Whether nothing more can be sent. False negatives are possible."""
        failed = lib.MIO_WRITABLE | lib.MIO_ERROR
        return (
            bool(self._bits & lib.MIO_HUP)
            or self._bits & failed == failed
            or self._bits == lib.MIO_ERROR
        )

    def is_priority(self) -> bool:
        return bool(self._bits & lib.MIO_PRIORITY)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.readiness == other.readiness and self._token == other._token

    def __hash__(self) -> int:
        return hash((self.readiness, self._token))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Event is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Event is immutable")

    def __reduce__(self) -> tuple[object, tuple[int, int]]:
        return Event._from_core, (self._bits, int(self._token))

    def __repr__(self) -> str:
        return f"Event(readiness={self.readiness!r}, token={self._token!r})"


class Events:
    """A buffer for up to *capacity* events, which each `Poll.poll` fills anew.

    An `Event` that was taken out stays valid. If the buffer is polled into during an
    iteration over it, the iteration raises `RuntimeError`.

    Args:
        capacity: the most events that one poll reports; later polls report the rest.

    Raises:
        ValueError: *capacity* is less than 1, or no C int.
    """

    __slots__ = ("_buffer", "_busy", "_capacity", "_count", "_generation")

    def __init__(self, capacity: int = 1024) -> None:
        capacity = operator.index(capacity)
        if not 1 <= capacity <= _MAX_CAPACITY:
            raise ValueError(f"capacity must be from 1 to {_MAX_CAPACITY}, not {capacity}")
        self._buffer = ffi.new("mio_event[]", capacity)
        self._capacity = capacity
        self._count = 0
        self._generation = 0            # a count of polls and clears: an iterator checks it
        self._busy = threading.Lock()   # held by the poll that fills the buffer

    @classmethod
    def with_capacity(cls, capacity: int) -> Events:
        return cls(capacity)

    @property
    def capacity(self) -> int:
        return self._capacity

    def is_empty(self) -> bool:
        return self._count == 0

    def clear(self) -> None:
        """Forget the contents.

        Raises:
            RuntimeError: a poll is filling the buffer.
        """
        self._begin()
        self._end()

    def get(self, i: int) -> Event | None:
        """The *i*-th event, or None if there are fewer events."""
        return self[i] if 0 <= i < self._count else None

    def _begin(self) -> None:
        """Claim the buffer for one poll, and empty it."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("these Events are in use by another poll")
        self._count = 0
        self._generation += 1

    def _end(self, count: int = 0) -> None:
        self._count = count
        self._busy.release()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Event]:
        generation = self._generation
        i = 0
        while True:
            if generation != self._generation:
                raise RuntimeError("Events were polled into or cleared during iteration")
            if i >= self._count:
                return
            yield self[i]
            i += 1

    def __getitem__(self, i: int) -> Event:
        at = operator.index(i)
        if at < 0:
            at += self._count
        if not 0 <= at < self._count:
            raise IndexError(f"no event {i} among {self._count}")
        raw = self._buffer[at]
        return Event._from_core(raw.ready, raw.token)

    def __repr__(self) -> str:
        return f"<Events {self._count} of {self._capacity}>"


class Evented(ABC):
    """An object that can be registered: it has these three methods.

    Programs call the methods of `Poll`, which call these. An implementation
    delegates to a descriptor (``poll.register(fd, ...)``) or to a `Registration`,
    in either spelling: ``poll.register(self.reg, ...)`` or ``self.reg.register(poll, ...)``.
    A class with the three methods counts as Evented without deriving from it.
    """

    __slots__ = ()

    @abstractmethod
    def register(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None: ...

    @abstractmethod
    def reregister(
        self, poll: Poll, token: int, interest: Ready | Interest, opts: PollOpt
    ) -> None: ...

    @abstractmethod
    def deregister(self, poll: Poll) -> None: ...

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is not Evented:          # a subclass is more than its methods
            return NotImplemented
        return all(
            callable(getattr(other, name, None)) for name in Evented.__abstractmethods__
        )
