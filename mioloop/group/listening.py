"""The listening sockets of a group: one for each worker, all on one port.

Linux shares the connections of a port out among all sockets that listen on it with SO_REUSEPORT
(``balance="kernel"``), and FreeBSD does so with SO_REUSEPORT_LB. On other systems, or if the user
asks for it, the parent accepts, and hands the connections over to the workers in turn
(``balance="handover"``): each worker has a `HandedSocket`, one end of a Unix socket through which
the descriptors come (SCM_RIGHTS). Threads get them so, too: it is one way for both kinds, and a
duplicate descriptor costs less than an accept().

The parent makes all sockets, so that a restarted worker gets the port of its predecessor, and port
0 is one port for all workers.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import itertools
import os
import select
import socket
import sys
import threading
from typing import Any

from mioloop.group.calls import GroupStopping

BALANCES = ("kernel", "handover")
BACKLOG = 1024
MOST_ACCEPTS = 64           # in a turn of the parent's loop

# The option with which the kernel balances. macOS, for example, has SO_REUSEPORT without that.
if sys.platform.startswith("linux"):
    REUSE: int | None = getattr(socket, "SO_REUSEPORT", None)
elif sys.platform.startswith("freebsd"):
    REUSE = 0x00010000      # SO_REUSEPORT_LB
else:
    REUSE = None

Address = Any


def resolve(host: str | None, port: int) -> tuple[int, Address]:
    """The family and the address to bind. Raises OSError, or ValueError for a wrong port."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"port must be a number from 0 to 65535, not {port!r}")
    found = socket.getaddrinfo(
        host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    return family, address


def bind(family: int, address: Address, option: int | None) -> socket.socket:
    """A bound socket that does not listen yet. The error of bind() names the address."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if option is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind(address)
        except OSError as exc:
            host, port = address[:2]
            why = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be bound: {exc}"
            raise OSError(exc.errno, f"port {port} of {host} {why}") from None
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class HandedSocket(socket.socket):
    """Looks like a listening socket at *address*; accept() takes a connection handed over."""

    _address: Address = None
    accepted = 0                        # connections

    def accept(self) -> tuple[socket.socket, Address]:
        _, ancillary, flags, _ = self.recvmsg(1, socket.CMSG_LEN(array.array("i").itemsize))
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not descriptors:             # the parent has ended, or no descriptor is left
            number = errno.EMFILE if flags & socket.MSG_CTRUNC else errno.ECONNABORTED
            raise OSError(number, os.strerror(number))
        conn = socket.socket(fileno=descriptors[0])
        self.accepted += 1
        try:
            conn.set_inheritable(False)
            return conn, conn.getpeername()
        except OSError:                 # the client has left already
            conn.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client has left") from None

    def listen(self, backlog: int = 0, /) -> None:
        """The parent listens."""

    def getsockname(self) -> Address:
        return self._address


def worker_socket(descriptor: int, handed: Address | None, backlog: int) -> socket.socket:
    """The listening socket of a worker, which owns *descriptor*; *handed*: see `Place.open`."""
    if handed is None:
        sock = socket.socket(fileno=descriptor)
        sock.listen(backlog)
    else:
        sock = HandedSocket(fileno=descriptor)
        sock._address = handed
    sock.setblocking(False)
    return sock


class Place:
    """One address on which all workers listen. It keeps the port until it is closed."""

    def __init__(self, family: int, address: Address, balance: str) -> None:
        self.family, self.balance = family, balance
        if balance == "handover":
            self.socket = bind(family, address, None)
            self.socket.listen(BACKLOG)
        else:
            if address[1] != 0:         # SO_REUSEPORT would share the port with another program
                bind(family, address, None).close()
            self.socket = bind(family, address, REUSE)
        self.address = self.socket.getsockname()
        self.ends: list[tuple[int, socket.socket]] = []     # worker, and the end to hand over by

    def open(self, index: int) -> tuple[int, Address | None]:
        """The descriptor for worker *index*, and the address if connections are handed over."""
        if self.balance == "kernel":
            return bind(self.family, self.address, REUSE).detach(), None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append((index, ours))
        return theirs.detach(), self.address

    def forget(self, index: int) -> None:
        """Worker *index* has ended."""
        for owner, end in self.ends:
            if owner == index:
                end.close()
        self.ends = [each for each in self.ends if each[0] != index]

    def close(self) -> None:
        self.socket.close()
        for _, end in self.ends:
            end.close()
        self.ends.clear()


class Listening:
    """The places of a group. Any thread may call `open`; the others are for the parent's loop."""

    def __init__(self, balance: str, loop: asyncio.AbstractEventLoop) -> None:
        self._balance, self._loop = balance, loop
        self._lock = threading.RLock()
        self._places: dict[tuple[str | None, int, int], Place] = {}
        self._stopped = False
        self._turns = itertools.count()

    def open(self, index: int, host: str | None, port: int, number: int) -> tuple[int, Any]:
        """See `Place.open`. *number* counts the calls of one worker for port 0.

        Raises OSError if the address cannot be bound, ValueError if the port is none, and
        GroupStopping after `stop`.
        """
        key = (host, port, number)
        with self._lock:
            if self._stopped:
                raise GroupStopping("the group is stopping, and takes no connections")
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = Place(*resolve(host, port), self._balance)
                if self._balance == "handover":
                    self._loop.call_soon_threadsafe(self._start, place)
            return place.open(index)

    def forget(self, index: int) -> None:
        with self._lock:
            for place in self._places.values():
                place.forget(index)

    def stop(self) -> None:
        """Accept nothing more, but the connections that wait."""
        with self._lock:
            self._stopped = True
            for place in self._places.values():
                if place.socket.fileno() >= 0:
                    if place.balance == "handover":
                        self._accept(place)
                    self._loop.remove_reader(place.socket)
                    place.socket.close()

    def close(self) -> None:
        self.stop()
        with self._lock:
            for place in self._places.values():
                place.close()
            self._places.clear()

    # -- handing over --------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        if place.socket.fileno() >= 0:
            self._loop.add_reader(place.socket, self._accept, place)

    def _accept(self, place: Place) -> None:
        for _ in range(MOST_ACCEPTS):
            with self._lock:
                ends = [end for _, end in place.ends]
            free = [end for end in ends if _has_room(end)]
            if not free:                # each worker has many that it has not taken yet
                self._loop.remove_reader(place.socket)
                self._loop.call_later(0.01, self._start, place)
                return
            try:
                conn, _ = place.socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._loop.remove_reader(place.socket)
                self._loop.call_later(1.0, self._start, place)
                return
            with conn, contextlib.suppress(OSError):        # the worker has ended meanwhile
                socket.send_fds(free[next(self._turns) % len(free)], [b"c"], [conn.fileno()])


def _has_room(end: socket.socket) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLOUT)
    return any(ready & select.POLLOUT for _, ready in poll.poll(0))
