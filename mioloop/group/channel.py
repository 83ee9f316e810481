"""Channel: a bounded queue between loops, in threads or processes.

The items are in the parent process, in a `Queue` that any thread may use. The loops of the parent
process use it directly. A worker process asks the parent by its `Link`; its items are pickled on
the way in, and unpickled by their receiver only.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from mioloop.group.calls import dump


class Port(Protocol):
    """The way to the items: a `Queue`, or a worker's way to it."""

    def put(self, item: Any) -> Future[None]: ...

    def get(self) -> Future[Any]: ...

    def give_back(self, item: Any) -> None: ...


class Queue:
    """A bounded queue of items and of waiting futures. All methods may be called by any thread."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._items: deque[Any] = deque()
        self._receivers: deque[Future[Any]] = deque()
        self._senders: deque[tuple[Any, Future[None]]] = deque()
        self._closed: BaseException | None = None

    # A future is completed without the lock, because its callbacks may be code of a program.

    def put(self, item: Any) -> Future[None]:
        """Completed once there was room for *item*; as long as it waits, it can be cancelled."""
        future: Future[None] = Future()
        with self._lock:
            closed = self._closed
            getter = None if closed else self._next_getter()
            waits = getter is None and not closed and len(self._items) >= self.capacity
            if waits:
                self._senders.append((item, future))
            elif getter is None and not closed:
                self._items.append(item)
        if closed:
            future.set_exception(closed)
        elif waits:
            future.add_done_callback(self._forget_if_cancelled)
        else:
            future.set_running_or_notify_cancel()
            future.set_result(None)
            if getter is not None:
                getter.set_result(item)
        return future

    def get(self) -> Future[Any]:
        """Completed with the next item; as long as it waits, it can be cancelled."""
        future: Future[Any] = Future()
        putter: Future[None] | None = None
        with self._lock:
            closed = self._closed
            waits = not self._items
            if waits and not closed:
                self._receivers.append(future)
            elif not waits:
                item = self._items.popleft()
                putter = self._admit()
        if not waits:
            future.set_running_or_notify_cancel()
            future.set_result(item)
        elif closed:
            future.set_exception(closed)
        else:
            future.add_done_callback(self._forget_if_cancelled)
        if putter is not None:
            putter.set_result(None)
        return future

    def give_back(self, item: Any) -> None:
        """*item* was got by a receiver that was cancelled: it is the first one again."""
        with self._lock:
            getter = self._next_getter()
            if getter is None:
                self._items.appendleft(item)
        if getter is not None:
            getter.set_result(item)

    def close(self, exc: BaseException) -> None:
        """Each waiting and later put() and get() raises *exc*."""
        with self._lock:
            self._closed = exc
            waiting: list[Future[Any]] = [*self._receivers, *(each for _, each in self._senders)]
            self._receivers.clear()
            self._senders.clear()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)

    def _forget_if_cancelled(self, future: Future[Any]) -> None:
        if future.cancelled():
            with self._lock:
                self._receivers = deque(each for each in self._receivers if each is not future)
                self._senders = deque(each for each in self._senders if each[1] is not future)

    def _next_getter(self) -> Future[Any] | None:
        while self._receivers:
            getter = self._receivers.popleft()
            if getter.set_running_or_notify_cancel():       # it cannot be cancelled any more
                return getter
        return None

    def _admit(self) -> Future[None] | None:
        while self._senders:
            item, putter = self._senders.popleft()
            if putter.set_running_or_notify_cancel():
                self._items.append(item)
                return putter
        return None


class Channel:
    """A bounded queue between the loops of a group: `LoopGroup.channel` makes it.

    Any loop of the group may put and get, and so may any other loop of the parent process. Items
    come in the order in which they were put, each to one receiver. In a group of processes the
    items are pickled.

    A channel reaches a worker as an argument: of `main` (``functools.partial(main, channel)``), or
    of a function of `LoopGroup.call`.
    """

    def __init__(self, port: Port, number: int, capacity: int, pickled: bool) -> None:
        self._port = port
        self._number = number
        self._capacity = capacity
        self._pickled = pickled

    @property
    def capacity(self) -> int:
        """The number of items that the channel holds at most."""
        return self._capacity

    async def put(self, item: Any) -> None:
        """Put *item* in; wait until there is room for it.

        If it is cancelled while it waits, the item is not put. Raises TypeError if the item has to
        be pickled and cannot be, and RuntimeError if the group has ended.
        """
        future = self._port.put(dump(item, "an item of a channel") if self._pickled else item)
        if not future.done():
            await asyncio.wrap_future(future)
        else:
            future.result()

    async def get(self) -> Any:
        """Remove and return the next item; wait until there is one.

        A get() that is cancelled loses no item. Raises RuntimeError if the group has ended.
        """
        future = self._port.get()
        try:
            item = future.result() if future.done() else await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():     # it was completed at the same time
                future.add_done_callback(self._give_back)
            raise
        return pickle.loads(item) if self._pickled else item

    def _give_back(self, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._port.give_back(future.result())

    def __reduce__(self) -> tuple[Callable[..., Channel], tuple[Any, ...]]:
        if not self._pickled:
            raise TypeError("a channel of a group of threads cannot be pickled")
        return _channel_of_this_process, (self._number, self._capacity)

    def __repr__(self) -> str:
        return f"<Channel {self._number} capacity={self._capacity}>"


def _channel_of_this_process(number: int, capacity: int) -> Channel:
    from mioloop.group import child

    return Channel(child.port_of_channel(number), number, capacity, True)
