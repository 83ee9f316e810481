"""Writing through TLS: plaintext of the application, encrypted and passed to the transport below.

Written data is encrypted at once while the transport below accepts it. Otherwise it waits here as
plaintext, in the backlog. close() encrypts the whole backlog, even if the transport below is full.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from mioloop.transports.attributes cimport has_attributes
from mioloop.transports.flow_control cimport (
    set_limits, should_pause, should_resume, water_marks, whole_bytes)
from mioloop.transports.tls_engine cimport WANT
from mioloop.transports.tls_session cimport TlsSession, sends_after_eof
from mioloop.transports.tls_states cimport *
from mioloop.transports.write_buffer cimport WriteBuffer, new_write_buffer

import sys
from asyncio import constants
from asyncio.log import logger

cdef enum:
    PIECE_BYTES = 65536                 # encrypted at a time, four records

cdef Py_ssize_t DEFAULT_HIGH_BYTES = 1024 * getattr(
    constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 64)         # before 3.11: a stream's
cdef int WRITES_BEFORE_WARNING = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef Py_ssize_t MOST_BYTES = sys.maxsize


# -- hot path: write() -> records -----------------------------------------------------------------


cdef int write(TlsSession session, bytes data) except -1:
    """Encrypt *data* and send it, or keep it in the backlog. *data* is not empty."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)

    if session.closed() or (session.incoming == EXHAUSTED and not sends_after_eof):
        if session.writes_after_end >= WRITES_BEFORE_WARNING:
            logger.warning("SSL connection is closed")
        session.writes_after_end += 1
        return 0
    if session.stream is not None and session.stream._conn_lost:
        return session.stream.count_lost_write()
    try:
        if (size <= PIECE_BYTES and session.state == OPEN
                and session.outgoing == ACCEPTED and session.flow.size == 0
                and session.engine.write(PyBytes_AS_STRING(data), size) != WANT):
            return send(session)
        keep(session, data)
        if session.state == OPEN:
            encrypt(session)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        return session.fatal(exc, "Fatal error on SSL protocol")
    return pause_if_full(session)


cdef int send(TlsSession session) except -1:
    """Pass the session's outgoing records to the transport below."""
    cdef bytes records = session.engine.take()

    if records is None:
        return 0
    if session.stream is not None and not has_attributes(session.stream):
        return session.stream.enqueue(records)
    session._transport.write(records)       # the program may have replaced write()
    return 0


# -- the backlog ----------------------------------------------------------------------------------


cdef int keep(TlsSession session, bytes data) except -1:
    if session.backlog is None:
        session.backlog = new_write_buffer()
    session.backlog.append(data)
    session.flow.size += PyBytes_GET_SIZE(data)
    return 0


cdef int encrypt(TlsSession session) except -1:
    """Encrypt the backlog until the transport below is full."""
    while session.flow.size and session.outgoing == ACCEPTED:
        if not encrypt_piece(session):
            return 0
    return 0


cdef int encrypt_all(TlsSession session) except -1:
    """Encrypt the whole backlog, unless a renegotiation must come first."""
    while session.flow.size and encrypt_piece(session):
        pass
    return 0


cdef bint encrypt_piece(TlsSession session) except -1:
    """Encrypt and send the first bytes of the backlog. Return False if the peer must send first.

    The backlog is not empty.
    """
    cdef WriteBuffer backlog = session.backlog
    cdef object chunk = <object>backlog.chunks[backlog.first]   # an OpenSSL callback may clear it
    cdef char *data
    cdef Py_ssize_t size = backlog.first_chunk(&data)
    cdef Py_ssize_t n = session.engine.write(data, min(size, PIECE_BYTES))

    if n != WANT and session.flow.size:
        backlog.consume(n)
        session.flow.size -= n
    send(session)
    return n != WANT


# -- pausing the application ----------------------------------------------------------------------


cdef int pause_if_full(TlsSession session) except -1:
    if not should_pause(&session.flow):
        return 0
    session.flow.paused = True
    try:
        session._app_protocol.pause_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        session.report("protocol.pause_writing() failed", exc)
    return 0


cdef int resume_if_drained(TlsSession session) except -1:
    if not should_resume(&session.flow) or session._app_protocol is None:       # None: it is lost
        return 0
    session.flow.paused = False
    try:
        session._app_protocol.resume_writing()
    except (SystemExit, KeyboardInterrupt):
        session.resume_later()
        raise
    except BaseException as exc:
        session.report("protocol.resume_writing() failed", exc)
    return 0


cdef int set_write_limits(TlsSession session, high, low) except -1:
    cdef tuple limits = water_marks(high, low, DEFAULT_HIGH_BYTES)
    cdef Py_ssize_t low_bytes = whole_bytes(limits[0])
    cdef Py_ssize_t high_bytes = whole_bytes_above(limits[1])

    session.write_limits = limits
    # TLS pauses at the high mark, as asyncio does; other transports pause above it.
    set_limits(&session.flow, low_bytes, max(high_bytes - 1, 0))
    return 0


cdef Py_ssize_t whole_bytes_above(object mark) except -1:
    """Return *mark* rounded up to whole bytes, at most sys.maxsize."""
    cdef Py_ssize_t below = whole_bytes(mark)
    return below if below >= mark or below == MOST_BYTES else below + 1
