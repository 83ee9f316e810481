"""The TLS handshake: from connection_made() of the transport below to connection_made() above."""

from mioloop.reactor.python_api cimport copy_of_current_context
from mioloop.transports.stream cimport StreamTransport
from mioloop.transports.tls_closing cimport read
from mioloop.transports.tls_session cimport TlsSession
from mioloop.transports.tls_states cimport *
from mioloop.transports.tls_writing cimport encrypt, resume_if_drained, send

from asyncio.log import logger

try:
    import ssl
except ImportError:                     # a Python without OpenSSL: there are no sessions
    ssl = None
else:
    WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError)


cdef bint prepare_handshake(TlsSession session, transport) except -1:
    """Take the transport below. Return False if either side has already ended the connection."""
    session._transport = transport
    session.callback_context = getattr(transport, "_context", None)
    if session.callback_context is None:
        session.callback_context = copy_of_current_context()
    if type(transport) is StreamTransport:
        session.stream = transport
    if session.state == CLOSING:        # close() or abort() came before this call
        session.abort(None)
        return False
    session.timeout = session.reactor.call_after(
        session.handshake_timeout_s, session._handshake_timed_out)
    if transport.is_closing():          # connection_lost() follows
        session.enter(CLOSING)
        return False
    session.enter(HANDSHAKE)
    if session.reactor.debug:
        logger.debug("%r starts SSL handshake", session)
        session.handshake_began = session.reactor.loop_time()
    return True


cdef int shake_hands(TlsSession session) except -1:
    try:
        session.engine.ssl_object.do_handshake()
    except WANTS_MORE:
        return send(session)
    except ssl.SSLError as exc:
        send(session)                   # the alert that tells the peer why
        if session.stream is not None and not session.stream.blocked():
            session.stream.flush()
        return handshake_failed(session, exc)
    if session.state != HANDSHAKE:      # a callback of the context has aborted it
        return 0
    return handshake_done(session)


cdef int handshake_failed(TlsSession session, exc) except -1:
    session.cancel_timeout()
    session.fatal(exc, "SSL handshake failed on verifying the certificate"
                  if isinstance(exc, ssl.CertificateError) else "SSL handshake failed")
    return session.wake_waiter(exc)


cdef int handshake_done(TlsSession session) except -1:
    session.cancel_timeout()
    session.enter(OPEN)
    session.extra = {}
    send(session)                       # before connection_made(), which may write
    if session.handshake_began is not None:
        took_s = session.reactor.loop_time() - session.handshake_began
        logger.debug("%r: SSL handshake took %.1f ms", session, took_s * 1e3)
    if session.told == NOTHING:
        session.set_told(CONNECTION_MADE)
        try:
            session._app_protocol.connection_made(session._app_transport)
        except (SystemExit, KeyboardInterrupt):
            session.wake_waiter(None)   # connection_made() was called
            session.resume_later()
            raise
    session.wake_waiter(None)
    if session.state == OPEN:
        encrypt(session)
        resume_if_drained(session)
        return read(session)
    return 0
