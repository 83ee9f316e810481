"""TcpListener, TcpStream.

Source: mio 0.6.21, ``src/net/tcp.rs``.
"""

from __future__ import annotations

import math
import socket
import struct
from typing import Any

from mioloop.mio.addr import Addr, parse
from mioloop.mio.evented_socket import EventedSocket, StreamSocket
from mioloop.mio.ip_socket import IpSocket

# macOS has the option by its older name.
_KEEPIDLE = getattr(socket, "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE")
_LINGER = struct.Struct("ii")


class TcpStream(IpSocket, StreamSocket):
    """A TCP connection, established or in progress."""

    __slots__ = ()

    @classmethod
    def connect(cls, addr: Addr) -> TcpStream:
        """Begin to connect to *addr*.

        It is connected when there is a writable event and `take_error` returns None.

        Raises:
            ValueError: *addr* is not numeric.
            OSError: it failed at once (``ECONNREFUSED`` on some systems).
        """
        family, sockaddr = parse(addr)
        sock = socket.socket(family, cls._type)
        return cls._own(sock)._nonblocking()._connecting(sockaddr)

    @classmethod
    def connect_stream(cls, sock: socket.socket, addr: Addr) -> TcpStream:
        """As `connect`, with a socket that the caller has made and configured.

        The stream takes over the descriptor; *sock* itself is then closed.
        """
        _, sockaddr = parse(addr)
        return cls._take(sock)._connecting(sockaddr)

    @classmethod
    def from_stream(cls, sock: socket.socket) -> TcpStream:
        """Take over *sock*, a connected stdlib socket, and make it non-blocking."""
        return cls._take(sock)

    def set_nodelay(self, nodelay: bool) -> None:
        """Send small writes at once instead of gathering them (TCP_NODELAY)."""
        self._set_flag(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)

    def nodelay(self) -> bool:
        return self._flag(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def set_recv_buffer_size(self, size: int) -> None:
        """Bytes that the system keeps unread (SO_RCVBUF). Linux doubles the number."""
        self._set(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def recv_buffer_size(self) -> int:
        return self._get(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def set_send_buffer_size(self, size: int) -> None:
        """Bytes that the system keeps unsent (SO_SNDBUF). Linux doubles the number."""
        self._set(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def send_buffer_size(self) -> int:
        return self._get(socket.SOL_SOCKET, socket.SO_SNDBUF)

    def set_keepalive(self, idle: float | None) -> None:
        """Probe a peer that was silent for *idle* seconds, or never if it is None.

        Fractions are cut off.

        Raises:
            ValueError: *idle* is negative, or no finite number.
            OSError: ``EINVAL`` below 1 s; keep-alive is on nevertheless, with the
                system's own idle time.
        """
        seconds = None if idle is None else _whole_seconds("keepalive", idle)
        self._set(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds is not None)
        if seconds is not None:
            self._set(socket.IPPROTO_TCP, _KEEPIDLE, seconds)

    def keepalive(self) -> float | None:
        """Seconds of silence before the first probe; None if there are no probes."""
        if not self._flag(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return None
        return float(self._get(socket.IPPROTO_TCP, _KEEPIDLE))

    def set_linger(self, linger: float | None) -> None:
        """Set for how many seconds after close the system tries to send unsent bytes.

        Fractions are cut off. 0 makes close reset the connection; None leaves it to
        the system.

        Raises:
            ValueError: *linger* is negative, or no finite number.
        """
        seconds = 0 if linger is None else _whole_seconds("linger", linger)
        value = _LINGER.pack(linger is not None, seconds)
        self._set(socket.SOL_SOCKET, socket.SO_LINGER, value)

    def linger(self) -> float | None:
        value = self._open().getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
        on, seconds = _LINGER.unpack(value)
        return float(seconds) if on else None


class TcpListener(IpSocket, EventedSocket):
    """A socket that accepts TCP connections."""

    __slots__ = ()

    _type = socket.SOCK_STREAM

    @classmethod
    def bind(cls, addr: Addr) -> TcpListener:
        """Listen at *addr*; port 0 lets the system choose one.

        Raises:
            ValueError: *addr* is not numeric.
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EACCES``.
        """
        family, sockaddr = parse(addr)
        return cls._bound(family, sockaddr, reuse=True, listens=True)

    @classmethod
    def from_std(cls, sock: socket.socket) -> TcpListener:
        """Take over *sock*, a listening stdlib socket, and make it non-blocking."""
        return cls._take(sock)

    def accept(self) -> tuple[TcpStream, Any]:
        """A new connection and its peer's address. It is registered nowhere.

        Raises:
            BlockingIOError: there is none now.
            OSError: ``EMFILE``, ``ENFILE`` and other errors; with edge no event follows.
        """
        return self._accept(TcpStream)

    def accept_std(self) -> tuple[socket.socket, Any]:
        """As `accept`, but a blocking stdlib socket."""
        stream, addr = self._accept(TcpStream)
        sock = socket.socket(fileno=stream.detach())
        sock.setblocking(True)
        return sock, addr


def _whole_seconds(option: str, duration: float) -> int:
    if not (duration >= 0 and math.isfinite(duration)):
        raise ValueError(f"{option} must be a number of seconds >= 0 or None, not {duration!r}")
    return int(duration)
