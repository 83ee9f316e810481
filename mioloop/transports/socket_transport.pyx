"""SocketTransport: what a stream transport has of its socket.

Ownership  The socket object, once made, owns the descriptor. Until then the transport owns it.
Addresses  They are asked for at the latest before the close, and converted at their first use.
Reach      The program may ask for the socket. Then it could send or receive on it by itself, so
           gathered data is sent first, and no more data is read before its turn.
sendfile   A file is sent in the place of the write buffer, a part in each turn (sendfile.pyx).
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.read_buffers cimport READ_SIZE
from mioloop.reactor.sealed cimport seal
from mioloop.transports.attributes cimport extra_info
from mioloop.transports.address cimport unpacked
from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.server_connections cimport detach, leave
from mioloop.transports.prefetch cimport *
from mioloop.transports.sendfile cimport FileSending, open_file
from mioloop.transports.states cimport *
from mioloop.transports.sysio cimport *

import socket as socket_module
import weakref
from asyncio import trsock

from mioloop import stdlib

cdef object set_result_unless_cancelled = stdlib.set_result_unless_cancelled


class SharedSocket(trsock.TransportSocket):
    """The TransportSocket of a stream. It notices that the program takes the descriptor.

    All methods of the base class use `_sock`, and so count as taking the descriptor. The methods
    of this class do not count: they change neither the order of sent data nor the data that can
    be received.
    """

    __slots__ = ("_shared", "_transport")

    def __init__(self, sock, transport):
        self._shared = sock
        self._transport = weakref.ref(transport)

    @property
    def _sock(self):
        transport = self._transport()
        if transport is not None:
            (<SocketTransport>transport).share_socket()
        return self._shared

    def __repr__(self):
        return repr(trsock.TransportSocket(self._shared))

    @property
    def family(self):
        return self._shared.family

    @property
    def type(self):
        return self._shared.type

    @property
    def proto(self):
        return self._shared.proto

    def getpeername(self):
        return self._shared.getpeername()

    def getsockname(self):
        return self._shared.getsockname()

    def getsockopt(self, *args, **kwargs):
        return self._shared.getsockopt(*args, **kwargs)

    def setsockopt(self, *args, **kwargs):
        transport = self._transport()
        if transport is not None:
            (<SocketTransport>transport).send_gathered()   # written before the option was set
        self._shared.setsockopt(*args, **kwargs)


cdef class SocketTransport(WritingTransport):

    # -- the socket object -----------------------------------------------------

    def get_extra_info(self, name, default=None):
        extra = self.info()
        if name == "socket" and "socket" not in extra:
            extra["socket"] = SharedSocket(self.socket_object(), self)
            self.sock_is_wrapped = True
        elif name == "sockname" or name == "peername":
            self.remember_addresses()
        return extra_info(self, extra, name, default)

    cdef dict info(self):
        """Return `extra`, which is made at its first use."""
        if self.extra is None:
            self.extra = {}
            if self.peer_address is not None:
                self.extra["peername"] = unpacked(self.peer_address)
            if self.local_address is not None:
                self.extra["sockname"] = unpacked(self.local_address)
            self.peer_address = self.local_address = None
        return self.extra

    @property
    def _extra(self):
        return self.info()

    cdef int remember_addresses(self) except -1:
        """Store both addresses, so that extra info has them after the close too (R57)."""
        cdef dict extra
        if self.fd < 0 or (self.peer_address is not None and self.local_address is not None):
            return 0
        extra = self.info()
        if "sockname" in extra and "peername" in extra:
            return 0
        sock = self.socket_object()
        for name, ask in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            if name not in extra:
                try:
                    extra[name] = ask()
                except OSError:
                    extra[name] = None
        return 0

    cdef object socket_object(self):
        """Return the socket.socket. It is made at its first use, and then owns the descriptor."""
        if self.sock is None:
            if self.fd >= 0:
                self.sock = socket_module.socket(*self.sock_kind, fileno=self.fd)
                self.sock.setblocking(False)
            else:                       # first used after the end: make a closed one
                self.sock = socket_module.socket(*self.sock_kind)
                self.sock.close()
        return self.sock

    cdef int share_socket(self) except -1:
        """The program takes the descriptor. Data that is only gathered is sent before that."""
        self.reach = REACH_PROGRAM
        if self.ahead.state != PREFETCH_NONE:
            self.reactor.prefetches = False
        return self.send_gathered()

    @property
    def _sock(self):
        if self.fd < 0:
            return None
        self.share_socket()
        return self.socket_object()

    @property
    def _sock_fd(self):
        self.share_socket()
        return self.fd

    @property
    def _server(self):
        return self.server

    @property
    def max_size(self):
        """The most bytes that one read asks for."""
        return READ_SIZE

    def _start(self, waiter):
        """Begin to read after connection_made(), then set *waiter* (R45: order of callbacks)."""
        if self.life == LIFE_STARTING:
            self.enter_life(LIFE_OPEN)
        if not self._conn_lost:
            try:
                self.update_interest()
            except OSError as exc:
                self.fatal(exc, "Fatal error: the socket cannot be polled")
        if waiter is not None:
            set_result_unless_cancelled(waiter, None)

    # -- sendfile ----------------------------------------------------------------

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.send_gathered()
        self.empty_waiter = self.reactor.new_future()
        if self.flow.size == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    async def _send_file(self, file, offset, count):
        """Send *file* by sendfile(2). Returns the number of bytes.

        The caller has paused reading, made the empty waiter and waited until the buffer is empty.
        """
        cdef FileSending sending = open_file(file, offset, count)

        if sending is None:
            return 0
        if self._conn_lost:
            raise ConnectionError("Connection is closed by peer")
        sending.waiter = self.reactor.new_future()
        self.file = sending
        self.enter_write(WRITE_FILE)
        try:
            self.send_file_part()
            return await sending.waiter
        finally:
            if self.file is sending:        # cancelled
                self.end_file()
            sending.leave_position()

    cdef int send_file_part(self) except -1:
        """Send one part of the file, if there is one, and wait for the turn of the next part."""
        cdef FileSending file = self.file
        cdef Py_ssize_t n
        cdef int64_t before

        if file is None or self._conn_lost:
            return 0
        before = file.sent
        n = file.send_part(self.fd)
        self.reactor.traffic.bytes_out += file.sent - before
        if n == -EAGAIN or n == -EWOULDBLOCK:
            return self.block()
        if n > 0:
            return self.reactor.defer(self, MIO_WRITABLE)
        if n < 0:
            return self.file_failed(file.failure(-n))
        self.end_file()
        set_result_unless_cancelled(file.waiter, file.sent)
        return 0

    cdef int file_failed(self, exc) except -1:
        waiter = self.file.waiter
        self.end_file()
        if not waiter.done():
            waiter.set_exception(exc)
        return 0

    cdef int end_file(self) except -1:
        self.file = None
        self.enter_write(WRITE_FREE)
        return self.go_on_polling()

    @property
    def _empty_waiter(self):
        return self.empty_waiter

    # -- the end -------------------------------------------------------------------

    cdef int after_connection_lost(self) except -1:
        self.remember_addresses()
        try:
            # The program's own socket class may raise in close().
            BaseTransport.after_connection_lost(self)
        finally:
            try:
                if self.empty_waiter is not None and not self.empty_waiter.done():
                    self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
                if self.file is not None:
                    self.file_failed(ConnectionError("the transport was closed during sendfile()"))
            finally:
                self.leave_server()
        return 0

    cdef int close_fd(self) except -1:
        """Leave the reactor and close the descriptor. Once: `fd` is -1 afterwards."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        try:
            # A program that has had the descriptor may still have it, or a duplicate of it.
            self.reactor.detach(self, self.reach == REACH_LOOP)
        finally:
            self.fd = -1
            if self.ahead.state != PREFETCH_NONE:
                if self.ahead.state != PREFETCH_FAILED:
                    mio_reset_at_close(fd)  # as the kernel does if the socket has unread bytes
                drop(&self.ahead)
            self.close_files(fd)
        return 0

    cdef int close_files(self, int fd) except -1:
        if self.sock is not None:
            self.sock.close()
        else:
            close_descriptor(fd)
        return 0

    cdef int leave_server(self) except -1:
        server, self.server = self.server, None
        if server is not None:
            detach(server, self)
        return 0

    cdef int forgotten(self) except -1:
        try:
            self.close_fd()
        finally:
            self.leave_server()
        return 0

    def __dealloc__(self):
        leave(<PyObject *>self)
        drop(&self.ahead)


seal(SocketTransport)
