"""EventedSocket, StreamSocket: a stdlib socket as a mio handle.

Source: mio 0.6.21, ``src/net``, the methods that its types have in common.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from mioloop.mio.errors import MioError
from mioloop.mio.handle import Binding, OwnedHandle
from mioloop.mio.ready import Ready
from mioloop.mio.socket_options import SocketOptions

E = TypeVar("E", bound="EventedSocket")
L = TypeVar("L", bound="EventedSocket")

# mio's value; the stdlib's default is smaller.
BACKLOG = 1024

# Anything with the buffer protocol; typing has no name for it before 3.12.
Buffer = Any


class EventedSocket(SocketOptions, OwnedHandle):
    """A non-blocking socket. Made by the class methods, never by calling the class."""

    __slots__ = ("_sock",)

    _families: ClassVar[tuple[int, ...]]
    _type: ClassVar[int]
    _sock: socket.socket | None         # None once closed

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} is made by its class methods")

    @classmethod
    def _own(cls: type[E], sock: socket.socket, binding: Binding | None = None) -> E:
        """A handle that owns *sock* as it is."""
        handle = cls.__new__(cls)
        handle._sock = sock
        handle._binding = Binding() if binding is None else binding
        return handle

    @classmethod
    def _bound(
        cls: type[E], family: int, sockaddr: Any, *, reuse: bool = False, listens: bool = False
    ) -> E:
        """A handle on a new socket that is bound to *sockaddr*, and that listens there."""
        sock = socket.socket(family, cls._type)
        try:
            if reuse:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            sock.bind(sockaddr)
            if listens:
                sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return cls._own(sock)._nonblocking()

    @classmethod
    def _take(cls: type[E], sock: socket.socket) -> E:
        """A handle that takes over the descriptor of *sock*; *sock* itself is then closed."""
        if not isinstance(sock, socket.socket):
            raise TypeError(f"expected a socket.socket, not {sock!r}")
        if sock.fileno() == -1:
            raise ValueError(f"{sock!r} is closed")
        cls._check_kind(sock)
        sock.setblocking(False)
        return cls._own(
            socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        )._nonblocking()

    def _nonblocking(self: E) -> E:
        self._open().setblocking(False)
        return self

    @classmethod
    def _check_kind(cls, sock: socket.socket) -> None:
        if sock.family not in cls._families or sock.type != cls._type:
            wanted = "/".join(socket.AddressFamily(family).name for family in cls._families)
            raise ValueError(
                f"{cls.__name__} needs a {wanted} {socket.SocketKind(cls._type).name} socket, "
                f"not {sock!r}"
            )

    @classmethod
    def from_fd(cls: type[E], fd: int) -> E:
        """A handle that owns *fd*, bound to no Poll. *fd* is not made non-blocking.

        Raises:
            ValueError: *fd* is a socket of another kind, and is still the caller's.
            OSError: *fd* is no socket.
        """
        blocking = os.get_blocking(fd)
        sock = socket.socket(fileno=fd)
        try:
            cls._check_kind(sock)
        except ValueError:
            sock.detach()
            raise
        # socket.setdefaulttimeout() must not change the mode of the descriptor.
        sock.setblocking(blocking)
        return cls._own(sock)

    def _open(self) -> socket.socket:
        sock = self._sock
        if sock is None:
            raise ValueError(f"the {type(self).__name__} is closed")
        return sock

    def fileno(self) -> int:
        return self._open().fileno()

    @property
    def closed(self) -> bool:
        return self._sock is None

    def _release(self) -> int:
        sock, self._sock = self._open(), None
        return sock.detach()

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def try_clone(self: E) -> E:
        """Another handle on the same socket, with a descriptor of its own.

        Both belong to the same Poll, whichever of them is registered first.
        """
        return type(self)._own(self._open().dup(), self._binding)

    def take_error(self) -> OSError | None:
        """Return the pending error of the socket (SO_ERROR), or None, and clear it."""
        error = self._get(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(error, os.strerror(error)) if error else None

    def local_addr(self) -> Any:
        """This end's address, as the stdlib gives it."""
        return self._open().getsockname()

    def _connecting(self: E, sockaddr: Any) -> E:
        """Begin to connect, and return the handle. A failure closes it."""
        try:
            self._connect(sockaddr)
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self, addr: Any) -> None:
        """Begin to connect: a connection in progress counts as success."""
        error = self._open().connect_ex(addr)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))

    def _accept(self, stream: type[L]) -> tuple[L, Any]:
        sock, addr = self._try(Ready.READABLE, self._open().accept)
        return stream._own(sock)._nonblocking(), addr


class StreamSocket(EventedSocket):
    """A connected socket that carries a stream of bytes."""

    __slots__ = ()

    _type = socket.SOCK_STREAM

    def read(self, n: int) -> bytes:
        """At most *n* bytes; ``b""`` at the end of the stream (if *n* > 0)."""
        return self._try(Ready.READABLE, self._open().recv, n)

    def read_into(self, buffer: Buffer) -> int:
        """Fill *buffer* as far as there is data; returns the count, 0 at the end."""
        return self._try(Ready.READABLE, self._open().recv_into, buffer)

    def peek(self, n: int) -> bytes:
        """As `read`, but a later read returns the bytes again."""
        return self._try(Ready.READABLE, self._open().recv, n, socket.MSG_PEEK)

    def read_bufs(self, buffers: Sequence[Buffer]) -> int:
        """As `read_into`, filling each buffer before the next one."""
        count, *_ = self._try(Ready.READABLE, self._open().recvmsg_into, buffers)
        return count

    def write(self, data: Buffer) -> int:
        """Send the beginning of *data*; returns how many bytes, perhaps not all."""
        return self._try(Ready.WRITABLE, self._open().send, data)

    def write_all(self, data: Buffer) -> None:
        """Send all of *data*.

        Raises:
            BlockingIOError: the socket took only ``characters_written`` bytes.
            MioError: the socket takes no bytes at all (``kind`` is ``"WriteZero"``).
        """
        with memoryview(data).cast("B") as view:
            written = 0
            while written < len(view):
                try:
                    count = self.write(view[written:])
                except BlockingIOError as error:
                    error.characters_written = written
                    raise
                if count == 0:
                    raise MioError(f"write took 0 of {len(view) - written} bytes", "WriteZero")
                written += count

    def write_bufs(self, buffers: Iterable[Buffer]) -> int:
        """As `write`, with the contents of all *buffers*, one after the other."""
        return self._try(Ready.WRITABLE, self._open().sendmsg, buffers)

    def flush(self) -> None:
        """Does nothing: `write` keeps no bytes back."""
        self._open()

    def shutdown(self, how: int) -> None:
        """End reading, writing or both: `socket.SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`.

        Raises:
            OSError: ``ENOTCONN`` if it was never connected.
        """
        self._open().shutdown(how)

    def peer_addr(self) -> Any:
        """The other end's address.

        Raises:
            OSError: ``ENOTCONN`` until it is connected.
        """
        return self._open().getpeername()
