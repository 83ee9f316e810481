"""BaseTransport: the helpers of all transports. A transport itself tells how it works.

These are the descriptor and its registration, the context of callbacks, pausing in both directions,
and the one end. The helpers call no method that a transport overrides, with these exceptions: the
hooks of a Source, flush(), discard() and after_connection_lost(), which tell the parts that end with
the transport, and the methods that a program may override (set_protocol(), _force_close()).

The reactor's trigger is edge, level or oneshot; a protocol sees no difference. The reactor's slab
owns a reference to a transport from start() until connection_lost() has been called, except while
the transport is paused and idle.
"""

from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.python_api cimport copy_of_current_context
from mioloop.reactor.reactor cimport EDGE, LEVEL, Reactor, Source, Trigger
from mioloop.reactor.source cimport SourceFigures
from mioloop.reactor.read_buffers cimport READ_SIZE
from mioloop.reactor.sealed cimport seal
from mioloop.transports.attributes cimport (
    drop_attributes, extra_info, set_attribute, write_unraisable)
from mioloop.transports.flow_control cimport *
from mioloop.transports.protocol_calls cimport enter_context, leave_context

import warnings
from asyncio import constants
from asyncio.log import logger

from mioloop import stdlib

cdef object set_result_unless_cancelled = stdlib.set_result_unless_cancelled
cdef int WRITES_BEFORE_WARNING = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


