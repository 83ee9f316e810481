"""Flow control: the write buffer, its water marks, and pausing the protocol.

A ByteFlow sends written data at once, or gathers it and sends it in one system call after the
current batch of callbacks. mioloop/reactor/flush_policy.pxd decides between the two. Data that the
kernel does not accept waits in the buffer and is sent later, in as few system calls as possible.
A transport of records makes one call for each record, so that messages keep their borders (R94).
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t

from mioloop.reactor.core cimport *
from mioloop.reactor.flush_policy cimport send_now
from mioloop.transports.endpoint cimport Endpoint, enter_context, leave_context
from mioloop.transports.flow_control cimport *
from mioloop.transports.sysio cimport *
from mioloop.transports.write_buffer cimport new_write_buffer
from mioloop.reactor.sealed cimport seal

import os
import socket
import sys

cdef extern from "Python.h":
    object PyContext_CopyCurrent()

BYTE_PROTOCOLS = (0, socket.IPPROTO_TCP, 262)   # 262 is MPTCP; SCTP is missing, it keeps records

# asyncio's stream transports have a deque of chunks from 3.12 on, and one bytearray before.
cdef bint keeps_chunks = sys.version_info >= (3, 12)

cdef class WriteFlow(Endpoint):

    def __cinit__(self, *args, **kwargs):
        set_limits(&self.flow, DEFAULT_HIGH_BYTES // 4, DEFAULT_HIGH_BYTES)

    cdef int serve(self, uint32_t ready) except -1:
        if wakes_reader(ready):
            self.read(ready)
        if self.blocked and wakes_writer(ready):
            self.flush_in_context()
        return 0

    cdef bint idle(self) noexcept:
        return self.paused and not self.closing and self.flow.size == 0

    cdef int flush_now(self) except -1:
        """Send until the buffer is empty. Call block() if the kernel accepts no more."""
        return 0

    cdef int flush_in_context(self) except -1:
        """Call flush_now() because the descriptor is writable.

        Protocol callbacks run in the transport's context if it keeps one, else in the context of
        the call that found the descriptor full.
        """
        cdef object context = self.context if self.keeps_context else self.writer_context
        cdef bint entered = context is not None and enter_context(context)

        try:
            self.flush_now()
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int block(self) except -1:
        if not (self.blocked or self.keeps_context):
            self.writer_context = PyContext_CopyCurrent()
        return Endpoint.block(self)

    cdef int flush_gathered(self) except -1:
        """Send gathered data, which no system call has tried to send yet."""
        if self.flow.size and not self.blocked:
            self.flush_now()
        return 0

    cdef int buffer_drained(self) except -1:
        if self.blocked or self.paused:
            self.blocked = False
            self.go_on_polling()
        if self.flow.paused:
            self.resume_protocol_if_drained()   # resume_writing() may write more
        if self.flow.size or self._conn_lost:
            return 0
        return self.all_sent()

    cdef int all_sent(self) except -1:
        if self.closing:
            self.schedule_connection_lost(None)
        return 0

    cdef int pause_protocol_if_full(self) except -1:
        if not should_pause(&self.flow):
            return 0
        self.flow.paused = True
        try:
            self._protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("protocol.pause_writing() failed", exc)
        return 0

    cdef int resume_protocol_if_drained(self) except -1:
        if not should_resume(&self.flow) or self._protocol is None:     # None: it is lost
            return 0
        self.flow.paused = False
        try:
            self._protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("protocol.resume_writing() failed", exc)
        return 0

    def abort(self):
        """Close at once. Data written earlier is sent only as far as the kernel accepts it now."""
        if not (self.blocked or self._conn_lost):
            self.flush_now()
        self._force_close(None)

    def close(self):
        """Stop receiving, and close when all written data is sent."""
        if self.closing:
            return
        self.closing = True
        if self.flow.size == 0:
            self.schedule_connection_lost(None)
        elif self.blocked:
            self.update_interest()
        else:
            self.flush_now()

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes: pause_writing() above *high*, resume_writing() down to *low*.

        Raises ValueError unless high >= low >= 0.
        """
        cdef tuple limits = water_marks(high, low, DEFAULT_HIGH_BYTES)
        cdef Py_ssize_t low_bytes = whole_bytes(limits[0]), high_bytes = whole_bytes(limits[1])

        self.flush_gathered()
        self.limits = limits
        set_limits(&self.flow, low_bytes, high_bytes)
        self.pause_protocol_if_full()

    def get_write_buffer_limits(self):
        """Return the marks (low, high) as they were set."""
        return (self.flow.low, self.flow.high) if self.limits is None else self.limits

    def get_write_buffer_size(self):
        """Return the number of written bytes that the kernel has not accepted."""
        self.flush_gathered()
        return self.flow.size

    @property
    def _protocol_paused(self):
        return self.flow.paused

    @property
    def _high_water(self):
        return self.get_write_buffer_limits()[1]

    @property
    def _low_water(self):
        return self.get_write_buffer_limits()[0]

    def __repr__(self):
        info = [type(self).__name__]
        if self.fd < 0:
            info.append("closed")
        else:
            if self.closing:
                info.append("closing")
            info.append(f"fd={self.fd}")
            info.append("read=polling" if self.reading() else "read=idle")
            state = "polling" if self.blocked else "idle"
            info.append(f"write=<{state}, bufsize={self.flow.size}>")
        return f"<{' '.join(info)}>"


