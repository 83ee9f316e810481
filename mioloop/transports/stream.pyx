"""Stream transport: bytes between one connected socket and one protocol.

Driven edge, level or oneshot (the reactor's trigger); what a protocol sees is the same.

Reading    one recv an event. With edges a short read means drained, unless a hang-up, the
           end of the stream or urgent data was announced with it; a read that filled the
           buffer goes on in the next turn, so that no connection starves the others.
Writing    write() only gathers. What a callback wrote leaves when it returns, in one send;
           a buffer above the high mark, or above FLUSH_BYTES, is sent at once, so that
           pause_writing() is judged after an attempt (R59).
Ownership  the reactor's slab owns the transport from new_stream() to connection_lost();
           the socket object, once made, owns the descriptor, before that the transport does.
"""

cimport cython
from cpython.buffer cimport (PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.reactor cimport (COPY_BELOW, EDGE, LEVEL, ONESHOT, READ_SIZE, Reactor,
                                      Source)
from mioloop.transports.flow cimport WriteFlow
from mioloop.transports.sysio cimport *

import os
import socket as socket_module
import warnings
from asyncio import base_events, constants, futures, protocols, transports, trsock
from asyncio.log import logger

cdef extern from *:
    """
    /* The buffer of a large read is handed to the protocol as it is, with its length set to
     * what was read, and taken back if nobody kept it. A bytes object may be changed only
     * while it has one reference, and its cached hash goes with its contents. */
    static void mio_bytes_set_size(PyObject *bytes, Py_ssize_t size)
    {
        Py_SET_SIZE(bytes, size);
        PyBytes_AS_STRING(bytes)[size] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #endif
        ((PyBytesObject *)bytes)->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #endif
    }
    """
    void mio_bytes_set_size(object bytes, Py_ssize_t size)

cdef extern from "<errno.h>" nogil:
    const int EWOULDBLOCK           # EAGAIN on most systems

cdef extern from "Python.h":
    PyObject *PyObject_CallOneArg(PyObject *callable, PyObject *arg)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t Py_REFCNT(object)
    void Py_DECREF(PyObject *)

cdef enum:
    FLUSH_BYTES = 65536
    MOST_CHUNKS = 1024          # IOV_MAX of Linux, macOS and the BSDs

cdef object BufferedProtocol = protocols.BufferedProtocol
cdef int WRITES_BEFORE_WARNING = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef bint server_wants_transport = (
    "transport" in base_events.Server._attach.__code__.co_varnames)


class Transport(transports._FlowControlMixin, transports.Transport):
    """What isinstance() sees in place of the native class, see `__class__` there."""

    __slots__ = ()


cdef class StreamTransport(WriteFlow):

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    # -- hot path: ready -> recv -> data_received ---------------------------

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.reactor.trigger_mode == ONESHOT:
            self.armed = 0              # spent
            try:
                self.serve(ready)
            finally:
                self.update_interest()
            return 0
        return self.serve(ready)

    cdef int serve(self, uint32_t ready) except -1:
        if wakes_reader(ready):
            self.read(ready)
        if self.blocked and wakes_writer(ready):
            self.flush_now()
        return 0

    cdef bint reading(self) noexcept:
        return not (self.paused or self.closing or self.eof_seen) and self.started

    cdef int read(self, uint32_t ready) except -1:
        cdef Py_ssize_t n
        cdef bint edge = self.reactor.trigger_mode == EDGE
        cdef object context

        if not self.reading():
            self.missed |= ready        # an edge does not come twice: resume_reading() serves it
            return 0
        context = self.context          # resume_reading() in a callback replaces ours
        PyContext_Enter(context)
        try:
            n = self.read_into_protocol() if self.buffered_protocol else self.read_bytes()
        except BaseException:           # KeyboardInterrupt: the loop may be run again
            self.reactor.serve_again(self, ready)
            raise
        finally:
            PyContext_Exit(context)
        if not edge or n <= 0:
            return 0
        if n < READ_SIZE and not ready & (MIO_READ_CLOSED | MIO_HUP | MIO_ERROR | MIO_PRIORITY):
            self.reactor.drained(self, MIO_READABLE)
        elif self.reading():
            self.reactor.serve_again(self, ready & ~MIO_WRITABLE)
        else:
            self.missed |= ready
        return 0

    cdef Py_ssize_t read_bytes(self) except? -2:
        """Returns READ_SIZE if there may be more, a smaller count if not, <= 0 at an end."""
        cdef Reactor reactor = self.reactor
        cdef bytes buffer = reactor.read_buffer
        cdef Py_ssize_t n

        if self.data_received is None:
            self.data_received = getattr(self._protocol, "data_received", None)
        reactor.read_buffer = None
        if buffer is None:
            buffer = PyBytes_FromStringAndSize(NULL, READ_SIZE)
        n = mio_recv(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
        if n <= 0:
            reactor.read_buffer = buffer
            return self.read_ended(n)
        if n < COPY_BELOW or self.keeps_data:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(buffer), n)
            reactor.read_buffer = buffer
            self.call_protocol("data_received", self.data_received, data)
        else:
            mio_bytes_set_size(buffer, n)
            self.call_protocol("data_received", self.data_received, buffer)
            if Py_REFCNT(buffer) == 1:
                mio_bytes_set_size(buffer, READ_SIZE)
                reactor.read_buffer = buffer
            else:
                self.keeps_data = True
        return n

    cdef Py_ssize_t read_into_protocol(self) except? -2:
        """The same for a BufferedProtocol; READ_SIZE also if its buffer was filled."""
        cdef Py_buffer view
        cdef Py_ssize_t n, capacity

        try:
            buffer = self._protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error: protocol.get_buffer() call failed.")
            return 0
        capacity = view.len
        n = mio_recv(self.fd, view.buf, capacity) if self.fd >= 0 else -EAGAIN
        PyBuffer_Release(&view)
        if n <= 0:
            return self.read_ended(n)
        self.call_protocol("buffer_updated", self._protocol.buffer_updated, n)
        return READ_SIZE if n == capacity else n

    cdef int call_protocol(self, str name, object method, object arg) except -1:
        cdef PyObject *result = PyObject_CallOneArg(<PyObject *>method, <PyObject *>arg)
        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(result)
        return 0

    # -- hot path: write -> gather -> send ------------------------------------

    def write(self, data):
        """Send *data* after what was written before; never blocks, never sends twice."""
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
        if not PyBytes_Check(data):
            data = bytes(data)          # the caller may change or resize it (R50)
        self.chunks.append(data)
        self.buffered_bytes += size
        self.written()

    cdef int written(self) except -1:
        if not self.blocked:
            if self.buffered_bytes < FLUSH_BYTES and self.buffered_bytes <= self.high_bytes:
                return self.reactor.flush_soon(self)
            self.flush_now()
        return self.pause_protocol_if_full()

    cdef int on_flush(self) except -1:
        if not self.blocked:
            self.flush_now()
            self.pause_protocol_if_full()
        return 0

    cdef int flush_now(self) except -1:
        cdef Py_ssize_t n, tried = 0

        while self.buffered_bytes and not self._conn_lost and not self.lent:
            n = self.send_chunks(&tried)
            if n == -EAGAIN or n == -EWOULDBLOCK:
                return self.block()
            if n < 0:
                return self.write_failed(OSError(-n, os.strerror(-n)))
            self.drop_sent(n)
            if self.buffered_bytes == 0:
                return self.buffer_drained()
            if n < tried:
                return self.block()
        return 0

    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2:
        cdef iovec iov[MOST_CHUNKS]
        cdef Py_ssize_t count = min(len(self.chunks), MOST_CHUNKS), i
        cdef object chunk = self.chunks[0]

        tried[0] = PyBytes_GET_SIZE(chunk) - self.first_sent
        if count == 1:
            return mio_send(self.fd, PyBytes_AS_STRING(chunk) + self.first_sent, tried[0])
        iov[0].iov_base = PyBytes_AS_STRING(chunk) + self.first_sent
        iov[0].iov_len = tried[0]
        for i in range(1, count):
            chunk = self.chunks[i]
            iov[i].iov_base = PyBytes_AS_STRING(chunk)
            iov[i].iov_len = PyBytes_GET_SIZE(chunk)
            tried[0] += iov[i].iov_len
        return mio_sendv(self.fd, iov, count)

    cdef int drop_sent(self, Py_ssize_t sent) except -1:
        cdef Py_ssize_t gone = 0, size

        self.buffered_bytes -= sent
        if self.buffered_bytes == 0:
            self.chunks.clear()
            self.first_sent = 0
            return 0
        sent += self.first_sent
        while True:
            size = PyBytes_GET_SIZE(self.chunks[gone])
            if sent < size:
                break
            sent -= size
            gone += 1
        del self.chunks[:gone]
        self.first_sent = sent
        return 0

    cdef int buffer_drained(self) except -1:
        if self.blocked or self.paused:
            self.blocked = False
            self.update_interest()
        self.resume_protocol_if_drained()       # may write more
        if self.buffered_bytes or self._conn_lost:
            return 0
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            self.lose(None)
        elif self.eof_written:
            mio_shutdown_write(self.fd)         # a connection that is gone shows on read
        return 0

    cdef int block(self) except -1:
        self.blocked = True
        self.reactor.drained(self, MIO_WRITABLE)
        return self.update_interest()

    # -- the registration -------------------------------------------------------

    cdef int update_interest(self) except -1:
        """Tell the poll what we wait for, if that is not what it has.

        Edge: readable always, and writable from the first time the system was full: no call
        to the selector ever after. Level and oneshot: exactly what is wanted now.
        """
        cdef uint32_t want

        if not self.attached or self.lent:
            return 0
        if self.paused and self.buffered_bytes == 0 and not self.closing:
            self.reactor.let_go(self)   # idle: whoever forgets it now gets a ResourceWarning
        else:
            self.reactor.hold(self)
        if self.reactor.trigger_mode == EDGE:
            want = self.armed
            if self.started:
                want |= MIO_READABLE | MIO_PRIORITY     # urgent data cuts a read short
            if self.blocked:
                want |= MIO_WRITABLE
        else:
            want = MIO_READABLE if self.reading() else 0
            if self.blocked:
                want |= MIO_WRITABLE
        if want == self.armed:
            return 0
        self.armed = want
        if want == 0:
            return self.reactor.unregister(self)
        return self.reactor.register(
            self, want,
            MIO_EDGE if self.reactor.trigger_mode == EDGE
            else MIO_LEVEL if self.reactor.trigger_mode == LEVEL
            else MIO_LEVEL | MIO_ONESHOT)

    def _start(self, waiter):
        """After connection_made(): begin to read, then tell whoever waits for us (R45)."""
        self.started = True
        if not self._conn_lost:
            try:
                self.update_interest()
            except OSError as exc:
                self.fatal(exc, "Fatal error: the socket cannot be polled")
        if waiter is not None:
            futures._set_result_unless_cancelled(waiter, None)

    def pause_reading(self):
        if self.closing or self.paused:
            return
        self.paused = True
        self.update_interest()

    def resume_reading(self):
        if self.closing or not self.paused:
            return
        self.paused = False
        self.context = PyContext_CopyCurrent()
        self.update_interest()
        if self.missed:
            self.reactor.serve_again(self, self.missed)
            self.missed = 0

    def is_reading(self):
        return not self.closing and not self.paused

    # -- cold path: the end of a stream -----------------------------------------

    cdef int read_ended(self, Py_ssize_t n) except -1:
        """recv() gave no bytes. Always returns 0."""
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
            self.update_interest()
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

    cdef int write_failed(self, exc) except -1:
        self.fatal(exc, "Fatal write error on socket transport")
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(exc)
        return 0

    cdef int count_lost_write(self) except -1:
        if self._conn_lost >= WRITES_BEFORE_WARNING:
            logger.warning("socket.send() raised exception.")
        self._conn_lost += 1
        return 0

    cdef int fatal(self, exc, str message) except -1:
        """The connection cannot go on. An OSError is the peer's or the network's doing (R46)."""
        if isinstance(exc, OSError):
            if self.reactor.debug:
                logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            self.reactor.report({
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            })
        self._force_close(exc)
        return 0

    def _force_close(self, exc):
        if self._conn_lost:
            return
        self.chunks.clear()
        self.first_sent = self.buffered_bytes = 0
        self.blocked = False
        self.closing = True
        self.lose(exc)

    def abort(self):
        """Close at once. What was written before it and fits the system's buffer still leaves."""
        if not self.blocked:
            self.flush_now()
        self._force_close(None)

    def close(self):
        """Close when all that was written has left; nothing is received any more."""
        if self.closing:
            return
        self.closing = True
        if self.buffered_bytes == 0:
            self.lose(None)
        elif self.blocked:
            self.update_interest()
        else:
            self.flush_now()

    def is_closing(self):
        return self.closing

    cdef int lose(self, exc) except -1:
        """Schedule connection_lost(): once, and never inside the call that caused it."""
        if self._conn_lost == 0:
            self._conn_lost = 1
            self.update_interest()
            self.reactor.soon(self._call_connection_lost, (exc,), None)
        return 0

    def _call_connection_lost(self, exc):
        try:
            if self.protocol_connected:
                self._protocol.connection_lost(exc)
        finally:
            self.remember_addresses()
            self.close_fd()
            self._protocol = self.data_received = self.context = None
            self.chunks.clear()
            if self.empty_waiter is not None and not self.empty_waiter.done():
                self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
            self.leave_server()

    cdef int close_fd(self) except -1:
        """Leave the reactor and close the descriptor. Once: `fd` is -1 afterwards."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        self.reactor.release(self, True)
        self.fd = -1
        if self.sock is not None:
            self.sock.close()
        else:
            close_descriptor(fd)
        return 0

    cdef int leave_server(self) except -1:
        server, self.server = self.server, None
        if server is not None:
            if server_wants_transport:
                server._detach(self)
            else:
                server._detach()
        return 0

    def __del__(self):
        if self.fd >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close_fd()
            self.leave_server()

    # -- cold path: the rest of asyncio.Transport ------------------------------------

    def writelines(self, list_of_data):
        """As one write() of all of them, in any iterable; empty ones are skipped (R51)."""
        if self.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        chunks = [bytes(memoryview(data)) if not PyBytes_Check(data) else data
                  for data in list_of_data]
        chunks = [chunk for chunk in chunks if chunk]
        if not chunks:
            return
        if self._conn_lost:
            self.count_lost_write()
            return
        self.chunks.extend(chunks)
        for chunk in chunks:
            self.buffered_bytes += PyBytes_GET_SIZE(chunk)
        self.written()

    def write_eof(self):
        """Close the write side after what was written; reading goes on (R54)."""
        if self.closing or self.eof_written:
            return
        self.eof_written = True
        if self.buffered_bytes == 0:
            mio_shutdown_write(self.fd)
        elif not self.blocked:
            self.flush_now()

    def can_write_eof(self):
        return True

    def get_write_buffer_size(self):
        """Bytes written that the system has not taken."""
        if self.buffered_bytes and not self.blocked:
            self.flush_now()            # only gathered: the system has not been asked yet
        return self.buffered_bytes

    def set_protocol(self, protocol):
        self._protocol = protocol
        self.protocol_connected = True
        self.buffered_protocol = isinstance(protocol, BufferedProtocol)
        self.data_received = None       # bound at the first read

    def get_protocol(self):
        return self._protocol

    def get_extra_info(self, name, default=None):
        if name == "socket" and "socket" not in self.extra:
            self.extra["socket"] = trsock.TransportSocket(self.socket_object())
        elif name == "sockname" or name == "peername":
            self.remember_addresses()
        return self.extra.get(name, default)

    cdef int remember_addresses(self) except -1:
        """Both answer after the close too (R57)."""
        if self.fd < 0 or ("sockname" in self.extra and "peername" in self.extra):
            return 0
        sock = self.socket_object()
        for name, ask in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            if name not in self.extra:
                try:
                    self.extra[name] = ask()
                except OSError:
                    self.extra[name] = None
        return 0

    cdef object socket_object(self):
        """The socket.socket, which owns the descriptor from its first use."""
        if self.sock is None:
            if self.fd >= 0:
                self.sock = socket_module.socket(*self.sock_kind, fileno=self.fd)
                self.sock.setblocking(False)
            else:                       # asked for only after the end: a closed one
                self.sock = socket_module.socket(*self.sock_kind)
                self.sock.close()
        return self.sock

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        if self.buffered_bytes and not self.blocked:
            self.flush_now()
        self.empty_waiter = self.reactor.create_future()
        if self.buffered_bytes == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    def _lend_fd(self):
        """sock_sendfile() drives the descriptor until _take_fd_back()."""
        self.reactor.unregister(self)
        self.reactor.token_by_fd.pop(self.fd, None)
        self.armed = 0
        self.lent = True

    def _take_fd_back(self):
        self.lent = False
        if self.attached:
            self.reactor.token_by_fd[self.fd] = self.token
            self.update_interest()

    @property
    def _loop(self):
        return None if self._protocol is None else self.reactor

    @property
    def _sock(self):
        return None if self.fd < 0 else self.socket_object()

    @property
    def _sock_fd(self):
        return self.fd

    @property
    def _paused(self):
        return self.paused

    @property
    def _extra(self):
        return self.extra

    @property
    def __class__(self):
        return Transport

    def __repr__(self):
        info = ["StreamTransport"]
        if self.fd < 0:
            info.append("closed")
        else:
            if self.closing:
                info.append("closing")
            info.append(f"fd={self.fd}")
            info.append("read=polling" if self.reading() else "read=idle")
            state = "polling" if self.blocked else "idle"
            info.append(f"write=<{state}, bufsize={self.buffered_bytes}>")
        return f"<{' '.join(info)}>"


cdef int raised() except -1:
    """Turns the C API's current exception into one that Cython sees."""
    return -1


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server):
    """A transport on a connected, non-blocking socket; connection_made() is scheduled.

    sock may be None: the transport then owns *fd* and makes a socket of *sock_kind* if it is
    asked for one. *waiter*, if not None, is a future that is set when reading has begun.
    """
    cdef StreamTransport self = StreamTransport.__new__(StreamTransport)
    self.reactor = reactor
    self.sock = sock
    self.sock_kind = sock_kind
    self.extra = extra
    self.chunks = []
    self.set_protocol(protocol)
    self.context = PyContext_CopyCurrent()
    reactor.adopt(self, fd)
    try:
        if server is not None:
            if server_wants_transport:
                server._attach(self)
            else:
                server._attach()
            self.server = server
        reactor.soon(protocol.connection_made, (self,), None)
        reactor.soon(self._start, (waiter,), None)
    except BaseException:               # the caller keeps the descriptor
        reactor.release(self, False)
        self.fd = -1
        self.leave_server()
        raise
    return self
