"""Pipe transports: one end of a pipe, a terminal or a socket, and one protocol.

Ownership  The pipe object owns the descriptor; its close() is called after connection_lost().
           The poll watches a duplicate if the number may be in use for the other direction, too:
           for a character device such as a terminal, and for a descriptor that is watched already.
"""

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from libc.errno cimport EAGAIN, EIO
from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.reactor cimport EDGE, LEVEL, Reactor, Trigger
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, give_back
from mioloop.transports.endpoint cimport Endpoint, enter_context, leave_context, method_of
from mioloop.transports.flow cimport BYTE_PROTOCOLS, MOST_CHUNKS, ByteFlow
from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import fcntl
import os
import socket
import stat
from asyncio import transports
from asyncio.log import logger

from mioloop import stdlib

cdef object set_result_unless_cancelled = stdlib.set_result_unless_cancelled


class ReadTransport(transports.ReadTransport):
    """The class that isinstance() sees in place of the native one, see `__class__` there."""

    __slots__ = ()


class WriteTransport(stdlib.FlowControlMixin, transports.WriteTransport):
    """The class that isinstance() sees in place of the native one for writing."""

    __slots__ = ()


cdef class ReadPipeTransport(Endpoint):

    cdef Trigger choose_trigger(self) noexcept:
        """Use level in place of edge, because a short read does not show that the pipe is empty.

        The read may have ended at a packet (O_DIRECT, which the reading end does not show) or at a
        message of a socket, with more data after it. Reading until EAGAIN would cost one more
        system call for each read.
        """
        return LEVEL if self.reactor.trigger_mode == EDGE else self.reactor.trigger_mode

    # -- hot path: read -> data_received -------------------------------------------

    cdef Py_ssize_t receive(self) except? -2:
        cdef Reactor reactor = self.reactor
        cdef bytes buffer = borrow(&reactor.buffers.received)
        cdef Py_ssize_t n

        n = mio_read(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
        data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(buffer), n) if n > 0 else None
        give_back(&reactor.buffers.received, buffer)
        if n <= 0:
            return self.read_ended(n)
        try:
            self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.callback_failed("data_received", exc)
        return n

    # -- cold path -------------------------------------------------------------------

    cdef Py_ssize_t read_ended(self, Py_ssize_t n) except? -2:
        """Handle a read() that returned no bytes. Always returns 0."""
        if n == -EAGAIN or n == -EWOULDBLOCK:
            self.reactor.drained(self, MIO_READABLE)
        elif n < 0:
            self.fatal(OSError(-n, os.strerror(-n)), "Fatal read error on pipe transport")
        else:
            if self.reactor.debug:
                logger.info("%r was closed by peer", self)
            self.closing = True
            try:
                self.reactor.post(method_of(self._protocol, "eof_received"), (), None)
            finally:
                self.schedule_connection_lost(None)
        return 0

    cdef bint is_expected(self, exc) except -1:
        """Return whether *exc* is not reported: EIO means that a terminal's other side has closed,
        which is an end of the pipe (R76)."""
        return isinstance(exc, OSError) and exc.errno == EIO

    @property
    def _pipe(self):
        return None if self.fd < 0 else self.owner
    @_pipe.setter
    def _pipe(self, pipe):
        give_up(self, pipe)

    @property
    def _fileno(self):
        return self.fd

    @property
    def max_size(self):
        """The most bytes that one read asks for."""
        return READ_SIZE

    @property
    def __class__(self):
        return ReadTransport

    def __repr__(self):
        return describe("ReadPipeTransport", self, "polling" if self.reading() else "idle")


