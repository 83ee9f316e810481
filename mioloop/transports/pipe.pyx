"""Pipe transports: one end of a pipe, a terminal or a socket, and one protocol.

Ownership  The pipe object owns the descriptor; its close() is called after connection_lost().
           The poll watches a duplicate if the number may be in use for the other direction, too:
           for a character device such as a terminal, and for a descriptor that is watched already.
"""

cimport cython
from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from libc.errno cimport EAGAIN, EIO
from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.reactor cimport EDGE, LEVEL, ONESHOT, Reactor, Trigger
from mioloop.reactor.source cimport SourceFigures
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, give_back
from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.protocol_calls cimport enter_context, leave_context, method_of
from mioloop.transports.new_stream cimport BYTE_PROTOCOLS
from mioloop.transports.states cimport *
from mioloop.transports.sysio cimport *
from mioloop.transports.write_buffer cimport MOST_CHUNKS, as_bytes, new_write_buffer, snapshot
from mioloop.reactor.sealed cimport seal

import fcntl
import os
import socket
import stat
from asyncio import transports
from asyncio.log import logger

from mioloop import stdlib


class ReadTransport(transports.ReadTransport):
    """The class that isinstance() sees in place of the native one, see `__class__` there."""

    __slots__ = ()


class WriteTransport(stdlib.FlowControlMixin, transports.WriteTransport):
    """The class that isinstance() sees in place of the native one for writing."""

    __slots__ = ()


@cython.final
cdef class ReadPipeTransport(BaseTransport):

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.pipes += 1
        return BaseTransport.add_figures(self, figures)

    # -- readable: on_ready -> read -> the protocol's data_received() -------------------

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.trigger == ONESHOT:
            self.armed = 0              # the registration is spent
        try:
            if wakes_reader(ready):
                self.read(ready)
        finally:
            if self.trigger == ONESHOT:
                self.go_on_polling()
        assert self.is_consistent()
        return 0

    cdef int read(self, uint32_t ready) except -1:
        """Read once, and call the protocol in the context of the last resume_reading()."""
        cdef object context = self.context      # resume_reading() in a callback may replace it
        cdef Py_ssize_t n
        cdef bint entered, returned = False

        if not self.reads():
            self.deferred_readiness |= ready
            return 0
        entered = enter_context(context)
        try:
            n = self.deliver()
            returned = True
        finally:
            if entered:
                leave_context(context)
            if not returned:            # KeyboardInterrupt: the loop may be run again
                self.reactor.defer(self, ready)
        return self.after_read(n, ready)

    cdef Py_ssize_t deliver(self) except? -2:
        cdef Reactor reactor = self.reactor
        cdef bytes buffer = borrow(&reactor.buffers.received)
        cdef Py_ssize_t n

        n = mio_read(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
        data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(buffer), n) if n > 0 else None
        give_back(&reactor.buffers.received, buffer)
        if n <= 0:
            return self.read_ended(n)
        reactor.traffic.bytes_in += n
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
            if self.life < LIFE_CLOSING:
                self.enter_life(LIFE_CLOSING)
            try:
                self.reactor.post(method_of(self._protocol, "eof_received"), (), None)
            finally:
                self.schedule_connection_lost(None)
        return 0

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
        return describe("ReadPipeTransport", self, "polling" if self.reads() else "idle")


