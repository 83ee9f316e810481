"""Reading through TLS: ciphertext of the transport below, decrypted and given to the application.

While the application has paused, ciphertext is read and kept, up to a mark, so that the end of the
connection is noticed in time.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, give_back
from mioloop.transports.flow_control cimport water_marks, whole_bytes
from mioloop.transports.tls_engine cimport WANT, Engine
from mioloop.transports.tls_session cimport TlsSession
from mioloop.transports.tls_states cimport *
from mioloop.transports.tls_writing cimport encrypt, resume_if_drained, send, whole_bytes_above

from asyncio import constants

cdef Py_ssize_t DEFAULT_READ_HIGH_BYTES = 1024 * getattr(
    constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 256)


# -- hot path: ciphertext -> data_received() ------------------------------------------------------


cdef bint read_records(TlsSession session) except -1:
    """Decrypt and deliver all unread data, until the application pauses.

    Return True if the peer's close_notify was read.
    """
    cdef Py_ssize_t n = READ_SIZE

    try:
        while n > 0 and session.state == OPEN and session.reading == WANTED:
            n = read_into_protocol(session) if session.app_buffered else read_bytes(session)
        if session.state != OPEN or n == 0:
            return n == 0 and session.state == OPEN
        if session.flow.size:               # a renegotiation may have delayed it
            encrypt(session)
            resume_if_drained(session)
        send(session)                       # key updates, alerts
        watch_unread(session)
    except (SystemExit, KeyboardInterrupt):
        session.resume_later()
        raise
    except BaseException as exc:
        session.fatal(exc, "Fatal error on SSL protocol")
    return False


cdef Py_ssize_t read_bytes(TlsSession session) except -2:
    """Call data_received() once.

    Return > 0 if there may be more data, 0 at close_notify, else WANT.
    """
    cdef Reactor reactor = session.reactor
    cdef Engine engine = session.engine
    cdef bytes plain = borrow(&reactor.buffers.decrypted)
    cdef Py_ssize_t n, total = 0
    cdef object failure = None

    try:
        while True:
            n = engine.read(PyBytes_AS_STRING(plain) + total, READ_SIZE - total)
            if n <= 0:
                break
            total += n
            if total == READ_SIZE:
                break
            if engine.unread() == 0:
                n = WANT            # a whole record was read: another read would get nothing
                break
    except Exception as exc:        # data before the error is delivered
        failure = exc
    if total:
        data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(plain), total)
        give_back(&reactor.buffers.decrypted, plain)
        session._app_protocol.data_received(data)
    else:
        give_back(&reactor.buffers.decrypted, plain)
    if failure is not None:
        raise failure
    return n


cdef Py_ssize_t read_into_protocol(TlsSession session) except -2:
    """Call get_buffer() and buffer_updated() once. Return like read_bytes()."""
    cdef Engine engine = session.engine
    cdef Py_buffer view
    cdef Py_ssize_t n, total = 0, capacity

    buffer = session._app_protocol.get_buffer(engine.unread())
    if not len(buffer):
        raise RuntimeError("get_buffer() returned an empty buffer")
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    capacity = view.len
    failure = None
    try:
        while True:
            n = engine.read(<char *>view.buf + total, capacity - total)
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
        session._app_protocol.buffer_updated(total)
    if failure is not None:
        raise failure
    return n


# -- ciphertext that is unread --------------------------------------------------------------------


cdef int watch_unread(TlsSession session) except -1:
    """Pause the transport below at `read_high` unread bytes; resume it down to `read_low`."""
    cdef Py_ssize_t unread = session.engine.unread()

    if session.incoming == FLOWING and unread >= session.read_high and unread > 0:
        session.set_incoming(HELD)
        session._transport.pause_reading()
    elif session.incoming == HELD and unread <= session.read_low:
        session.set_incoming(FLOWING)
        session._transport.resume_reading()
    return 0


cdef int set_read_limits(TlsSession session, high, low) except -1:
    cdef tuple limits = water_marks(high, low, DEFAULT_READ_HIGH_BYTES)
    cdef Py_ssize_t low_bytes = whole_bytes(limits[0])
    cdef Py_ssize_t high_bytes = whole_bytes_above(limits[1])

    session.read_limits = limits
    session.read_low = low_bytes
    session.read_high = high_bytes
    return 0


cdef int discard_unread(TlsSession session) except -1:
    """Decrypt unread data and drop it: the session must process it, but close() was called."""
    cdef Reactor reactor = session.reactor
    cdef bytes plain

    if session.engine.unread() == 0 or session.state >= CLOSING:
        return 0
    plain = borrow(&reactor.buffers.decrypted)
    try:
        while session.engine.read(PyBytes_AS_STRING(plain), READ_SIZE) > 0:
            pass
    finally:
        give_back(&reactor.buffers.decrypted, plain)
    return 0
