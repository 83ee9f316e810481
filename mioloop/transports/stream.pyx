"""Stream transport: bytes between one connected socket and one protocol.

Reading    There is one recv() for each event. With edges a short read means that the socket is
           drained, unless a hang-up, the end of the stream or urgent data was reported with it.
           A read that filled the buffer continues in the next turn, so that no connection
           starves another one.
Prefetch   Reactor.read_together() receives before the transport's turn. It does so only for a
           connection that the loop has accepted, and only if the program has not had the
           descriptor: prefetched data is no longer in the socket, where the program would look
           for it. If the program takes the descriptor in another connection's callback while
           data is prefetched, it misses that data; from then on the loop prefetches nothing.
Writing    See flow.pyx.
Ownership  The socket object, once made, owns the descriptor. Until then the transport owns it.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_CheckExact,
                            PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t
from libc.string cimport memcpy
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.read_buffers cimport (
    AHEAD_SIZE, COPY_BELOW, READ_SIZE, ReadBuffers, borrow, bytes_of, give_back,
    give_back_unless_kept, set_size)
from mioloop.transports.address cimport unpacked
from mioloop.transports.clients cimport attach, detach, leave
from mioloop.transports.endpoint cimport method_of
from mioloop.transports.flow cimport BYTE_PROTOCOLS, MOST_CHUNKS, ByteFlow
from mioloop.transports.prefetch cimport *
from mioloop.transports.sendfile cimport FileSending, open_file
from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import os
import socket as socket_module
import weakref
from asyncio import protocols, transports, trsock
from asyncio.log import logger

from mioloop import stdlib

cdef extern from "Python.h":
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *PyObject_CallOneArg(PyObject *callable, PyObject *arg)
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **arguments, size_t count,
                                  PyObject *names)
    bint PyMethod_Check(object)
    PyObject *PyMethod_GET_FUNCTION(object)
    PyObject *PyMethod_GET_SELF(object)
    bint PyObject_TypeCheck(object, type)           # ignores `__class__`
    int mio_get_buffer "PyObject_GetBuffer"(PyObject *exporter, Py_buffer *view, int flags)
    void PyErr_Clear()
    void Py_DECREF(PyObject *)
    object copy_current_context "PyContext_CopyCurrent"()
    Py_ssize_t references "Py_REFCNT"(PyObject *)      # the call itself adds no reference

cdef enum:
    JOIN_BYTES = 4096           # up to here a copy costs less than sendmsg() with a vector

cdef object AF_INET = socket_module.AF_INET
cdef object AF_INET6 = socket_module.AF_INET6
cdef object SOCK_STREAM = socket_module.SOCK_STREAM
cdef object IPPROTO_TCP = socket_module.IPPROTO_TCP
cdef object ANY_SIZE = -1               # the argument of get_buffer()
cdef object set_result_unless_cancelled = stdlib.set_result_unless_cancelled
cdef object BufferedProtocol = protocols.BufferedProtocol


class Transport(stdlib.FlowControlMixin, transports.Transport):
    """The class that isinstance() sees in place of the native one, see `__class__` there."""

    __slots__ = ()


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
            (<StreamTransport>transport).share_socket()
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
            (<StreamTransport>transport).flush_gathered()   # written before the option was set
        self._shared.setsockopt(*args, **kwargs)


cdef class StreamFilter:

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        return 0


cdef class StreamTransport(ByteFlow):

    _start_tls_compatible = True
    _sendfile_compatible = stdlib.SendfileMode.TRY_NATIVE

    # -- hot path: recv -> data_received --------------------------------------

    cdef bint reading(self) noexcept:
        return not (self.paused or self.closing or self.eof_seen) and self.started

    cdef Py_ssize_t receive(self) except? -2:
        cdef Py_ssize_t n

        if self.ahead.state != PREFETCH_NONE:
            return self.receive_ahead()
        if self.filter is not None:
            n = self.read_into_filter()
        elif self.buffered_protocol:
            n = self.read_into_protocol()
        else:
            n = self.read_bytes()
        if n > 0:
            self.reads_much = n > AHEAD_SIZE
        return n

    cdef bint can_prefetch(self, uint32_t ready) noexcept:
        """Return whether the reactor may prefetch.

        False at the end of the stream (a later recv() reports it again) and when urgent data is
        pending (recv() would skip it).
        """
        return ready & ~MIO_WRITABLE == MIO_READABLE and self.prefetch_allowed()

    cdef bint prefetch_allowed(self) noexcept:
        return (self.reach == REACH_LOOP and not self.reads_much and self.reading()
                and self.ahead.state == PREFETCH_NONE)

    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept:
        try:
            if result > 0:
                set_data(&self.ahead, bytes_of(&self.reactor.buffers, data, result),
                         PREFETCH_READY)
                self.reads_much = result == AHEAD_SIZE
            elif result < 0 and result != -EAGAIN and result != -EWOULDBLOCK:
                set_error(&self.ahead, -result)
        except MemoryError:
            set_error(&self.ahead, ENOMEM)
        return 0

    cdef Py_ssize_t receive_ahead(self) except? -2:
        """receive() for a prefetched result. If a buffer is small, the rest stays prefetched."""
        cdef bint is_old = self.ahead.state == PREFETCH_STALE
        cdef Py_ssize_t n
        cdef bytes data

        if self.ahead.state == PREFETCH_FAILED:
            n = -self.ahead.error
            drop(&self.ahead)
            return self.read_ended(n)
        data = take_data(&self.ahead)
        n = PyBytes_GET_SIZE(data)
        if self.filter is not None:
            self.feed_filter(PyBytes_AS_STRING(data), n)
        elif self.buffered_protocol:
            self.copy_into_protocol(data)
        else:
            if self.data_received is None:
                self.data_received = method_of(self._protocol, "data_received")
            self.call_protocol("data_received", self.data_received, data)
        return READ_SIZE if is_old or self.ahead.state != PREFETCH_NONE or n == AHEAD_SIZE else n

    cdef int copy_into_protocol(self, bytes data) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t n

        self.find_buffer_methods()
        buffer_updated = self.buffer_updated    # kept: get_buffer() may replace the protocol
        set_data(&self.ahead, data, PREFETCH_STALE)     # an interrupt must not lose the data
        if not self.view_buffer(&view):
            return 0
        if self.ahead.data != <PyObject *>data:     # a nested turn in get_buffer() has delivered it
            PyBuffer_Release(&view)
            return 0
        drop(&self.ahead)
        n = min(view.len, PyBytes_GET_SIZE(data))
        memcpy(view.buf, PyBytes_AS_STRING(data), n)
        PyBuffer_Release(&view)
        if n < PyBytes_GET_SIZE(data) and not self.closing:
            set_data(&self.ahead, data[n:], PREFETCH_STALE)
            self.reactor.defer(self, MIO_READABLE)
        self.call_protocol("buffer_updated", buffer_updated, n)
        return 0

    cdef Py_ssize_t read_bytes(self) except? -2:
        cdef ReadBuffers *buffers = &self.reactor.buffers
        cdef bytes buffer
        cdef Py_ssize_t n

        if self.data_received is None:
            self.data_received = method_of(self._protocol, "data_received")
        buffer = borrow(&buffers.received)
        n = mio_recv(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
        if n <= 0:
            give_back(&buffers.received, buffer)
            return self.read_ended(n)
        if n < COPY_BELOW or self.keeps_data:
            data = bytes_of(buffers, PyBytes_AS_STRING(buffer), n)
            give_back(&buffers.received, buffer)
            self.call_protocol("data_received", self.data_received, data)
        else:
            set_size(buffer, n)
            self.call_protocol("data_received", self.data_received, buffer)
            if not give_back_unless_kept(&buffers.received, buffer):
                self.keeps_data = True
        return n

    cdef Py_ssize_t read_into_protocol(self) except? -2:
        """Read into a BufferedProtocol's buffer. Return READ_SIZE if the buffer was filled."""
        cdef Py_buffer view
        cdef Py_ssize_t n, capacity

        self.find_buffer_methods()
        buffer_updated = self.buffer_updated    # kept: get_buffer() may replace the protocol
        if not self.view_buffer(&view):
            return 0
        capacity = view.len
        n = mio_recv(self.fd, view.buf, capacity) if self.fd >= 0 else -EAGAIN
        PyBuffer_Release(&view)
        if n <= 0:
            return self.read_ended(n)
        self.call_protocol("buffer_updated", buffer_updated, n)
        return READ_SIZE if n == capacity else n

    cdef Py_ssize_t read_into_filter(self) except? -2:
        cdef ReadBuffers *buffers = &self.reactor.buffers
        cdef bytes buffer = borrow(&buffers.received)
        cdef Py_ssize_t n

        n = mio_recv(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
        try:
            if n <= 0:
                return self.read_ended(n)
            self.feed_filter(PyBytes_AS_STRING(buffer), n)
        finally:
            give_back(&buffers.received, buffer)
        return n

    cdef int feed_filter(self, const char *data, Py_ssize_t size) except -1:
        cdef StreamFilter filter = self.filter      # kept: it may replace itself

        try:
            filter.bytes_received(data, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error: protocol.buffer_updated() call failed.")
        return 0

    cdef int find_buffer_methods(self) except -1:
        if self.get_buffer is None:
            self.get_buffer = method_of(self._protocol, "get_buffer")
            self.buffer_updated = method_of(self._protocol, "buffer_updated")
        return 0

    cdef bint view_buffer(self, Py_buffer *view) except -1:
        """Fill *view* with the buffer from protocol.get_buffer().

        Return False if that failed or the buffer is unusable; the transport is then closing.
        """
        cdef PyObject *buffer
        get_buffer = self.get_buffer    # kept: get_buffer() may call set_protocol()

        buffer = PyObject_CallOneArg(<PyObject *>get_buffer, <PyObject *>ANY_SIZE)
        if buffer == NULL:
            self.protocol_failed("get_buffer")
            return False
        if mio_get_buffer(buffer, view, PyBUF_WRITABLE) == 0:
            if view.len > 0:
                Py_DECREF(buffer)           # the view holds it
                return True
            PyBuffer_Release(view)
        refused = <object>buffer
        Py_DECREF(buffer)
        self.buffer_refused(refused)
        return False

    cdef int call_protocol(self, str name, object method, object arg) except -1:
        cdef PyObject *arguments[3]
        cdef PyObject *result

        if PyMethod_Check(method):              # a method's own call would copy the arguments
            arguments[1] = PyMethod_GET_SELF(method)
            arguments[2] = <PyObject *>arg
            result = PyObject_Vectorcall(PyMethod_GET_FUNCTION(method), &arguments[1],
                                         2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        else:
            result = PyObject_CallOneArg(<PyObject *>method, <PyObject *>arg)
        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(result)
        return 0

    # -- hot path: write -> send ----------------------------------------------

    def write(self, data):
        """Send *data* after all earlier data. Never blocks, and sends no byte twice."""
        cdef Py_ssize_t size

        if PyBytes_Check(data):
            size = PyBytes_GET_SIZE(data)
        elif isinstance(data, (bytearray, memoryview)):
            size = data.nbytes if isinstance(data, memoryview) else len(data)
        else:
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if size == 0:
            return
        if self._conn_lost:
            self.count_lost_write()
            return
        if not PyBytes_CheckExact(data):
            data = copied(data)         # the caller may change or resize it (R50)
        self.append(data)

    cdef int send(self, bytes data) except -1:
        """write() for a StreamFilter. *data* is not empty."""
        if self._conn_lost:
            return self.count_lost_write()
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        return self.append(data)

    cdef bint may_gather(self) noexcept:
        """Return whether gathering a write changes only the time at which it is sent.

        A program that holds the socket could send on it, or shut it down, before the flush.
        """
        if self.keeps_records or self.reach == REACH_PROGRAM:
            return False
        return (self.reach == REACH_LOOP
                or references(<PyObject *>self.sock) <= 1 + self.sock_is_wrapped)

    cdef Py_ssize_t send_one(self, bytes data) noexcept:
        return mio_send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2:
        cdef iovec iov[MOST_CHUNKS]
        cdef char joined[JOIN_BYTES]
        cdef char *data
        cdef Py_ssize_t count

        if self.keeps_records or self.buffer.end - self.buffer.first == 1:
            tried[0] = self.buffer.first_chunk(&data)
            return mio_send(self.fd, data, tried[0])
        if self.flow.size <= JOIN_BYTES:
            self.buffer.copy_to(joined)
            tried[0] = self.flow.size
            return mio_send(self.fd, joined, tried[0])
        count = self.buffer.as_iovec(iov, MOST_CHUNKS, tried)
        return mio_sendv(self.fd, iov, count)

    cdef bint prepare_send(self, mio_transfer *transfer) except -1:
        """Offer one chunk, or several joined ones if they are small.

        Makes no object that the garbage collector counts, and releases only bytes objects. So no
        __del__ runs before complete_send(): it could write to, or close, this or another transport.
        """
        cdef char *data

        if self.result or self.blocked or self.flow.size == 0 or self._conn_lost:
            return False
        if self.buffer.end - self.buffer.first > 1:
            if self.flow.size > JOIN_BYTES:
                return False
            try:
                self.buffer.as_one_block()
            except MemoryError:
                return False
        transfer.len = self.offered = self.buffer.first_chunk(&data)
        transfer.buf = data
        return True

    cdef bint idle(self) noexcept:
        return self.file is None and ByteFlow.idle(self)

    cdef int all_sent(self) except -1:
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            self.schedule_connection_lost(None)
        elif self.eof_written:
            mio_shutdown_write(self.fd)         # a lost connection shows at the next read
        return 0

    def _start(self, waiter):
        """Begin to read after connection_made(), then set *waiter* (R45: order of callbacks)."""
        self.started = True
        if not self._conn_lost:
            try:
                self.update_interest()
            except OSError as exc:
                self.fatal(exc, "Fatal error: the socket cannot be polled")
        if waiter is not None:
            set_result_unless_cancelled(waiter, None)

    # -- cold path: the end of a stream -----------------------------------------

    cdef int read_ended(self, Py_ssize_t n) except -1:
        """Handle a recv() that returned no bytes. Always returns 0."""
        if n == 0:
            self.on_eof()
        elif n == -EAGAIN or n == -EWOULDBLOCK:
            self.reactor.drained(self, MIO_READABLE)
        else:
            self.fatal(OSError(-n, os.strerror(-n)), "Fatal read error on socket transport")
        return 0

    cdef int on_eof(self) except -1:
        if self.reactor.debug:
            logger.debug("%r received EOF", self)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self.fatal(exc, "Fatal error: protocol.eof_received() call failed.")
        if keep_open:
            self.eof_seen = True
            self.go_on_polling()
        else:
            self.close()
        return 0

    cdef int protocol_failed(self, str name) except -1:
        try:
            raised()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, f"Fatal error: protocol.{name}() call failed.")
        return 0

    cdef int buffer_refused(self, buffer) except -1:
        """Report why this buffer cannot be used (empty or read-only), and close the transport."""
        cdef Py_buffer view

        PyErr_Clear()
        try:
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            PyBuffer_Release(&view)
            raise BufferError(f"get_buffer() returned {buffer!r}, which has no room")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error: protocol.get_buffer() call failed.")
        return 0

    cdef int write_failed(self, exc) except -1:
        self.discard()                  # fatal() would try to send it
        self.fatal(exc, "Fatal write error on socket transport")
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(exc)
        return 0

    cdef int ended(self) except -1:
        self.remember_addresses()
        self.data_received = self.get_buffer = self.buffer_updated = self.filter = None
        try:
            ByteFlow.ended(self)            # the program's own socket class may raise in close()
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

    def __dealloc__(self):
        leave(<PyObject *>self)
        drop(&self.ahead)

    cdef int forgotten(self) except -1:
        try:
            self.close_fd()
        finally:
            self.leave_server()
        return 0

    # -- cold path: the rest of asyncio.Transport ------------------------------------

    def pause_reading(self):
        # `deferred_readiness` merges the edge of the prefetched data with later ones. STALE makes
        # transport read the socket again after it has delivered that data.
        set_stale(&self.ahead)
        ByteFlow.pause_reading(self)

    def writelines(self, list_of_data):
        """Write all chunks of any iterable like one write(). Empty chunks are skipped (R51)."""
        if self.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        chunks = [data if PyBytes_CheckExact(data) else copied(data) for data in list_of_data]
        chunks = [chunk for chunk in chunks if chunk]
        if not chunks:
            return
        if self._conn_lost:
            self.count_lost_write()
            return
        if self.keeps_records:
            chunks = [b"".join(chunks)]
        for chunk in chunks:
            self.keep(chunk)
        self.written()

    def write_eof(self):
        """Shut down the write side after all written data. Reading goes on: a half-close (R54)."""
        if self.closing or self.eof_written:
            return
        self.eof_written = True
        if self.flow.size == 0:
            mio_shutdown_write(self.fd)
        elif not self.blocked:
            self.flush_now()

    def can_write_eof(self):
        return True

    def set_protocol(self, protocol):
        self._protocol = protocol
        self.filter = <StreamFilter>protocol if PyObject_TypeCheck(protocol, StreamFilter) else None
        self.buffered_protocol = self.filter is None and isinstance(protocol, BufferedProtocol)
        self.data_received = self.get_buffer = self.buffer_updated = None  # bound at the next read

    def get_extra_info(self, name, default=None):
        extra = self.info()
        if name == "socket" and "socket" not in extra:
            extra["socket"] = SharedSocket(self.socket_object(), self)
            self.sock_is_wrapped = True
        elif name == "sockname" or name == "peername":
            self.remember_addresses()
        return extra.get(name, default)

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

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.flush_gathered()
        self.empty_waiter = self.reactor.create_future()
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
        sending.waiter = self.reactor.create_future()
        self.file = sending
        try:
            self.flush_other()
            return await sending.waiter
        finally:
            if self.file is sending:        # cancelled
                self.end_file()
            sending.leave_position()

    cdef int flush_other(self) except -1:
        cdef FileSending file = self.file
        cdef Py_ssize_t n

        if file is None or self._conn_lost:
            return 0
        n = file.send_part(self.fd)
        if n == -EAGAIN or n == -EWOULDBLOCK:
            return self.block()
        if n > 0:
            self.blocked = True
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
        self.blocked = False
        return self.go_on_polling()

    cdef int share_socket(self) except -1:
        """The program takes the descriptor. Data that is only gathered is sent before that."""
        self.reach = REACH_PROGRAM
        if self.ahead.state != PREFETCH_NONE:
            self.reactor.prefetches = False
        return self.flush_gathered()

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
    def _eof(self):
        return self.eof_written

    @property
    def _empty_waiter(self):
        return self.empty_waiter

    @property
    def max_size(self):
        """The most bytes that one read asks for."""
        return READ_SIZE

    @property
    def __class__(self):
        return Transport


cdef int set_nodelay(object sock, object protocol) except -1:
    """Set TCP_NODELAY on *sock* if it is a TCP socket by *protocol* (R34).

    A mocked socket's protocol may be no number. It is then not that of TCP, as on asyncio.
    """
    if (protocol == IPPROTO_TCP and sock.type == SOCK_STREAM
            and sock.family in (AF_INET, AF_INET6)):
        sock.setsockopt(IPPROTO_TCP, socket_module.TCP_NODELAY, 1)
    return 0


cdef bytes copied(data):
    """Return an exact bytes copy.

    Subclasses of bytes are copied too: their __del__ could run user code during a send.
    """
    if PyBytes_Check(data):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return bytes(memoryview(data))


cdef int raised() except -1:
    """Raise the C API's current exception, so that Cython sees it."""
    return -1


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server,
                                object context):
    """Return a transport on a connected, non-blocking socket. Schedules connection_made().

    *waiter*, if not None, is a future that is set when reading has begun. The protocol's
    callbacks run in *context*. If that is None, they run in a copy of the current context.
    """
    cdef StreamTransport self = StreamTransport.__new__(StreamTransport)
    self.sock = sock
    self.reach = REACH_MAKER
    self.sock_kind = sock_kind
    self.extra = extra
    start_serving(self, reactor, fd, protocol, waiter, server, context)
    return self


cdef StreamTransport new_accepted(Reactor reactor, int fd, tuple sock_kind, object protocol,
                                  object server, bytes peer_address, bytes local_address,
                                  object context):
    """Return a transport on *fd* from accept(2). Schedules connection_made().

    The transport then owns *fd*. The addresses may be None. A socket object of *sock_kind* is
    made when the program asks for it.
    """
    cdef StreamTransport self = StreamTransport.__new__(StreamTransport)
    self.sock_kind = sock_kind
    self.peer_address = peer_address
    self.local_address = local_address
    start_serving(self, reactor, fd, protocol, None, server, context)
    return self


cdef int start_serving(StreamTransport self, Reactor reactor, int fd, object protocol,
                       object waiter, object server, object context) except -1:
    # A read of a Unix socket ends at a message that passes descriptors, even if more data follows.
    self.short_read_means_drained = (self.sock_kind[0] in (AF_INET, AF_INET6)
                         and self.sock_kind[2] in BYTE_PROTOCOLS)
    self.keeps_records = self.sock_kind[2] not in BYTE_PROTOCOLS
    self.context = copy_current_context() if context is None else context
    self.keeps_context = True
    if server is not None:
        attach(server, self)
        self.server = server
    try:
        self.start(reactor, fd, protocol, waiter)
    except BaseException:
        self.leave_server()
        raise
    return 0


seal(StreamFilter)
seal(StreamTransport)
