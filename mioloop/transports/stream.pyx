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
Writing    write() sends at once, or gathers: flush_policy.pxd decides. Gathered data is sent in
           one system call after the current batch of callbacks. Data that the kernel does not
           accept waits in the buffer and is sent later, in as few system calls as possible. A
           socket of records gets one call for each record, so that messages keep their borders
           (R94).
Elsewhere  The socket object, the addresses and sendfile() are in socket_transport.pyx, and the
           functions that make a transport in new_stream.pyx.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from mioloop.reactor.core cimport *
from mioloop.reactor.flush_policy cimport send_now
from mioloop.reactor.python_api cimport (
    Py_DECREF, Py_REFCNT, PyObject_TypeCheck, PyTypeObject, raised)
from mioloop.reactor.reactor cimport ONESHOT, Reactor
from mioloop.reactor.source cimport SourceFigures
from mioloop.reactor.read_buffers cimport (
    AHEAD_SIZE, COPY_BELOW, READ_SIZE, ReadBuffers, borrow, bytes_of, give_back,
    give_back_unless_kept, set_size)
from mioloop.transports.prefetch cimport *
from mioloop.transports.protocol_calls cimport (
    buffer_of, call_method, enter_context, leave_context)
from mioloop.transports.socket_transport cimport REACH_LOOP, REACH_PROGRAM, SocketTransport
from mioloop.transports.states cimport *
from mioloop.transports.sysio cimport *
from mioloop.transports.write_buffer cimport (
    MOST_CHUNKS, as_bytes, exact_bytes, new_write_buffer, snapshot)
from mioloop.reactor.sealed cimport seal

import os
from asyncio import protocols, transports
from asyncio.log import logger

from mioloop import stdlib

cdef enum:
    JOIN_BYTES = 4096           # up to here a copy costs less than sendmsg() with a vector

cdef object BufferedProtocol = protocols.BufferedProtocol


class Transport(stdlib.FlowControlMixin, transports.Transport):
    """The class that isinstance() sees in place of the native one, see `__class__` there."""

    __slots__ = ()


cdef class StreamFilter:

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        return 0


