"""TlsSession: the state of one TLS session, and its end by force.

A loss is never hidden: once the transport below closes, for any reason, closes() is true, so that
StreamWriter.drain() lets the loop run, and connection_lost() is called.
"""

from mioloop.reactor.sealed cimport seal
from mioloop.transports.attributes cimport drop_attributes, set_attribute
from mioloop.transports.protocol_calls cimport enter_context, leave_context

from asyncio import constants, exceptions, protocols
from asyncio.log import logger

# The sslproto of 3.10 still sends data that is written in eof_received().
sends_after_eof = not hasattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ")
cdef object BufferedProtocol = protocols.BufferedProtocol


class Protocol(protocols.Protocol):
    """The class that isinstance() sees in place of TlsProtocol: not a BufferedProtocol."""

    __slots__ = ()


cdef class TlsSession(StreamFilter):

    def __cinit__(self):
        drop_attributes(self)

    def __setattr__(self, str name, value):
        """Refuse a name of the class: native code uses it, so that replacing has no effect."""
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} of {type(self).__name__!r} objects cannot be set")
        set_attribute(self, name, value)

    # -- the states: the only places that change them -------------------------------------------

    cdef int enter(self, State state) except -1:
        assert may_follow(STATES, self.state, state), f"TLS session: {state} after {self.state}"
        self.state = state
        return 0

    cdef int set_incoming(self, Incoming incoming) except -1:
        assert may_follow(INCOMING, self.incoming, incoming), f"{incoming} after {self.incoming}"
        self.incoming = incoming
        return 0

    cdef int set_outgoing(self, Outgoing outgoing) except -1:
        assert may_follow(OUTGOING, self.outgoing, outgoing), f"{outgoing} after {self.outgoing}"
        self.outgoing = outgoing
        return 0

    cdef int set_reading(self, Reading reading) except -1:
        assert may_follow(READING, self.reading, reading), f"{reading} after {self.reading}"
        self.reading = reading
        return 0

    cdef int set_told(self, Told told) except -1:
        assert may_follow(TOLD, self.told, told), f"{told} after {self.told}"
        self.told = told
        return 0

    cdef int check(self) except -1:
        """Assert the invariants that are true between two events (in a debug build)."""
        assert self.state == UNCONNECTED or self.state >= CLOSING or self._transport is not None
        assert self.state != LOST or (self._app_protocol is None and self._app_transport is None
                                      and self.timeout is None and self.waiter is None)
        assert self.told != NOTHING or self.state <= HANDSHAKE or self.state >= CLOSING
        assert self.told != CONNECTION_LOST or self.state == LOST
        assert (self.flow.size == 0) == (self.backlog is None or len(self.backlog) == 0)
        assert self.flow.size == 0 or self.state != LOST
        return 0

    cdef bint closed(self) noexcept:
        """Return whether the application or an error has ended the session."""
        return self.state >= FLUSHING

    cdef bint closes(self) except -1:
        """Return whether no more data can be sent, because either side has ended the session."""
        if self.closed() or (self.incoming == EXHAUSTED and not sends_after_eof):
            return True
        if self.stream is not None:
            return self.stream.closes()
        return self._transport is not None and self._transport.is_closing()

    # -- the application ------------------------------------------------------------------------

    cdef int take_protocol(self, protocol) except -1:
        self._app_protocol = protocol
        self.app_buffered = isinstance(protocol, BufferedProtocol)
        return 0

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

    # -- going on later -------------------------------------------------------------------------

    cdef int resume(self) except -1:
        """Take the session's next step. TlsProtocol knows them all."""
        return 0

    cdef int resume_later(self) except -1:
        """Schedule resume(): after resume_reading(), or because an interrupt is leaving the loop.

        The readiness that was consumed before an interrupt will not be reported again.
        """
        self.reactor.post(self._resume, (), None)
        return 0

    def _resume(self):
        cdef object context = self.callback_context
        cdef bint entered = context is not None and enter_context(context)

        try:
            self.resume()
        finally:
            self.engine.settle()
            if entered:
                leave_context(context)

    # -- the end by force -----------------------------------------------------------------------

    cdef int abort(self, exc) except -1:
        """End at once. The transport below then calls connection_lost()."""
        self.cancel_timeout()
        if self.state == HANDSHAKE:
            self.enter(FAILED)
        elif self.state < CLOSING:
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

    def _handshake_timed_out(self):
        exc = ConnectionAbortedError(
            f"SSL handshake is taking longer than {self.handshake_timeout_s} seconds: "
            f"aborting the connection")
        self.fatal(exc, "Fatal error on transport")
        self.wake_waiter(exc)           # unless connection_lost() was called and has done it

    def _shutdown_timed_out(self):
        self.abort(exceptions.TimeoutError("SSL shutdown timed out"))

    cdef int end(self, exc) except -1:
        """Handle the loss of the transport below."""
        if self.state == LOST:          # a foreign transport may call connection_lost() twice
            return 0
        self.cancel_timeout()
        if self.backlog is not None:
            self.backlog.clear()
        self.flow.size = 0
        failure = exc
        if exc is None and (self.state == HANDSHAKE or self.state == FAILED):
            failure = ConnectionAbortedError("the connection was closed during the TLS handshake")
        self.enter(LOST)
        self.wake_waiter(failure)
        protocol = self._app_protocol
        self._app_protocol = self._app_transport = None
        self.check()
        if self.told == CONNECTION_MADE or self.told == EOF_RECEIVED:
            self.set_told(CONNECTION_LOST)
            protocol.connection_lost(exc)
        return 0

    # -- attributes of asyncio's SSLProtocol ------------------------------------------------------

    def _get_extra_info(self, name, default):
        if name == "sslcontext":
            return self.context
        if self.extra is not None:      # after the handshake
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
        return self.reading == PAUSED

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


seal(TlsSession)
