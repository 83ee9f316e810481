"""TLS between a stream transport and a protocol: asyncio's sslproto, natively.

TlsProtocol is the protocol of the transport below and drives the session; TlsTransport is the
transport that the application sees. A StreamTransport passes received data in the loop's buffer,
without a copy, and takes records as chunks of its own write buffer. Any other transport (TLS in
TLS, or a class of the program) is used through asyncio's interfaces.

The modules, each of which uses only the ones before it:

    tls_engine      the record layer
    tls_states      the states, and the tables of their steps
    tls_session     TlsSession: the state of one session, and its end by force
    tls_writing     plaintext -> records
    tls_reading     records -> plaintext
    tls_closing     close_notify, from either side
    tls_handshake
    tls_transport   TlsTransport
    tls             TlsProtocol: the events of the transport below; make_tls()
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.sealed cimport seal
from mioloop.transports.tls_closing cimport flush, read, read_to_end, shut_down
from mioloop.transports.tls_engine cimport new_engine
from mioloop.transports.tls_handshake cimport handshake_failed, prepare_handshake, shake_hands
from mioloop.transports.tls_reading cimport set_read_limits
from mioloop.transports.tls_session cimport TlsSession
from mioloop.transports.tls_states cimport *
from mioloop.transports.tls_transport cimport new_tls_transport
from mioloop.transports.tls_writing cimport (
    encrypt, encrypt_all, resume_if_drained, set_write_limits)

from asyncio import constants
from asyncio.log import logger

from mioloop import stdlib

try:
    import ssl
except ImportError:                     # a Python without OpenSSL
    ssl = None

cdef object SHUTDOWN_TIMEOUT_S = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)


cdef class TlsProtocol(TlsSession):

    # -- hot path: ciphertext -> the step of the state ------------------------------------------

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
            return read(self)
        if self.state == HANDSHAKE:
            return shake_hands(self)
        if self.state == FLUSHING:
            return flush(self)
        if self.state == SHUTDOWN:
            return shut_down(self)
        return 0

    cdef int resume(self) except -1:
        self.go_on()
        if self.incoming == EXHAUSTED and self.state == OPEN:
            read_to_end(self)
        return 0

    # -- the protocol of the transport below ----------------------------------------------------

    def connection_made(self, transport):
        if self.state == LOST:          # start_tls() of a transport that was closing
            return
        if not prepare_handshake(self, transport):
            return
        try:
            shake_hands(self)           # start_tls() may have fed data that was read earlier
            if self.stream is not None and self.stream.ended():
                self.eof_received()     # the stream does not report it a second time
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:    # start_tls() after write_eof()
            handshake_failed(self, exc)
        finally:
            self.engine.settle()
        self.check()

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
        self.set_incoming(EXHAUSTED)
        if self.reactor.debug:
            logger.debug("%r received EOF", self)
        if self.state == HANDSHAKE:
            handshake_failed(self, ConnectionResetError())
        elif self.state == OPEN:
            return read_to_end(self)
        elif self.state == FLUSHING or self.state == SHUTDOWN:
            encrypt_all(self)
            shut_down(self)
        return False

    def pause_writing(self):
        self.set_outgoing(REFUSED)

    def resume_writing(self):
        self.set_outgoing(ACCEPTED)
        if self.state == OPEN:
            try:
                encrypt(self)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.fatal(exc, "Fatal error on SSL protocol")
                return
            resume_if_drained(self)

    def connection_lost(self, exc):
        self.end(exc)

    # -- for start_tls() ------------------------------------------------------------------------

    def _read_before(self, data):
        """Feed ciphertext that was read from the transport below before TLS began."""
        cdef bytes early = bytes(data)
        self.engine.feed(PyBytes_AS_STRING(early), PyBytes_GET_SIZE(early))
        self.engine.settle()

    def _below_is_full(self, bint app_knows):
        """Remember that the transport below called pause_writing() on its previous protocol.

        *app_knows*: that was the application's protocol, which must get resume_writing() later.
        """
        self.set_outgoing(REFUSED)
        self.flow.paused = app_knows


cdef positive(name, value, default):
    if value is None:
        return default
    if not value > 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


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
    self.set_told(NOTHING if call_connection_made else CONNECTION_MADE)
    set_read_limits(self, None, None)
    set_write_limits(self, None, None)
    self.take_protocol(protocol)
    self._app_transport = new_tls_transport(self)
    return self


seal(TlsProtocol)
