"""The orderly end of a TLS session.

close() sends close_notify, waits for the peer's close_notify until a timeout, and delivers no data
that arrives meanwhile (R68). If records of the peer are unread at close(), or arrive after it, the
connection ends at once with OpenSSL's error as the argument of connection_lost().
"""

from mioloop.transports.protocol_calls cimport enter_context, leave_context
from mioloop.transports.tls_reading cimport discard_unread, read_records, watch_unread
from mioloop.transports.tls_session cimport TlsSession
from mioloop.transports.tls_states cimport *
from mioloop.transports.tls_writing cimport encrypt_all, send

from asyncio.log import logger

try:
    import ssl
except ImportError:                     # a Python without OpenSSL: there are no sessions
    ssl = None
else:
    WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError)


# -- the peer ends the session --------------------------------------------------------------------


cdef int read(TlsSession session) except -1:
    """Deliver all unread data. The peer's close_notify after it ends the session."""
    if read_records(session):
        try:
            tell_eof(session)
            start_shutdown(session)
        except (SystemExit, KeyboardInterrupt):
            session.resume_later()
            raise
        except BaseException as exc:
            session.fatal(exc, "Fatal error on SSL protocol")
    return 0


cdef bint read_to_end(TlsSession session) except -1:
    """Deliver unread data and then the end of file, in the state OPEN.

    Return True if the application has paused before that.
    """
    read(session)                       # resume_reading() may have scheduled it, but not run yet
    if session.state == OPEN:
        if session.reading == PAUSED:
            return True
        tell_eof(session)
        start_shutdown(session)
    return False


cdef int tell_eof(TlsSession session) except -1:
    cdef object context = session.callback_context
    cdef bint entered

    if session.told != CONNECTION_MADE or session._app_protocol is None:
        return 0
    session.set_told(EOF_RECEIVED)
    entered = enter_context(context)      # the application's close() leads here too
    try:
        if session._app_protocol.eof_received():
            logger.warning("returning true from eof_received() has no effect when using ssl")
    except (SystemExit, KeyboardInterrupt):
        session.resume_later()
        raise
    except BaseException as exc:
        session.fatal(exc, "Error calling eof_received()")
    finally:
        if entered:
            leave_context(context)
    return 0


# -- this side ends the session -------------------------------------------------------------------


cdef int start_shutdown(TlsSession session) except -1:
    """Send all written data and close_notify. The transport below closes after them."""
    if session.closed():
        return 0
    if session.state != OPEN:
        return session.abort(None)
    session.enter(FLUSHING)
    session.timeout = session.reactor.call_after(
        session.shutdown_timeout_s, session._shutdown_timed_out)
    return flush(session)


cdef int flush(TlsSession session) except -1:
    """Encrypt the whole backlog, even if the transport below is full: write() accepted it."""
    try:
        if session.reading == WANTED:
            discard_unread(session)
            watch_unread(session)
        encrypt_all(session)
        if session.flow.size:           # a renegotiation comes first
            return 0
        if session.state == FLUSHING:   # connection_lost() may have been called meanwhile
            session.enter(SHUTDOWN)
            shut_down(session)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        session.fatal(exc, "Fatal error on SSL protocol")
    return 0


cdef int shut_down(TlsSession session) except -1:
    """Send close_notify, and look for the peer's."""
    if session.incoming != EXHAUSTED:   # else the peer cannot answer any more
        try:
            session.engine.ssl_object.unwrap()
        except WANTS_MORE:
            return send(session)        # the peer's close_notify is still to come
        except ssl.SSLError as exc:
            # Records are unread, or the peer has sent more records.
            return session.fatal(exc, "Fatal error on transport")
    send(session)
    tell_eof(session)
    return finish(session)


cdef int finish(TlsSession session) except -1:
    """Close the transport below after the end of the session.

    The timeout stays active: a peer that does not read would delay that close for ever.
    """
    if session.state < CLOSING:
        session.enter(CLOSING)
        session.reactor.post(session._transport.close, (), None)
    return 0
