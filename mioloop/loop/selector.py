"""loop._selector: the reactor in the form of a selector of the stdlib, for tools."""

from __future__ import annotations

import selectors
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mioloop import stdlib

if TYPE_CHECKING:
    from mioloop.loop.schedule import NativeLoop

_WRITABLE = 0x02  # MIO_WRITABLE of core/mio.h


class WatchedFds(Mapping[Any, selectors.SelectorKey]):
    """The descriptors of add_reader() and add_writer(), in the form of selectors.get_map().

    An object that has been closed is found by its identity.
    """

    def __init__(self, loop: NativeLoop) -> None:
        self._loop = loop

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        watched = self._loop._watched_fds()
        try:
            fd = stdlib.fileobj_to_fd(fileobj)
        except ValueError:
            found = [fd for fd, (registered, _, _) in watched.items() if registered is fileobj]
            if not found:
                raise
            fd = found[0]
        if fd not in watched:
            raise KeyError(fd)
        registered, reader, writer = watched[fd]
        events = (reader is not None) * selectors.EVENT_READ
        events |= (writer is not None) * selectors.EVENT_WRITE
        return selectors.SelectorKey(registered, fd, events, (reader, writer))

    def __iter__(self) -> Iterator[int]:
        return iter(self._loop._watched_fds())

    def __len__(self) -> int:
        return len(self._loop._watched_fds())


class ReactorSelector(selectors.BaseSelector):
    """The object at BaseSelectorEventLoop._selector. It calls the reactor.

    A tool that drives a loop by hand (nest_asyncio) calls ``select()`` and passes the result to
    ``loop._process_events()``, which queues the dispatch. If a tool replaces ``select()`` (fake
    clocks do), every turn of the loop calls the replacement.
    """

    def __init__(self, loop: NativeLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return [
            (
                selectors.SelectorKey(fd, fd, selectors.EVENT_READ | selectors.EVENT_WRITE, None),
                bool(ready & ~_WRITABLE) * selectors.EVENT_READ
                | bool(ready & _WRITABLE) * selectors.EVENT_WRITE,
            )
            for fd, ready in self._loop._poll_by_hand(timeout)
        ]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "select":
            self._loop._selector_changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "select":
            self._loop._selector_changed()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return WatchedFds(self._loop)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise NotImplementedError("use loop.add_reader(), loop.add_writer() or loop.watch()")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise NotImplementedError("use loop.remove_reader(), remove_writer() or unwatch()")