@cython.final
cdef class StreamTransport(SocketTransport):

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.streams += 1
        return SocketTransport.add_figures(self, figures)

    _start_tls_compatible = True
    _sendfile_compatible = stdlib.SendfileMode.TRY_NATIVE

    # -- readable: on_ready -> read -> deliver -> the protocol's data_received() -------------

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.trigger == ONESHOT:
            self.armed = 0              # the registration is spent
        try:                            # no `except` clause: entering one costs time on each event
            if wakes_reader(ready):
                self.read(ready)
            if self.blocked() and wakes_writer(ready):
                self.flush_in_context()
        finally:
            if self.trigger == ONESHOT:
                self.go_on_polling()
        assert self.is_consistent()
        return 0

    cdef int read(self, uint32_t ready) except -1:
        """Receive once, and call the protocol in the connection's context."""
        cdef Reactor reactor = self.reactor
        cdef object context = self.context      # the protocol may end the transport
        cdef bytes buffer
        cdef Py_ssize_t n
        cdef bint entered, returned = False

        if not self.reads():
            self.deferred_readiness |= ready    # no second edge comes: resume_reading() serves it
            return 0
        entered = enter_context(context)
        try:
            if self.ahead.state != PREFETCH_NONE:
                n = self.deliver_prefetched()
            elif self.buffered_protocol:
                n = self.read_into_protocol()
                if n > 0:
                    self.reads_much = n > AHEAD_SIZE
            else:
                buffer = borrow(&reactor.buffers.received)
                n = mio_recv(self.fd, PyBytes_AS_STRING(buffer), READ_SIZE)
                if n > 0:
                    reactor.traffic.bytes_in += n
                    self.deliver(buffer, n)
                    self.reads_much = n > AHEAD_SIZE
                else:
                    give_back(&reactor.buffers.received, buffer)
                    n = self.read_ended(n)
            returned = True
        finally:
            if entered:
                leave_context(context)
            if not returned:            # KeyboardInterrupt: the loop may be run again
                reactor.defer(self, ready)
        return self.after_read(n, ready)

    cdef int deliver(self, bytes buffer, Py_ssize_t n) except -1:
        """Pass the first *n* bytes of the loop's read buffer to the protocol, and give it back."""
        cdef ReadBuffers *buffers = &self.reactor.buffers

        if self.filter is not None:
            try:
                self.feed_filter(PyBytes_AS_STRING(buffer), n)
            finally:
                give_back(&buffers.received, buffer)
            return 0
        if n < COPY_BELOW or self.keeps_data:
            data = bytes_of(buffers, PyBytes_AS_STRING(buffer), n)
            give_back(&buffers.received, buffer)
            return self.call_protocol(self._protocol, "data_received", data)
        set_size(buffer, n)
        self.call_protocol(self._protocol, "data_received", buffer)
        if not give_back_unless_kept(&buffers.received, buffer):
            self.keeps_data = True
        return 0

    cdef int call_protocol(self, object protocol, str name, object arg) except -1:
        cdef PyObject *result = call_method(protocol, name, arg)

        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(result)
        return 0

    cdef int feed_filter(self, const char *data, Py_ssize_t size) except -1:
        cdef StreamFilter filter = self.filter      # kept: it may replace itself

        try:
            filter.bytes_received(data, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error: protocol.buffer_updated() call failed.")
        return 0

    # -- prefetched: read before the transport's turn, and delivered in it -------------------

    cdef bint can_prefetch(self, uint32_t ready) noexcept:
        """Return whether the reactor may prefetch.

        False at the end of the stream (a later recv() reports it again) and when urgent data is
        pending (recv() would skip it).
        """
        return ready & ~MIO_WRITABLE == MIO_READABLE and self.prefetch_allowed()

    cdef bint prefetch_allowed(self) noexcept:
        return (self.reach == REACH_LOOP and not self.reads_much and self.reads()
                and self.ahead.state == PREFETCH_NONE)

    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept:
        try:
            if result > 0:
                self.reactor.traffic.bytes_in += result
                set_data(&self.ahead, bytes_of(&self.reactor.buffers, data, result),
                         PREFETCH_READY)
                self.reads_much = result == AHEAD_SIZE
            elif result < 0 and result != -EAGAIN and result != -EWOULDBLOCK:
                set_error(&self.ahead, -result)
        except MemoryError:
            set_error(&self.ahead, ENOMEM)
        return 0

    cdef Py_ssize_t deliver_prefetched(self) except? -2:
        """read() for a prefetched result. If a buffer is small, the rest stays prefetched."""
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
            self.call_protocol(self._protocol, "data_received", data)
        return READ_SIZE if is_old or self.ahead.state != PREFETCH_NONE or n == AHEAD_SIZE else n

    # -- a BufferedProtocol: get_buffer -> recv -> buffer_updated ----------------------------

    cdef Py_ssize_t read_into_protocol(self) except? -2:
        """Read into a BufferedProtocol's buffer. Return READ_SIZE if the buffer was filled."""
        cdef Py_buffer view
        cdef Py_ssize_t n, capacity
        cdef object protocol = self._protocol       # get_buffer() may replace it

        failure = buffer_of(protocol, &view)
        if failure is not None:
            self.fatal(failure, "Fatal error: protocol.get_buffer() call failed.")
            return 0
        capacity = view.len
        n = mio_recv(self.fd, view.buf, capacity) if self.fd >= 0 else -EAGAIN
        PyBuffer_Release(&view)
        if n <= 0:
            return self.read_ended(n)
        self.reactor.traffic.bytes_in += n
        self.call_protocol(protocol, "buffer_updated", n)
        return READ_SIZE if n == capacity else n

    cdef int copy_into_protocol(self, bytes data) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t n
        cdef object protocol = self._protocol       # get_buffer() may replace it

        set_data(&self.ahead, data, PREFETCH_STALE)     # an interrupt must not lose the data
        failure = buffer_of(protocol, &view)
        if failure is not None:
            self.fatal(failure, "Fatal error: protocol.get_buffer() call failed.")
            return 0
        if self.ahead.data != <PyObject *>data:     # a nested turn in get_buffer() has delivered it
            PyBuffer_Release(&view)
            return 0
        drop(&self.ahead)
        n = min(view.len, PyBytes_GET_SIZE(data))
        memcpy(view.buf, PyBytes_AS_STRING(data), n)
        PyBuffer_Release(&view)
        if n < PyBytes_GET_SIZE(data) and not self.closes():
            set_data(&self.ahead, data[n:], PREFETCH_STALE)
            self.reactor.defer(self, MIO_READABLE)
        self.call_protocol(protocol, "buffer_updated", n)
        return 0

    # -- writable: write -> append -> flush --------------------------------------------------

    def write(self, data):
        """Send *data* after all earlier data. Never blocks, and sends no byte twice."""
        if not PyBytes_CheckExact(data):
            data = as_bytes(data)
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if PyBytes_GET_SIZE(data) == 0:
            return
        if self._conn_lost:
            self.count_lost_write()
            return
        self.append(data)

    cdef int enqueue(self, bytes data) except -1:
        """write() for a StreamFilter. *data* is not empty."""
        if self._conn_lost:
            return self.count_lost_write()
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        return self.append(data)

    cdef int append(self, bytes data) except -1:
        """Send *data*, or add it to the buffer. *data* is not empty."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), n

        if (self.flow.size == 0 and not self.blocked()
                and send_now(&self.reactor.policy, self.may_gather(), size, self.flow.high)):
            n = mio_send(self.fd, PyBytes_AS_STRING(data), size)
            if n > 0:
                self.reactor.traffic.bytes_out += n
            if n == size:
                return 0
            if n < 0 and n != -EAGAIN and n != -EWOULDBLOCK:
                return self.write_failed(OSError(-n, os.strerror(-n)))
            self.keep(data)
            if n > 0:
                self.flow.size -= n
                self.buffer.consume(n)
            if n < 0 or self.short_read_means_drained:
                self.block()
            else:
                self.flush()
            return self.pause_protocol_if_full()
        self.keep(data)
        return self.schedule_flush()

    cdef bint may_gather(self) noexcept:
        """Return whether gathering a write changes only the time at which it is sent.

        A program that holds the socket could send on it, or shut it down, before the flush.
        """
        if self.keeps_records or self.reach == REACH_PROGRAM:
            return False
        return (self.reach == REACH_LOOP
                or Py_REFCNT(<PyObject *>self.sock) <= 1 + self.sock_is_wrapped)

    cdef int keep(self, bytes data) except -1:
        if self.buffer is None:
            self.buffer = new_write_buffer()
        self.buffer.append(data)
        self.flow.size += PyBytes_GET_SIZE(data)
        return 0

    cdef int schedule_flush(self) except -1:
        """Send, or schedule a flush, after the buffer has grown."""
        if not self.blocked():
            if not send_now(&self.reactor.policy, self.may_gather(), self.flow.size,
                            self.flow.high):
                return self.reactor.flush_soon(self)
            self.flush()
        return self.pause_protocol_if_full()

    cdef int flush_in_context(self) except -1:
        """Call flush() because the socket is writable: it may call the protocol."""
        cdef object context = self.context
        cdef bint entered = enter_context(context)

        try:
            self.flush()
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int flush(self) except -1:
        """Send until the buffer is empty. Call block() if the kernel accepts no more."""
        cdef Py_ssize_t n, tried = 0

        while self.flow.size and not self._conn_lost:
            if self.write_state == WRITE_SENT:
                n, tried = self.result, self.offered
                self.enter_write(WRITE_FREE)
            else:
                n = self.send_buffered(&tried)
            if n == -EAGAIN or n == -EWOULDBLOCK:
                return self.block()
            if n < 0:
                return self.write_failed(OSError(-n, os.strerror(-n)))
            self.reactor.traffic.bytes_out += n
            self.flow.size -= n
            self.buffer.consume(n)
            if self.flow.size == 0:
                return self.all_sent()
            if n < tried and self.short_read_means_drained:
                self.block()                        # before resume_writing(), which may write
                return self.resume_protocol_if_drained()
        return self.send_file_part()

    cdef Py_ssize_t send_buffered(self, Py_ssize_t *tried) except? -2:
        """Make one system call. Return the bytes sent, or -errno.

        *tried* is set to the number of bytes that the call was given.
        """
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

    cdef int all_sent(self) except -1:
        if not self.after_drain():      # resume_writing() has written more
            return 0
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closes():
            self.schedule_connection_lost(None)
        elif self.eof_written:
            mio_shutdown_write(self.fd)         # a lost connection shows at the next read
        return 0

    # -- gathered: the reactor sends when the batch of callbacks ends -------------------------

    cdef int on_flush(self) except -1:
        if not self.blocked():
            self.flush()
            if self.flow.size:
                self.pause_protocol_if_full()
        return 0

    cdef int drop_gathered(self) noexcept:
        if not self.blocked():
            self.drop_buffer()
        return 0

    cdef bint prepare_send(self, mio_transfer *transfer) except -1:
        """Offer one chunk, or several joined ones if they are small.

        Makes no object that the garbage collector counts, and releases only bytes objects. So no
        __del__ runs before complete_send(): it could write to, or close, this or another transport.
        """
        cdef char *data

        if self.write_state != WRITE_FREE or self.flow.size == 0 or self._conn_lost:
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

    cdef int complete_send(self, Py_ssize_t result) noexcept:
        if result != 0:                 # 0: the burst did not get to it
            self.result = result
            self.enter_write(WRITE_SENT)
        return 0

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
            self.enter_read(READ_ENDED_PAUSED if self.paused() else READ_ENDED)
            self.go_on_polling()
        else:
            self.close()
        return 0

    cdef bint is_consistent(self) except -1:
        return (SocketTransport.is_consistent(self)
                and (self.flow.size == 0) == (self.buffer is None or len(self.buffer) == 0)
                and (self.write_state != WRITE_SENT or self.flow.size > 0)
                and not (self.file is not None and self.write_state != WRITE_FILE
                         and self.life < LIFE_LOST)
                and (self.ahead.data != NULL) == (self.ahead.state == PREFETCH_READY
                                                  or self.ahead.state == PREFETCH_STALE))

    cdef int protocol_failed(self, str name) except -1:
        try:
            raised()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, f"Fatal error: protocol.{name}() call failed.")
        return 0

    cdef int write_failed(self, exc) except -1:
        self.discard()                  # fatal() would try to send it
        self.fatal(exc, "Fatal write error on socket transport")
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(exc)
        return 0

    cdef int drop_buffer(self) noexcept:
        if self.buffer is not None:
            self.buffer.clear()
        self.flow.size = 0
        if self.write_state == WRITE_SENT:
            self.enter_write(WRITE_FREE)
        return 0

    cdef int discard(self) except -1:
        return self.drop_buffer()

    def _force_close(self, exc):
        """Close at once. Gathered data is sent first: write() and then abort() delivers (R59)."""
        self.send_gathered()
        SocketTransport._force_close(self, exc)

    cdef int after_connection_lost(self) except -1:
        self.filter = None
        return SocketTransport.after_connection_lost(self)

    # -- cold path: the rest of asyncio.Transport ------------------------------------

    def pause_reading(self):
        # `deferred_readiness` merges the edge of the prefetched data with later ones. STALE makes
        # transport read the socket again after it has delivered that data.
        set_stale(&self.ahead)
        SocketTransport.pause_reading(self)

    def writelines(self, list_of_data):
        """Write all chunks of any iterable like one write(). Empty chunks are skipped (R51)."""
        if self.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        chunks = [data if PyBytes_CheckExact(data) else exact_bytes(data) for data in list_of_data]
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
        self.schedule_flush()

    def write_eof(self):
        """Shut down the write side after all written data. Reading goes on: a half-close (R54)."""
        if self.closes() or self.eof_written:
            return
        self.eof_written = True
        if self.flow.size == 0:
            mio_shutdown_write(self.fd)
        elif not self.blocked():
            self.flush()

    def can_write_eof(self):
        return True

    def set_protocol(self, protocol):
        self._protocol = protocol
        self.filter = (<StreamFilter>protocol if PyObject_TypeCheck(
            <PyObject *>protocol, <PyTypeObject *>StreamFilter) else None)
        self.buffered_protocol = self.filter is None and isinstance(protocol, BufferedProtocol)

    @property
    def _buffer(self):
        """An immutable copy of the data that the kernel has not accepted."""
        self.send_gathered()
        return snapshot(self.buffer)

    @property
    def _eof(self):
        return self.eof_written

    @property
    def __class__(self):
        return Transport


cdef StreamTransport bare_stream():
    """Return an object for new_stream.pyx, which fills it."""
    return StreamTransport.__new__(StreamTransport)


seal(StreamFilter)
seal(StreamTransport)