cdef class BaseTransport(Source):

    def __cinit__(self, *args, **kwargs):
        drop_attributes(self)
        set_limits(&self.flow, DEFAULT_HIGH_BYTES // 4, DEFAULT_HIGH_BYTES)

    def __setattr__(self, str name, value):
        set_attribute(self, name, value)

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.paused += self.paused()
        figures.buffered_bytes += self.flow.size
        return 0

    _lost_write_text = "socket.send() raised exception."

    # -- reading ------------------------------------------------------------------

    cdef int after_read(self, Py_ssize_t n, uint32_t ready) except -1:
        """Remember the readiness in *ready* that no further edge reports, after a read of *n* bytes.

        *n* is READ_SIZE if there may be more data, and a smaller positive count if there is none.
        It is <= 0 at the end of the stream, after an error, and when there was nothing to read
        and the reactor's drained() was called.
        """
        if n <= 0 or self.trigger != EDGE:
            return 0
        if (n < READ_SIZE and self.short_read_means_drained
                and not ready & (MIO_READ_CLOSED | MIO_HUP | MIO_ERROR | MIO_PRIORITY)):
            self.reactor.drained(self, MIO_READABLE)
        elif self.reads():
            self.reactor.defer(self, ready & ~MIO_WRITABLE)
        else:
            self.deferred_readiness |= ready
        return 0

    # -- the registration -------------------------------------------------------

    cdef int start(self, Reactor reactor, int fd, Trigger trigger, waiter) except -1:
        """Attach to the reactor, which owns a reference from now on. Schedules connection_made().

        The protocol has been set. *waiter*, if not None, is a future that is set when reading has
        begun.
        """
        self.reactor = reactor
        self.trigger = trigger
        if self.context is None:
            self.context = copy_of_current_context()
        reactor.attach(self, fd)
        try:
            reactor.post(self._protocol.connection_made, (self,), self.callback_context())
            # Without the context: during a nested turn in connection_made() it is already entered.
            reactor.post(self._start, (waiter,), None)
        except BaseException:           # the caller keeps the descriptor
            reactor.detach(self, False)
            self.fd = -1
            raise
        return 0

    def _start(self, waiter):
        """Begin to read after connection_made(), then set *waiter* (R45: order of callbacks)."""
        if self.life == LIFE_STARTING:
            self.enter_life(LIFE_OPEN)
        try:
            if not self._conn_lost:
                self.update_interest()  # the loop reports EPERM: the file cannot be polled
        finally:
            if waiter is not None:
                set_result_unless_cancelled(waiter, None)

    cdef object callback_context(self):
        """Return the context for a callback scheduled now. None: a copy of the current context."""
        return self.context if self.keeps_context else None

    cdef int update_interest(self) except -1:
        """Register the wanted interest with the poll, if another one is registered.

        Edge: readable always, and writable from the first time that the kernel was full. After
        that the selector is not called again. Level and oneshot: exactly the interest of now.
        """
        cdef uint32_t want

        if not self.attached:
            return 0
        if self.idles():
            self.reactor.drop_reference(self)   # if forgotten now, it warns (ResourceWarning)
        else:
            self.reactor.keep_alive(self)
        if self.trigger == EDGE:
            want = self.armed
            if self.reads() or self.life == LIFE_OPEN and self.incoming == INCOMING_DATA:
                want |= MIO_READABLE | MIO_PRIORITY     # urgent data cuts a read short
            if self.blocked():
                want |= MIO_WRITABLE
        else:
            want = MIO_READABLE if self.reads() else 0
            if self.blocked():
                want |= MIO_WRITABLE
        if want == self.armed:
            return 0
        self.armed = 0                      # in case registering fails
        if want == 0:
            return self.reactor.unregister(self)
        self.reactor.register(
            self, want,
            MIO_EDGE if self.trigger == EDGE
            else MIO_LEVEL if self.trigger == LEVEL
            else MIO_LEVEL | MIO_ONESHOT)
        self.armed = want
        return 0

    cdef int go_on_polling(self) except -1:
        """Call update_interest(). An OSError ends the transport: no caller could handle it."""
        try:
            self.update_interest()
        except OSError as exc:
            if self.write_state == WRITE_FREE:
                self.enter_write(WRITE_FULL)    # fatal() must not send
            self.discard()
            self.fatal(exc, "Fatal error: the descriptor cannot be polled")
        return 0

    # -- writing ------------------------------------------------------------------

    cdef int block(self) except -1:
        """Wait for writable readiness, because the kernel accepts no more."""
        if self.write_state == WRITE_FREE:
            if not self.keeps_context:
                self.writer_context = copy_of_current_context()
            self.enter_write(WRITE_FULL)
        self.reactor.drained(self, MIO_WRITABLE)
        return self.go_on_polling()

    cdef bint after_drain(self) except -1:
        """The buffer has become empty. Return whether it is still so after resume_writing()."""
        if self.blocked() or self.paused():
            self.enter_write(WRITE_FREE)
            self.go_on_polling()
        if self.flow.paused:
            self.resume_protocol_if_drained()   # resume_writing() may write more
        return self.flow.size == 0 and not self._conn_lost

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

    # -- pausing ------------------------------------------------------------------

    def pause_reading(self):
        if self.closes() or self.paused():
            return
        self.enter_read(READ_ENDED_PAUSED if self.ended() else READ_PAUSED)
        self.update_interest()

    def resume_reading(self):
        if self.closes() or not self.paused():
            return
        self.enter_read(READ_ENDED if self.ended() else READ_FLOWING)
        if not self.keeps_context:
            self.context = copy_of_current_context()
        self.update_interest()
        if self.deferred_readiness:
            self.reactor.defer(self, self.deferred_readiness)
            self.deferred_readiness = 0

    def is_reading(self):
        return not self.closes() and not self.paused()

    # -- invariants ---------------------------------------------------------------

    cdef bint is_consistent(self) except -1:
        """Return whether the states agree. A debug build asserts it after each event."""
        return ((self.life >= LIFE_LOST) == (self._conn_lost > 0)
                and (self.attached or not (self.registered or self.held))
                and (self.fd >= 0 or not self.attached)
                and self.flow.size >= 0
                and 0 <= self.flow.low <= self.flow.high)

    # -- cold path: failures and the end ------------------------------------------

    cdef int report(self, str message, exc) except -1:
        return self.reactor.report({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self._protocol,
        })

    cdef int callback_failed(self, str name, exc) except -1:
        """Report an exception of a protocol's callback (R13). The transport goes on."""
        return self.report(f"Exception in callback protocol.{name}()", exc)

    cdef int fatal(self, exc, str message) except -1:
        """End the transport because of *exc*.

        Only connection_lost() gets an error that is caused by the peer or the network (R46): an
        OSError, or of a pipe the one with `expected_errno`. Any other error is reported.
        """
        if not isinstance(exc, OSError) or self.expected_errno not in (0, exc.errno):
            self.report(message, exc)
        elif self.reactor.debug:
            logger.debug("%r: %s", self, message, exc_info=exc)
        self._force_close(exc)
        return 0

    def _force_close(self, exc):
        if self._conn_lost:
            return
        self.discard()
        self.enter_write(WRITE_FREE)
        if self.life < LIFE_CLOSING:
            self.enter_life(LIFE_CLOSING)
        self.schedule_connection_lost(exc)

    cdef int discard(self) except -1:
        """Drop all data that waits to be sent."""
        return 0

    def close(self):
        """Stop receiving. When all written data is sent, close and call connection_lost()."""
        if self.closes():
            return
        self.enter_life(LIFE_CLOSING)
        self.send_gathered()
        if self.flow.size == 0:
            self.schedule_connection_lost(None)
        else:
            self.update_interest()

    def is_closing(self):
        return self.closes()

    cdef int schedule_connection_lost(self, exc) except -1:
        """Schedule connection_lost() once. It never runs inside the call that caused it."""
        if self._conn_lost == 0:
            self._conn_lost = 1
            self.enter_life(LIFE_LOST)
            self.reactor.post(self._call_connection_lost, (exc,), None)
            try:
                self.update_interest()
            except OSError:             # no matter: the descriptor is closed soon
                pass
        return 0

    cdef int count_lost_write(self) except -1:
        if self._conn_lost >= WRITES_BEFORE_WARNING:
            logger.warning(self._lost_write_text)
        self._conn_lost += 1
        return 0

    def _call_connection_lost(self, exc):
        cdef object context = self.context
        cdef bint entered = self.keeps_context and enter_context(context)

        try:
            self._protocol.connection_lost(exc)
        finally:
            try:
                self.after_connection_lost()
            finally:
                if entered:
                    leave_context(context)

    cdef int after_connection_lost(self) except -1:
        """Drop all references and close the descriptor, after connection_lost()."""
        self.discard()
        self._protocol = self.context = None
        if self.life == LIFE_LOST:      # else the program has called this by itself
            self.enter_life(LIFE_CLOSED)
        return self.close_fd()

    cdef int close_fd(self) except -1:
        """Leave the reactor and close the descriptor. Once: `fd` is -1 afterwards."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        try:
            # Closing alone is not enough: a duplicate of the descriptor keeps it registered.
            self.reactor.detach(self, False)
        finally:
            self.fd = -1
            self.close_files(fd)
        return 0

    cdef int close_files(self, int fd) except -1:
        if self.duplicated:
            close_descriptor(fd)
        if self.owner is not None:
            self.owner.close()
        return 0

    cdef int forgotten(self) except -1:
        """The program dropped the transport without close(). connection_lost() is not called."""
        return self.close_fd()

    def __del__(self):
        if self.fd < 0:
            return
        try:
            text = f"unclosed transport {self!r}"
            try:
                self.forgotten()
            finally:
                # Warn last: a filter may turn the warning into an exception, and a hook may do
                # anything, also use this transport.
                warnings.warn(text, ResourceWarning, source=self)
        except BaseException as exc:
            write_unraisable(exc, self)

    def __repr__(self):
        info = [type(self).__name__]
        if self.fd < 0:
            info.append("closed")
        else:
            if self.closes():
                info.append("closing")
            info.append(f"fd={self.fd}")
            info.append("read=polling" if self.reads() else "read=idle")
            state = "polling" if self.blocked() else "idle"
            info.append(f"write=<{state}, bufsize={self.flow.size}>")
        return f"<{' '.join(info)}>"

    def __reduce_ex__(self, protocol):      # object.__reduce_ex__() would use __class__
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} objects")

    def set_protocol(self, protocol):
        self._protocol = protocol

    def get_protocol(self):
        return self._protocol

    def get_extra_info(self, name, default=None):
        return extra_info(self, self.extra, name, default)

    @property
    def _loop(self):
        return None if self._protocol is None else self.reactor

    @property
    def _paused(self):
        return self.paused()

    @property
    def _closing(self):
        return self.closes()

    @property
    def _extra(self):
        return self.extra

    @property
    def _context(self):
        return self.callback_context()


cdef class WritingTransport(BaseTransport):
    """The methods and attributes of every transport that writes."""

    cdef int flush(self) except -1:
        """Send the data that waits, as far as the kernel accepts it. Each transport has its own."""
        return 0

    cdef int send_gathered(self) except -1:
        if self.flow.size and not self.blocked():
            self.flush()
        return 0

    def abort(self):
        """Close at once. Data written earlier is sent only as far as the kernel accepts it now."""
        self.send_gathered()
        self._force_close(None)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes: pause_writing() above *high*, resume_writing() down to *low*.

        Raises ValueError unless high >= low >= 0.
        """
        cdef tuple limits = water_marks(high, low, DEFAULT_HIGH_BYTES)
        cdef Py_ssize_t low_bytes = whole_bytes(limits[0]), high_bytes = whole_bytes(limits[1])

        self.send_gathered()
        self.limits = limits
        set_limits(&self.flow, low_bytes, high_bytes)
        self.pause_protocol_if_full()

    def get_write_buffer_limits(self):
        """Return the marks (low, high) as they were set."""
        return (self.flow.low, self.flow.high) if self.limits is None else self.limits

    def get_write_buffer_size(self):
        """Return the number of written bytes that the kernel has not accepted."""
        self.send_gathered()
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


seal(BaseTransport)
seal(WritingTransport)
