"""UnixStream, UnixListener, UnixDatagram.

Source: mio 0.7, ``src/net/uds``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from mioloop.mio.datagram_socket import DatagramSocket
from mioloop.mio.evented_socket import Buffer, EventedSocket, StreamSocket

# A path; on Linux also bytes or text that begin with a NUL, an abstract name.
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class UnixStream(StreamSocket):
    """A connection between processes of one host."""

    __slots__ = ()

    _families = (socket.AF_UNIX,)

    @classmethod
    def connect(cls, path: Path) -> UnixStream:
        """Connect to the listener at *path*.

        Raises:
            FileNotFoundError: there is no such path.
            ConnectionRefusedError: no socket listens there.
            BlockingIOError: the listener's backlog is full; no event tells when it has room again.
        """
        sockaddr = os.fspath(path)
        sock = socket.socket(socket.AF_UNIX, cls._type)
        return cls._own(sock)._nonblocking()._connecting(sockaddr)

    @classmethod
    def pair(cls) -> tuple[UnixStream, UnixStream]:
        """Two streams that are connected with each other."""
        left, right = socket.socketpair(socket.AF_UNIX, cls._type)
        return cls._own(left)._nonblocking(), cls._own(right)._nonblocking()

    @classmethod
    def from_std(cls, sock: socket.socket) -> UnixStream:
        """Take over *sock*, a connected stdlib socket, and make it non-blocking."""
        return cls._take(sock)


class UnixListener(EventedSocket):
    """A socket that accepts connections from processes of this host."""

    __slots__ = ()

    _families = (socket.AF_UNIX,)
    _type = socket.SOCK_STREAM

    @classmethod
    def bind(cls, path: Path) -> UnixListener:
        """Listen at *path*, which must not exist; close does not remove it.

        Raises:
            OSError: ``EADDRINUSE`` if it exists, ``ENOENT``, ``EACCES``.
        """
        return cls._bound(socket.AF_UNIX, os.fspath(path), listens=True)

    @classmethod
    def from_std(cls, sock: socket.socket) -> UnixListener:
        """Take over *sock*, a listening stdlib socket, and make it non-blocking."""
        return cls._take(sock)

    def accept(self) -> tuple[UnixStream, Any]:
        """A new connection and its peer's address. It is registered nowhere.

        Raises:
            BlockingIOError: there is none now.
        """
        return self._accept(UnixStream)


class UnixDatagram(DatagramSocket):
    """A datagram socket between processes of one host."""

    __slots__ = ()

    _families = (socket.AF_UNIX,)

    @classmethod
    def bind(cls, path: Path) -> UnixDatagram:
        """A socket at *path*, which must not exist; close does not remove it.

        Raises:
            OSError: ``EADDRINUSE`` if it exists, ``ENOENT``, ``EACCES``.
        """
        return cls._bound(socket.AF_UNIX, os.fspath(path))

    @classmethod
    def unbound(cls) -> UnixDatagram:
        """A socket without an address: it can send, but a receiver cannot reply to it."""
        return cls._own(socket.socket(socket.AF_UNIX, cls._type))._nonblocking()

    @classmethod
    def pair(cls) -> tuple[UnixDatagram, UnixDatagram]:
        """Two sockets that are connected with each other."""
        left, right = socket.socketpair(socket.AF_UNIX, cls._type)
        return cls._own(left)._nonblocking(), cls._own(right)._nonblocking()

    @classmethod
    def from_std(cls, sock: socket.socket) -> UnixDatagram:
        """Take over *sock*, a stdlib socket, and make it non-blocking."""
        return cls._take(sock)

    def connect(self, path: Path) -> None:
        """Send to, and receive from, *path* only."""
        self._connect(os.fspath(path))

    def send_to(self, data: Buffer, path: Path) -> int:
        """Send a datagram to *path*; returns its length."""
        return self._send_to(data, os.fspath(path))

    def peer_addr(self) -> Any:
        """The address that it is connected to.

        Raises:
            OSError: ``ENOTCONN`` if it is not.
        """
        return self._open().getpeername()

    def shutdown(self, how: int) -> None:
        """End receiving, sending or both: `socket.SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`."""
        self._open().shutdown(how)