cdef class WritePipeTransport(ByteFlow):

    _lost_write_text = "pipe closed by peer or os.write(pipe, data) raised exception."

    # -- hot path: write -> write(2) ----------------------------------------------------

    def write(self, data):
        """Send *data* after all earlier data. Never blocks. Ignored after close()."""
        if not PyBytes_Check(data):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(
                    f"data argument must be a bytes-like object, not {type(data).__name__!r}")
            data = bytes(data)
        if PyBytes_GET_SIZE(data) == 0:
            return
        if self.closing:
            if self._conn_lost:         # else what is buffered is still sent; the count is not 0
                self.count_lost_write()
            return
        self.append(data)

    cdef Py_ssize_t send_one(self, bytes data) noexcept:
        cdef iovec iov

        iov.iov_base = PyBytes_AS_STRING(data)
        iov.iov_len = PyBytes_GET_SIZE(data)
        return mio_writev(self.fd, &iov, 1)

    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2:
        cdef iovec iov[MOST_CHUNKS]
        cdef Py_ssize_t most = 1 if self.keeps_records else MOST_CHUNKS
        return mio_writev(self.fd, iov, self.buffer.as_iovec(iov, most, tried))

    cdef int serve(self, uint32_t ready) except -1:
        if self.watches_reader and wakes_reader(ready):
            return self.reader_gone()
        if self.blocked and wakes_writer(ready):
            self.flush_in_context()
        return 0

    # -- cold path -------------------------------------------------------------------

    cdef bint reading(self) noexcept:
        """Return whether the poll watches for readable, which means that the reader has closed."""
        return self.started and not self._conn_lost

    def _start(self, waiter):
        if self.watches_reader:
            ByteFlow._start(self, waiter)
        elif waiter is not None:
            set_result_unless_cancelled(waiter, None)

    cdef int reader_gone(self) except -1:
        cdef object context = self.context
        cdef bint entered

        if self._conn_lost:
            return 0
        if self.reactor.debug:
            logger.info("%r was closed by peer", self)
        entered = enter_context(context)
        try:
            self._force_close(BrokenPipeError() if self.flow.size else None)
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int write_failed(self, exc) except -1:
        self.discard()                  # fatal() would try to send it
        return self.fatal(exc, "Fatal write error on pipe transport")

    def writelines(self, list_of_data):
        self.write(b"".join(list_of_data))

    def can_write_eof(self):
        return True

    def write_eof(self):
        """Close the transport: a pipe has only one direction."""
        self.close()

    @property
    def _pipe(self):
        return None if self.fd < 0 else self.owner
    @_pipe.setter
    def _pipe(self, pipe):
        give_up(self, pipe)

    @property
    def _fileno(self):
        return self.fd

    @property
    def __class__(self):
        return WriteTransport

    def __repr__(self):
        state = "polling" if self.blocked else "idle"
        return describe("WritePipeTransport", self, f"{state} bufsize={self.flow.size}")


cdef str describe(str name, Endpoint self, str state):
    if self.fd < 0:
        return f"<{name} closed>"
    if self.reactor.closed:
        state = "open"
    return f"<{name} {'closing ' if self.closing else ''}fd={self.fd} {state}>"


cdef int give_up(Endpoint self, pipe) except -1:
    """Close without the pipe object: asyncio's tests set `_pipe = None` and close it themselves."""
    if pipe is not None:
        raise AttributeError("_pipe can only be set to None: somebody else closes the pipe")
    self.owner = None
    return self.close_fd()


cdef int claim(Reactor reactor, Endpoint self, object pipe, mode) except -1:
    """Make *self* the owner that closes *pipe*. Return the descriptor to poll."""
    cdef int fd = pipe.fileno()
    os.set_blocking(fd, False)
    self.owner = pipe
    self.extra["pipe"] = pipe
    self.short_read_means_drained = stat.S_ISFIFO(mode)
    if stat.S_ISCHR(mode) or reactor.source_of(fd) is not None:
        fd = os.dup(fd)
        self.duplicated = True
    return fd


cdef bint is_of_records(int fd, mode) except -1:
    """Return whether each write is a message: on a socket without a byte stream, or on a pipe in
    packet mode."""
    cdef int packets = getattr(os, "O_DIRECT", 0)
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.type != socket.SOCK_STREAM or sock.proto not in BYTE_PROTOCOLS
    return stat.S_ISFIFO(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & packets


cdef int start(Reactor reactor, Endpoint self, int fd, protocol, waiter) except -1:
    try:
        self.start(reactor, fd, protocol, waiter)
    except BaseException:
        if self.duplicated:
            close_descriptor(fd)
        raise
    return 0


cdef ReadPipeTransport new_read_pipe(Reactor reactor, object pipe, object protocol, object waiter,
                                     dict extra):
    """Return a transport that reads from *pipe*, a file object. Schedules connection_made().

    Raises ValueError if *pipe* is no FIFO, socket or character device. *waiter*, if not None, is a
    future that is set when reading has begun.
    """
    cdef ReadPipeTransport self = ReadPipeTransport.__new__(ReadPipeTransport)
    mode = os.fstat(pipe.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only.")
    self.extra = extra
    start(reactor, self, claim(reactor, self, pipe, mode), protocol, waiter)
    return self


cdef WritePipeTransport new_write_pipe(Reactor reactor, object pipe, object protocol,
                                       object waiter, dict extra):
    """Return a transport that writes to *pipe*. Arguments and errors are as in new_read_pipe()."""
    cdef WritePipeTransport self = WritePipeTransport.__new__(WritePipeTransport)
    mode = os.fstat(pipe.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    self.watches_reader = not stat.S_ISCHR(mode)
    self.keeps_records = is_of_records(pipe.fileno(), mode)
    self.extra = extra
    start(reactor, self, claim(reactor, self, pipe, mode), protocol, waiter)
    return self


seal(ReadPipeTransport)
seal(WritePipeTransport)
