"""TLS between a stream transport and a protocol: asyncio's sslproto, natively.

TlsProtocol is the protocol of the transport below and drives the session; TlsTransport is the
transport that the application sees. A StreamTransport passes received data in the loop's buffer,
without a copy, and takes records as chunks of its own write buffer. Any other transport (TLS in
TLS, or a class of the program) is used through asyncio's interfaces.

Written data is encrypted at once while the transport below accepts it. Otherwise it waits here as
plaintext. close() sends close_notify, waits for the peer's close_notify until a timeout, and
delivers no data that arrives meanwhile (R68). If records of the peer are unread at close(), or
arrive after it, the connection ends at once with OpenSSL's error as the argument of
connection_lost().

A loss is never hidden: once the transport below closes, for any reason, is_closing() is true, so
that StreamWriter.drain() lets the loop run, and connection_lost() is called.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport (PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release,
                             PyObject_GetBuffer)

from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, give_back
from mioloop.transports.attributes cimport (
    drop_attributes, has_attributes, set_attribute, write_unraisable)
from mioloop.transports.flow_control cimport water_marks, whole_bytes
from mioloop.transports.protocol_calls cimport enter_context, leave_context
from mioloop.transports.stream cimport StreamFilter, StreamTransport
from mioloop.transports.tls_engine cimport WANT, Engine, new_engine
from mioloop.reactor.sealed cimport seal

import collections
import sys
import warnings
from asyncio import constants, exceptions, protocols
from asyncio.log import logger

from mioloop import stdlib

try:
    import ssl
except ImportError:                     # a Python without OpenSSL: make_tls() is never reached
    ssl = None
else:
    AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError)

cdef extern from "Python.h":
    object PyContext_CopyCurrent()

cdef enum:
    PIECE_BYTES = 65536                 # encrypted at a time, four records
    KIB = 1024

cdef bint nests = getattr(stdlib.SSLProtocolTransport, "_start_tls_compatible", False)
cdef Py_ssize_t DEFAULT_HIGH_BYTES = KIB * getattr(
    constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 64)         # before 3.11: a stream's
cdef Py_ssize_t DEFAULT_READ_HIGH_BYTES = KIB * getattr(
    constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 256)
# The sslproto of 3.10 still sends data that is written in eof_received().
cdef bint sends_after_eof = not hasattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ")
cdef object SHUTDOWN_TIMEOUT_S = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)
cdef int WRITES_BEFORE_WARNING = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef object BufferedProtocol = protocols.BufferedProtocol
cdef Py_ssize_t MOST_BYTES = sys.maxsize


class Protocol(protocols.Protocol):
    """The class that isinstance() sees in place of TlsProtocol: not a BufferedProtocol."""

    __slots__ = ()


cdef positive(name, value, default):
    if value is None:
        return default
    if not value > 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


cdef Py_ssize_t reached_bytes(object mark) except -1:
    """Return *mark* rounded up to whole bytes, at most sys.maxsize."""
    cdef Py_ssize_t below = whole_bytes(mark)
    return below if below >= mark or below == MOST_BYTES else below + 1


cdef bint may_follow(State before, State state) noexcept:
    """Return whether the table in the docstring of TlsProtocol allows this transition."""
    if before == UNCONNECTED:
        return state == HANDSHAKE or state == CLOSING or state == LOST
    if before == HANDSHAKE:
        return state == OPEN or state == LOST
    return state > before and state != HANDSHAKE and (state != SHUTDOWN or before == FLUSHING)


cdef class TlsProtocol(StreamFilter):

    def __cinit__(self):
        drop_attributes(self)

    def __setattr__(self, str name, value):
        """Refuse a name of the class: native code uses it, so that replacing has no effect."""
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} of {type(self).__name__!r} objects cannot be set")
        set_attribute(self, name, value)

    # -- hot path: ciphertext -> data_received() -----------------------------------------

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        if self.state >= CLOSING:
            return 0
        try:
            self.engine.feed(data, size)
            self.go_on()
        finally:
            self.engine.settle()        # the stream reuses its buffer for the next read
        return self.check()

    cdef int go_on(self) except -1:
        """Take the session's next step: each state has its own."""
        if self.state == OPEN:
            return self.read()
        if self.state == HANDSHAKE:
            return self.shake_hands()
        if self.state == FLUSHING:
            return self.flush()
        if self.state == SHUTDOWN:
            return self.shut_down()
        return 0

    cdef int go_on_later(self) except -1:
        """Schedule another go_on(), because an interrupt is leaving the loop.

        The readiness that was consumed so far will not be reported again.
        """
        self.reactor.post(self._resume, (), None)
        return 0

    cdef bint reads(self) noexcept:
        return self.state == OPEN and not self.reading_paused

    cdef int read(self) except -1:
        """Decrypt and deliver all unread data, until the application pauses."""
        cdef Py_ssize_t n = READ_SIZE

        try:
            while n > 0 and self.reads():
                n = self.read_into_protocol() if self.app_buffered else self.read_bytes()
            if n == 0 and self.state == OPEN:
                self.close_notify_received()
            elif self.state == OPEN:
                if self.backlog_bytes:          # a renegotiation may have delayed it
                    self.encrypt(False)
                    self.resume_if_drained()
                self.send()                     # key updates, alerts
                self.watch_unread()
        except (SystemExit, KeyboardInterrupt):
            self.go_on_later()
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error on SSL protocol")
        return 0

    cdef Py_ssize_t read_bytes(self) except -2:
        """Call data_received() once. Return > 0 if there may be more data, 0 at close_notify,
        else WANT."""
        cdef Reactor reactor = self.reactor
        cdef bytes plain = borrow(&reactor.buffers.decrypted)
        cdef Py_ssize_t n, total = 0
        cdef object failure = None

        try:
            while True:
                n = self.engine.read(PyBytes_AS_STRING(plain) + total, READ_SIZE - total)
                if n <= 0:
                    break
                total += n
                if total == READ_SIZE:
                    break
                if self.engine.unread() == 0:
                    n = WANT            # a whole record was read: another read would get nothing
                    break
        except Exception as exc:        # data before the error is delivered
            failure = exc
        if total:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(plain), total)
            give_back(&reactor.buffers.decrypted, plain)
            if self.app_data_received is None:
                self.app_data_received = self._app_protocol.data_received
            self.app_data_received(data)
        else:
            give_back(&reactor.buffers.decrypted, plain)
        if failure is not None:
            raise failure
        return n

    cdef Py_ssize_t read_into_protocol(self) except -2:
        """Call get_buffer() and buffer_updated() once. Return like read_bytes()."""
        cdef Py_buffer view
        cdef Py_ssize_t n, total = 0, capacity

        buffer = self._app_protocol.get_buffer(self.engine.unread())
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        capacity = view.len
        failure = None
        try:
            while True:
                n = self.engine.read(<char *>view.buf + total, capacity - total)
                if n <= 0:
                    break
                total += n
                if total == capacity:
                    break
        except Exception as exc:
            failure = exc
        finally:
            PyBuffer_Release(&view)
        if total:
            self._app_protocol.buffer_updated(total)
        if failure is not None:
            raise failure
        return n

    cdef int watch_unread(self) except -1:
        """Pause the transport below at `read_high` unread bytes; resume it down to `read_low`.

        While the application has paused, reading goes on up to this mark, so that the end of the
        connection is noticed in time.
        """
        cdef Py_ssize_t unread = self.engine.unread()

        if self.incoming == FLOWING and unread >= self.read_high and unread > 0:
            self.incoming = HELD
            self._transport.pause_reading()
        elif self.incoming == HELD and unread <= self.read_low:
            self.incoming = FLOWING
            self._transport.resume_reading()
        return 0

    # -- hot path: write() -> records ---------------------------------------------------

    cdef int write(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)

        if self.state >= FLUSHING or (self.incoming == EXHAUSTED and not sends_after_eof):
            if self.writes_after_end >= WRITES_BEFORE_WARNING:
                logger.warning("SSL connection is closed")
            self.writes_after_end += 1
            return 0
        if self.stream is not None and self.stream._conn_lost:
            return self.stream.count_lost_write()
        try:
            if (size <= PIECE_BYTES and self.state == OPEN
                    and not (self.below_full or self.backlog_bytes)
                    and self.engine.write(PyBytes_AS_STRING(data), size) != WANT):
                return self.send()
            if self.backlog is None:
                self.backlog = collections.deque()
            self.backlog.append(data)
            self.backlog_bytes += size
            if self.state == OPEN:
                self.encrypt(False)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self.fatal(exc, "Fatal error on SSL protocol")
        return self.pause_if_full()

    cdef int encrypt(self, bint all_of_it) except -1:
        """Encrypt the backlog until the transport below is full; with *all_of_it*, to its end."""
        cdef Py_ssize_t n

        while self.backlog_bytes and (all_of_it or not self.below_full):
            data = <bytes>self.backlog[0]
            n = self.engine.write(
                PyBytes_AS_STRING(data) + self.first_encrypted,
                min(PyBytes_GET_SIZE(data) - self.first_encrypted, PIECE_BYTES))
            if n == WANT:
                return self.send()
            self.first_encrypted += n
            self.backlog_bytes -= n
            if self.first_encrypted == PyBytes_GET_SIZE(data):
                self.backlog.popleft()
                self.first_encrypted = 0
            self.send()
        return 0

    cdef int send(self) except -1:
        """Pass the session's outgoing records to the transport below."""
        cdef bytes records = self.engine.take()

        if records is None:
            return 0
        if self.stream is not None and not has_attributes(self.stream):
            return self.stream.enqueue(records)
        self._transport.write(records)      # the program may have replaced write()
        return 0

    cdef int pause_if_full(self) except -1:
        if (self.writing_paused or self.backlog_bytes < self.high_bytes
                or self.backlog_bytes == 0):
            return 0
        self.writing_paused = True
        try:
            self._app_protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("protocol.pause_writing() failed", exc)
        return 0

    cdef int resume_if_drained(self) except -1:
        if not self.writing_paused or self.backlog_bytes > self.low_bytes:
            return 0
        self.writing_paused = False
        try:
            self._app_protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            self.go_on_later()
            raise
        except BaseException as exc:
            self.report("protocol.resume_writing() failed", exc)
        return 0

    # -- the state -----------------------------------------------------------------------------

    cdef int enter(self, State state) except -1:
        assert may_follow(self.state, state), f"TLS session: state {state} after {self.state}"
        self.state = state
        return 0

    cdef int check(self) except -1:
        """Assert the invariants that are true between two events (in a debug build)."""
        assert self.state == UNCONNECTED or self.state >= CLOSING or self._transport is not None
        assert self.state != LOST or (self._app_protocol is None and self._app_transport is None
                                      and self.timeout is None and self.waiter is None)
        assert self.state < FLUSHING or self._app_transport is None or self._app_transport._closed
        assert self.told != NOTHING or self.state <= HANDSHAKE or self.state >= CLOSING
        assert (self.backlog_bytes == 0) == (not self.backlog)
        assert self.backlog_bytes or self.first_encrypted == 0
        return 0

    cdef bint closes(self) except -1:
        """Return whether no more data can be sent, because either side has ended the session."""
        if self.state >= FLUSHING or (self.incoming == EXHAUSTED and not sends_after_eof):
            return True
        if self.stream is not None:
            return self.stream.closes()
        return self._transport is not None and self._transport.is_closing()

    # -- the handshake ----------------------------------------------------------------------

    def connection_made(self, transport):
        if self.state == LOST:          # start_tls() of a transport that was closing
            return
        self._transport = transport
        self.callback_context = getattr(transport, "_context", None)
        if self.callback_context is None:
            self.callback_context = PyContext_CopyCurrent()
        if type(transport) is StreamTransport:
            self.stream = transport
        if self.state == CLOSING:       # close() or abort() came before this call
            self.abort(None)
            return
        self.timeout = self.reactor.call_later(self.handshake_timeout_s, self._handshake_timed_out)
        if transport.is_closing():      # there is no handshake, but connection_lost() follows
            self.enter(CLOSING)
            return
        self.enter(HANDSHAKE)
        if self.reactor.debug:
            logger.debug("%r starts SSL handshake", self)
            self.handshake_began = self.reactor.time()
        try:
            self.shake_hands()          # start_tls() may have fed data that was read earlier
            if self.stream is not None and self.stream.ended():
                self.eof_received()     # the stream does not report it a second time
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:    # start_tls() after write_eof()
            self.handshake_failed(exc)
        finally:
            self.engine.settle()
        self.check()

    cdef int shake_hands(self) except -1:
        try:
            self.engine.ssl_object.do_handshake()
        except AGAIN:
            return self.send()
        except ssl.SSLError as exc:
            self.send()                 # the alert that tells the peer why
            if self.stream is not None and not self.stream.blocked():
                self.stream.flush()
            return self.handshake_failed(exc)
        self.handshake_done()
        return 0

    cdef int handshake_failed(self, exc) except -1:
        self.cancel_timeout()
        self.fatal(exc, "SSL handshake failed on verifying the certificate"
                   if isinstance(exc, ssl.CertificateError) else "SSL handshake failed")
        return self.wake_waiter(exc)

    cdef int handshake_done(self) except -1:
        self.cancel_timeout()
        self.enter(OPEN)
        self.extra = {}
        self.send()                     # before connection_made(), which may write
        if self.handshake_began is not None:
            took_s = self.reactor.time() - self.handshake_began
            logger.debug("%r: SSL handshake took %.1f ms", self, took_s * 1e3)
        if self.told == NOTHING:
            self.told = CONNECTION_MADE
            try:
                self._app_protocol.connection_made(self._app_transport)
            except (SystemExit, KeyboardInterrupt):
                self.wake_waiter(None)  # connection_made() was called
                self.go_on_later()
                raise
        self.wake_waiter(None)
        if self.state == OPEN:
            self.encrypt(False)
            self.resume_if_drained()
            return self.read()
        return 0

    def _handshake_timed_out(self):
        exc = ConnectionAbortedError(
            f"SSL handshake is taking longer than {self.handshake_timeout_s} seconds: "
            f"aborting the connection")
        self.fatal(exc, "Fatal error on transport")
        self.wake_waiter(exc)           # unless connection_lost() was called and has done it

    cdef int wake_waiter(self, exc) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            if exc is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(exc)
        return 0

    cdef int cancel_timeout(self) except -1:
        timeout, self.timeout = self.timeout, None
        if timeout is not None:
            timeout.cancel()
        return 0

    # -- the end ------------------------------------------------------------------------------

    cdef int close_notify_received(self) except -1:
        self.tell_eof()
        return self.start_shutdown()

    cdef int tell_eof(self) except -1:
        cdef object context = self.callback_context
        cdef bint entered

        if self.told != CONNECTION_MADE or self._app_protocol is None:
            return 0
        self.told = EOF_RECEIVED
        entered = enter_context(context)      # the application's close() leads here too
        try:
            if self._app_protocol.eof_received():
                logger.warning("returning true from eof_received() has no effect when using ssl")
        except (SystemExit, KeyboardInterrupt):
            self.go_on_later()
            raise
        except BaseException as exc:
            self.fatal(exc, "Error calling eof_received()")
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int start_shutdown(self) except -1:
        """Send all written data and close_notify. The transport below closes after them."""
        self.mark_closed()
        if self.state >= FLUSHING:
            return 0
        if self.state != OPEN:
            return self.abort(None)
        self.enter(FLUSHING)
        self.timeout = self.reactor.call_later(self.shutdown_timeout_s, self._shutdown_timed_out)
        return self.flush()

    cdef int flush(self) except -1:
        """Encrypt the whole backlog, even if the transport below is full: write() accepted it."""
        try:
            if not self.reading_paused:
                self.discard_unread()
                self.watch_unread()
            self.encrypt(True)
            if self.backlog_bytes:      # a renegotiation comes first
                return 0
            if self.state == FLUSHING:      # connection_lost() may have been called meanwhile
                self.enter(SHUTDOWN)
                self.shut_down()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal(exc, "Fatal error on SSL protocol")
        return 0

    cdef int discard_unread(self) except -1:
        """Decrypt unread data and drop it: the session must process it, but close() was called."""
        cdef Reactor reactor = self.reactor
        cdef bytes plain

        if self.engine.unread() == 0 or self.state >= CLOSING:
            return 0
        plain = borrow(&reactor.buffers.decrypted)
        try:
            while self.engine.read(PyBytes_AS_STRING(plain), READ_SIZE) > 0:
                pass
        finally:
            give_back(&reactor.buffers.decrypted, plain)
        return 0

    cdef int shut_down(self) except -1:
        if self.incoming == EXHAUSTED:  # the peer cannot answer any more
            self.send()
            self.tell_eof()
            return self.finish()
        try:
            self.engine.ssl_object.unwrap()
        except AGAIN:
            return self.send()          # the peer's close_notify is still to come
        except ssl.SSLError as exc:
            # Records are unread, or the peer has sent more records.
            return self.fatal(exc, "Fatal error on transport")
        self.send()
        self.tell_eof()
        return self.finish()

    cdef int finish(self) except -1:
        """Close the transport below after the end of the session.

        The timeout stays active: a peer that does not read would delay that close for ever.
        """
        if self.state < CLOSING:
            self.enter(CLOSING)
            self.reactor.call_soon(self._transport.close)
        return 0

    def _shutdown_timed_out(self):
        self.abort(exceptions.TimeoutError("SSL shutdown timed out"))

    cdef int mark_closed(self) except -1:
        if self._app_transport is not None:
            self._app_transport._closed = True
        return 0

    cdef int abort(self, exc) except -1:
        """End at once. The transport below then calls connection_lost()."""
        self.mark_closed()
        self.cancel_timeout()
        # HANDSHAKE stays: connection_lost() must see it to fail the waiter.
        if self.state != HANDSHAKE and self.state < CLOSING:
            self.enter(CLOSING)
        if self._transport is None:
            return 0
        if exc is None or not hasattr(self._transport, "_force_close"):
            self._transport.abort()
        else:
            self._transport._force_close(exc)
        return 0

    cdef int fatal(self, exc, str message) except -1:
        self.abort(exc)
        if not isinstance(exc, OSError):
            if not isinstance(exc, exceptions.CancelledError):
                self.report(message, exc)
        elif self.reactor.debug:
            logger.debug("%r: %s", self, message, exc_info=exc)
        return 0

    cdef int report(self, str message, exc) except -1:
        return self.reactor.report({
            "message": message,
            "exception": exc,
            "transport": self._app_transport,
            "protocol": self,
        })

    # -- the protocol of the transport below ------------------------------------------------

    def data_received(self, data):
        cdef Py_buffer view

        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.bytes_received(<const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def eof_received(self):
        """Handle the end of the stream below. Return true while the application has paused before
        unread data."""
        self.incoming = EXHAUSTED
        if self.reactor.debug:
            logger.debug("%r received EOF", self)
        if self.state == HANDSHAKE:
            self.handshake_failed(ConnectionResetError())
        elif self.state == OPEN:
            return self.eof_reached()
        elif self.state == FLUSHING or self.state == SHUTDOWN:
            self.encrypt(True)
            self.shut_down()
        return False

    cdef bint eof_reached(self) except -1:
        """Deliver unread data and then the end of file. Return true if the application has paused
        before that."""
        self.read()                     # resume_reading() may have scheduled it, but not run yet
        if self.state == OPEN:
            if self.reading_paused:
                return True
            self.tell_eof()
            self.start_shutdown()
        return False

    def pause_writing(self):
        self.below_full = True

    def resume_writing(self):
        self.below_full = False
        if self.state == OPEN:
            try:
                self.encrypt(False)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.fatal(exc, "Fatal error on SSL protocol")
                return
            self.resume_if_drained()

    def connection_lost(self, exc):
        if self.state == LOST:          # a foreign transport may call it twice
            return
        self.mark_closed()
        self.cancel_timeout()
        self.backlog = None
        self.backlog_bytes = self.first_encrypted = 0
        failure = exc
        if exc is None and self.state == HANDSHAKE:
            failure = ConnectionAbortedError("the connection was closed during the TLS handshake")
        self.enter(LOST)
        self.wake_waiter(failure)
        protocol = self._app_protocol
        self._app_protocol = self.app_data_received = self._app_transport = None
        self.check()
        if self.told == CONNECTION_MADE or self.told == EOF_RECEIVED:
            self.told = CONNECTION_LOST
            protocol.connection_lost(exc)

    cdef int set_write_limits(self, high, low) except -1:
        cdef tuple limits = water_marks(high, low, DEFAULT_HIGH_BYTES)
        cdef Py_ssize_t low_bytes = whole_bytes(limits[0]), high_bytes = reached_bytes(limits[1])
        self.write_limits = limits
        self.low_bytes = low_bytes
        self.high_bytes = high_bytes
        return 0

    cdef int set_read_limits(self, high, low) except -1:
        cdef tuple limits = water_marks(high, low, DEFAULT_READ_HIGH_BYTES)
        cdef Py_ssize_t low_bytes = whole_bytes(limits[0]), high_bytes = reached_bytes(limits[1])
        self.read_limits = limits
        self.read_low = low_bytes
        self.read_high = high_bytes
        return 0

    # -- for TlsTransport -----------------------------------------------------------------------

    cdef int take_protocol(self, protocol) except -1:
        self._app_protocol = protocol
        self.app_buffered = isinstance(protocol, BufferedProtocol)
        self.app_data_received = None       # bound at the first read
        return 0

    def _read_before(self, data):
        """Feed ciphertext that was read from the transport below before TLS began."""
        cdef bytes early = bytes(data)
        self.engine.feed(PyBytes_AS_STRING(early), PyBytes_GET_SIZE(early))
        self.engine.settle()

    def _below_is_full(self, bint app_knows):
        """Remember that the transport below called pause_writing() on its previous protocol.

        *app_knows*: that was the application's protocol, which must get resume_writing() later.
        """
        self.below_full = True
        self.writing_paused = app_knows

    def _resume(self):
        cdef object context = self.callback_context
        cdef bint entered = context is not None and enter_context(context)

        try:
            self.go_on()
            if self.incoming == EXHAUSTED and self.state == OPEN:
                self.eof_reached()
        finally:
            self.engine.settle()
            if entered:
                leave_context(context)

    def _get_extra_info(self, name, default):
        if name == "sslcontext":
            return self.context
        if self.state > HANDSHAKE and self.extra is not None:
            if name == "ssl_object":
                return self.engine.ssl_object
            if name in ("peercert", "cipher", "compression"):
                if name not in self.extra:
                    ask = "getpeercert" if name == "peercert" else name
                    self.extra[name] = getattr(self.engine.ssl_object, ask)()
                return self.extra[name]
        if self._transport is not None:
            return self._transport.get_extra_info(name, default)
        return default

    @property
    def _app_reading_paused(self):
        return self.reading_paused

    @property
    def _loop(self):
        return self.reactor

    @property
    def _sslcontext(self):
        return self.context

    @property
    def _sslobj(self):
        return self.engine.ssl_object

    @property
    def __class__(self):
        return Protocol


cdef class TlsTransport:

    def __cinit__(self):
        drop_attributes(self)

    def __setattr__(self, str name, value):
        set_attribute(self, name, value)

    _start_tls_compatible = nests
    _sendfile_compatible = stdlib.SendfileMode.FALLBACK

    def write(self, data):
        """Encrypt *data* and send it after all earlier data. Never blocks."""
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(
                    f"data: expecting a bytes-like instance, got {type(data).__name__}")
            data = bytes(data)          # the caller may change or resize it (R50)
        if data:
            self._ssl_protocol.write(data)

    def writelines(self, list_of_data):
        """Write all the chunks by one write()."""
        self.write(b"".join(list_of_data))

    def write_eof(self):
        """Raise NotImplementedError: TLS cannot close one direction alone."""
        raise NotImplementedError("TLS connections cannot be half-closed")

    def can_write_eof(self):
        return False

    def close(self):
        """Stop receiving, and close when all written data is sent."""
        self._ssl_protocol.start_shutdown()

    def abort(self):
        """Close at once, without a close_notify."""
        self._force_close(None)

    def _force_close(self, exc):
        cdef TlsProtocol protocol = self._ssl_protocol
        self._closed = True
        if protocol._app_transport is self:         # else connection_lost() was called
            protocol.abort(exc)

    def is_closing(self):
        """Return whether no more data can be sent: after close() or abort(), and when the
        transport below closes or has lost its connection."""
        return self._closed or self._ssl_protocol.closes()

    def is_reading(self):
        return not (self._closed or self._ssl_protocol.reading_paused)

    def pause_reading(self):
        if not self._closed:
            self._ssl_protocol.reading_paused = True

    def resume_reading(self):
        cdef TlsProtocol protocol = self._ssl_protocol
        if not self._closed and protocol.reading_paused:
            protocol.reading_paused = False
            protocol.reactor.post(protocol._resume, (), None)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes of plaintext: pause_writing() from *high* upwards,
        resume_writing() down to *low*.

        Data in the transport below is not counted. Raises ValueError unless high >= low >= 0.
        """
        cdef TlsProtocol protocol = self._ssl_protocol
        protocol.set_write_limits(high, low)
        if protocol._app_protocol is not None:
            protocol.pause_if_full()
            protocol.resume_if_drained()

    def get_write_buffer_limits(self):
        return self._ssl_protocol.write_limits

    def get_write_buffer_size(self):
        """Return the number of written bytes that are not encrypted yet."""
        return self._ssl_protocol.backlog_bytes

    def set_read_buffer_limits(self, high=None, low=None):
        """Set the marks in bytes of ciphertext that is read while the application has paused.

        Raises ValueError unless high >= low >= 0.
        """
        cdef TlsProtocol protocol = self._ssl_protocol
        protocol.set_read_limits(high, low)
        if protocol.state == OPEN:
            protocol.watch_unread()

    def get_read_buffer_limits(self):
        return self._ssl_protocol.read_limits

    def get_read_buffer_size(self):
        """Return the number of bytes of ciphertext that were read and are not decrypted yet."""
        return self._ssl_protocol.engine.unread()

    def set_protocol(self, protocol):
        self._ssl_protocol.take_protocol(protocol)

    def __reduce_ex__(self, protocol):      # object.__reduce_ex__() would use __class__
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} objects")

    def get_protocol(self):
        return self._ssl_protocol._app_protocol

    def get_extra_info(self, name, default=None):
        """Return extra info: 'sslcontext'; after the handshake 'ssl_object', 'peercert', 'cipher'
        and 'compression' of the session; in all other cases info of the transport below."""
        return self._ssl_protocol._get_extra_info(name, default)

    @property
    def _loop(self):
        return self._ssl_protocol.reactor

    @property
    def _context(self):
        return self._ssl_protocol.callback_context

    @property
    def _protocol_paused(self):
        return self._ssl_protocol.writing_paused

    @property
    def _high_water(self):
        return self._ssl_protocol.write_limits[1]

    @property
    def _low_water(self):
        return self._ssl_protocol.write_limits[0]

    def __repr__(self):
        info = [type(self).__name__]
        if self._closed:
            info.append("closing" if self._ssl_protocol._app_protocol is not None else "closed")
        return f"<{' '.join(info)} over {self._ssl_protocol._transport!r}>"

    def __del__(self):
        if not self._closed:
            self._closed = True         # the transport below closes its descriptor by itself
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            except BaseException as exc:
                write_unraisable(exc, self)

    @property
    def __class__(self):
        return stdlib.SSLProtocolTransport


def make_tls(Reactor loop, protocol, context, waiter, bint server_side, server_hostname,
             bint call_connection_made=True, *, ssl_handshake_timeout=None,
             ssl_shutdown_timeout=None):
    """Return the protocol for a transport that will carry TLS.

    Its `_app_transport` is the transport for *protocol*. *waiter*, if not None, is a future that is
    set when the handshake is done, or to the error that ended the handshake. Timeouts are in
    seconds; None is asyncio's default. Raises ValueError for a timeout that is not positive, and
    any error of the context.
    """
    cdef TlsProtocol self = TlsProtocol.__new__(TlsProtocol)
    cdef TlsTransport transport

    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    self.handshake_timeout_s = positive(
        "ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT)
    self.shutdown_timeout_s = positive(
        "ssl_shutdown_timeout", ssl_shutdown_timeout, SHUTDOWN_TIMEOUT_S)
    self.context = context or stdlib.create_transport_context(server_side, server_hostname)
    self.engine = new_engine(self.context, server_side,
                             None if server_side else server_hostname or None)
    self.reactor = loop
    self.waiter = waiter
    self.told = NOTHING if call_connection_made else CONNECTION_MADE
    self.set_read_limits(None, None)
    self.set_write_limits(None, None)
    self.take_protocol(protocol)
    transport = TlsTransport.__new__(TlsTransport)
    transport._ssl_protocol = self
    self._app_transport = transport
    return self


seal(TlsProtocol)
seal(TlsTransport)