@cython.final
cdef class WritePipeTransport(WritingTransport):

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.pipes += 1
        return WritingTransport.add_figures(self, figures)

    _lost_write_text = "pipe closed by peer or os.write(pipe, data) raised exception."

    # -- writable: write -> append -> flush ---------------------------------------------

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.trigger == ONESHOT:
            self.armed = 0              # the registration is spent
        try:
            if self.incoming == INCOMING_END and wakes_reader(ready):
                self.reader_gone()
            elif self.blocked() and wakes_writer(ready):
                self.flush_in_context()
        finally:
            if self.trigger == ONESHOT:
                self.go_on_polling()
        assert self.is_consistent()
        return 0

    def write(self, data):
        """Send *data* after all earlier data. Never blocks. Ignored after close()."""
        if not PyBytes_CheckExact(data):
            data = as_bytes(data)
        if PyBytes_GET_SIZE(data) == 0:
            return
        if self.closes():
            if self._conn_lost:         # else what is buffered is still sent; the count is not 0
                self.count_lost_write()
            return
        self.append(data)

    cdef int append(self, bytes data) except -1:
        """Add *data* to the buffer, and send it unless earlier data waits. *data* is not empty."""
        if self.buffer is None:
            self.buffer = new_write_buffer()
        self.buffer.append(data)
        self.flow.size += PyBytes_GET_SIZE(data)
        if not self.blocked():
            self.flush()
        return self.pause_protocol_if_full()

    cdef int flush_in_context(self) except -1:
        """Call flush() in the context of the call that found the pipe full."""
        cdef object context = self.writer_context
        cdef bint entered = context is not None and enter_context(context)

        try:
            self.flush()
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int flush(self) except -1:
        """Send until the buffer is empty. Call block() if the kernel accepts no more."""
        cdef iovec iov[MOST_CHUNKS]
        cdef Py_ssize_t n, tried = 0, most = 1 if self.keeps_records else MOST_CHUNKS

        while self.flow.size and not self._conn_lost:
            n = mio_writev(self.fd, iov, self.buffer.as_iovec(iov, most, &tried))
            if n == -EAGAIN or n == -EWOULDBLOCK:
                return self.block()
            if n < 0:
                self.discard()          # fatal() would try to send it
                return self.fatal(OSError(-n, os.strerror(-n)),
                                  "Fatal write error on pipe transport")
            self.reactor.traffic.bytes_out += n
            self.flow.size -= n
            self.buffer.consume(n)
            if self.flow.size == 0:
                if self.after_drain() and self.closes():
                    self.schedule_connection_lost(None)
            elif n < tried and self.short_read_means_drained:
                self.block()                        # before resume_writing(), which may write
                return self.resume_protocol_if_drained()
        return 0

    # -- cold path -------------------------------------------------------------------

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

    cdef int discard(self) except -1:
        if self.buffer is not None:
            self.buffer.clear()
        self.flow.size = 0
        return 0

    def _force_close(self, exc):
        """Close at once, and try to send before that: write() and then abort() delivers (R59)."""
        self.send_gathered()
        BaseTransport._force_close(self, exc)

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
    def _buffer(self):
        """An immutable copy of the data that the kernel has not accepted."""
        return snapshot(self.buffer)

    @property
    def __class__(self):
        return WriteTransport

    def __repr__(self):
        state = "polling" if self.blocked() else "idle"
        return describe("WritePipeTransport", self, f"{state} bufsize={self.flow.size}")


cdef str describe(str name, BaseTransport self, str state):
    if self.fd < 0:
        return f"<{name} closed>"
    if self.reactor.closed:
        state = "open"
    return f"<{name} {'closing ' if self.closes() else ''}fd={self.fd} {state}>"


cdef int give_up(BaseTransport self, pipe) except -1:
    """Close without the pipe object: asyncio's tests set `_pipe = None` and close it themselves."""
    if pipe is not None:
        raise AttributeError("_pipe can only be set to None: somebody else closes the pipe")
    self.owner = None
    return self.close_fd()


cdef int claim(Reactor reactor, BaseTransport self, object pipe, mode) except -1:
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


cdef int start(Reactor reactor, BaseTransport self, int fd, Trigger trigger, protocol,
               waiter) except -1:
    try:
        self.set_protocol(protocol)
        self.start(reactor, fd, trigger, waiter)
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
    cdef Trigger trigger = reactor.trigger_mode
    mode = os.fstat(pipe.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only.")
    self.extra = extra
    self.expected_errno = EIO           # the other side of a terminal has closed: the end (R76)
    # A short read does not show that the pipe is empty: it may have ended at a packet (O_DIRECT,
    # which the reading end does not show) or at a message of a socket, with more data after it.
    # With edges, each read would need one more system call, until EAGAIN. So use level.
    if trigger == EDGE:
        trigger = LEVEL
    start(reactor, self, claim(reactor, self, pipe, mode), trigger, protocol, waiter)
    return self


cdef WritePipeTransport new_write_pipe(Reactor reactor, object pipe, object protocol,
                                       object waiter, dict extra):
    """Return a transport that writes to *pipe*. Arguments and errors are as in new_read_pipe()."""
    cdef WritePipeTransport self = WritePipeTransport.__new__(WritePipeTransport)
    mode = os.fstat(pipe.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    self.incoming = INCOMING_NOTHING if stat.S_ISCHR(mode) else INCOMING_END
    self.keeps_records = is_of_records(pipe.fileno(), mode)
    self.extra = extra
    start(reactor, self, claim(reactor, self, pipe, mode), reactor.trigger_mode, protocol,
          waiter)
    return self


seal(ReadPipeTransport)
seal(WritePipeTransport)
