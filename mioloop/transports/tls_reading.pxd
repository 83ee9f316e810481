from mioloop.transports.tls_session cimport TlsSession

cdef bint read_records(TlsSession session) except -1
cdef int discard_unread(TlsSession session) except -1
cdef int watch_unread(TlsSession session) except -1
cdef int set_read_limits(TlsSession session, high, low) except -1