cdef class ByteFlow(WriteFlow):

    # -- hot path: write -> gather -> send ------------------------------------

    cdef bint may_gather(self) noexcept:
        """Return whether gathering a write changes only the time at which it is sent."""
        return False

    cdef int append(self, bytes data) except -1:
        """Send *data*, or add it to the buffer. *data* is not empty."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), n

        if (self.flow.size == 0 and not self.blocked
                and send_now(&self.reactor.policy, self.may_gather(), size, self.flow.high)):
            n = self.send_one(data)
            if n == size:
                return 0
            if n < 0 and n != -EAGAIN and n != -EWOULDBLOCK:
                return self.write_failed(OSError(-n, os.strerror(-n)))
            self.keep(data)
            if n > 0:
                self.drop_sent(n)
            if n < 0 or self.short_read_means_drained:
                self.block()
            else:
                self.flush_now()
            return self.pause_protocol_if_full()
        self.keep(data)
        return self.written()

    cdef int keep(self, bytes data) except -1:
        if self.buffer is None:
            self.buffer = new_write_buffer()
        self.buffer.append(data)
        self.flow.size += PyBytes_GET_SIZE(data)
        return 0

    cdef int written(self) except -1:
        """Send, or schedule a flush, after chunks and buffered_bytes have grown."""
        if not self.blocked:
            if not send_now(&self.reactor.policy, self.may_gather(), self.flow.size,
                            self.flow.high):
                return self.reactor.flush_soon(self)
            self.flush_now()
        return self.pause_protocol_if_full()

    cdef int on_flush(self) except -1:
        if not self.blocked:
            self.flush_now()
            if self.flow.size:
                self.pause_protocol_if_full()
        return 0

    cdef int send_gathered(self) except -1:
        return self.flush_gathered()

    cdef int drop_gathered(self) noexcept:
        if not self.blocked:
            self.drop_buffer()
        return 0

    cdef int complete_send(self, Py_ssize_t result) noexcept:
        self.result = result
        return 0

    cdef int flush_now(self) except -1:
        cdef Py_ssize_t n, tried = 0

        while self.flow.size and not self._conn_lost:
            if self.result:
                n, tried = self.result, self.offered
                self.result = 0
            else:
                n = self.send_chunks(&tried)
            if n == -EAGAIN or n == -EWOULDBLOCK:
                return self.block()
            if n < 0:
                return self.write_failed(OSError(-n, os.strerror(-n)))
            self.drop_sent(n)
            if self.flow.size == 0:
                return self.buffer_drained()
            if n < tried and self.short_read_means_drained:
                self.block()                        # before resume_writing(), which may write
                return self.resume_protocol_if_drained()
        return self.flush_other()

    cdef int flush_other(self) except -1:
        """Send data that is not in the buffer (a file). Called when the buffer is empty."""
        return 0

    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2:
        """Make one system call. Return the bytes sent, or -errno.

        *tried* is set to the number of bytes that the call was given.
        """
        return 0

    cdef Py_ssize_t send_one(self, bytes data) noexcept:
        """Send *data* by one system call, while the buffer is empty. Return a count or -errno."""
        return 0

    cdef int drop_sent(self, Py_ssize_t sent) except -1:
        self.flow.size -= sent
        return self.buffer.consume(sent)

    cdef int drop_buffer(self) noexcept:
        if self.buffer is not None:
            self.buffer.clear()
        self.flow.size = self.result = 0
        return 0

    # -- cold path ---------------------------------------------------------------

    def _force_close(self, exc):
        """Close at once. Gathered data is sent first: write() and then abort() delivers (R59)."""
        if not self.blocked:
            self.flush_now()
        WriteFlow._force_close(self, exc)

    cdef int write_failed(self, exc) except -1:
        self.discard()                  # fatal() would try to send it
        return self.fatal(exc, "Fatal write error on transport")

    @property
    def _buffer(self):
        """An immutable copy of the data that the kernel has not accepted."""
        self.get_write_buffer_size()
        unsent = [] if self.buffer is None else self.buffer.unsent()
        return tuple(unsent) if keeps_chunks else b"".join(unsent)

    cdef int discard(self) except -1:
        return self.drop_buffer()


seal(WriteFlow)
seal(ByteFlow)
