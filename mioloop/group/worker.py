"""Worker: the argument of `main`, in the loop that runs it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from mioloop.group.listening import BACKLOG, HandedSocket, worker_socket

logger = logging.getLogger("mioloop.group")

_current = threading.local()


def current_worker() -> Worker:
    """The worker of the loop that runs in this thread. Raises RuntimeError in any other thread."""
    worker: Worker | None = getattr(_current, "worker", None)
    if worker is None:
        raise RuntimeError("no worker of a group runs in this thread")
    return worker


class Worker:
    """One loop of a group, as its `main` sees it.

    Attributes:
        index: its number, from 0.
        count: the number of workers of the group.
        kind: "process" or "thread".
    """

    def __init__(
        self,
        index: int,
        count: int,
        kind: str,
        open_port: Callable[[str | None, int, int], tuple[int, Any]],
        call: Callable[..., Future[Any]],
    ) -> None:
        self.index, self.count, self.kind = index, count, kind
        self._open_port, self._place_call = open_port, call
        self._listeners: list[socket.socket] = []
        self._ports_of_0 = 0
        self._stopping: asyncio.Event | None = None
        self._on_stop: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._stops = False
        self._fetched = 0       # accepted by handed sockets that are closed

    def listen(
        self, host: str | None = None, port: int = 0, *, backlog: int = BACKLOG
    ) -> socket.socket:
        """Return a listening socket of this worker, on the port that all workers share.

        It is for `loop.create_server(sock=...)`, `asyncio.start_server(sock=...)`, aiohttp's
        `SockSite`, or uvicorn's `Server.serve(sockets=[...])`. The system, or the parent,
        shares new connections out among the workers (``LoopGroup(balance=...)``).

        Args:
            host: a name or an address, of which the first result is used; None: all IPv4
                addresses.
            port: from 0 to 65535. 0: the system chooses, the same port for all workers. The n-th
                call with port 0 in each worker is the same port.
            backlog: the length of this worker's queue of connections that are not accepted yet.

        Raises:
            ValueError: the port is no port.
            OSError: another program has the port, or the host is unknown; the message names them.
            GroupStopping: the group is stopping. The worker then ends without a failure.
        """
        number = 0
        if port == 0:
            number, self._ports_of_0 = self._ports_of_0, self._ports_of_0 + 1
        sock = worker_socket(*self._open_port(host, port, number), backlog)
        self._listeners.append(sock)
        return sock

    def call(self, index: int, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` in the loop of worker *index*: see `LoopGroup.call`."""
        return self._place_call(index, function, *args)

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the group stops.

        A `main` that has asked for this event, or for `on_stop`, ends by itself, within the grace
        of the group. Any other `main` is cancelled as soon as the last connection is gone.
        """
        if self._stopping is None:
            self._stopping = asyncio.Event()
            if self._stops:
                self._stopping.set()
        return self._stopping

    def on_stop(self, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback(*args)`` in this loop when the group stops: see `stopping`."""
        if self._stops:
            asyncio.get_running_loop().call_soon(callback, *args)
        self._on_stop.append((callback, args))

    def __repr__(self) -> str:
        return f"<Worker {self.index} of {self.count} kind={self.kind}>"

    # -- for mioloop.group.run ------------------------------------------------------------------

    @property
    def _ends_by_itself(self) -> bool:
        return self._stopping is not None or bool(self._on_stop)

    def _fetched_connections(self) -> int:
        """Connections handed over; the loop has not counted these."""
        return sum(each.accepted for each in self._listeners if isinstance(each, HandedSocket))

    def _begin_stop(self) -> None:
        """Tell `main`. A callback that raises is logged."""
        self._stops = True
        if self._stopping is not None:
            self._stopping.set()
        for callback, args in self._on_stop:
            try:
                callback(*args)
            except Exception:
                logger.exception("worker %d: on_stop callback %r has failed", self.index, callback)
