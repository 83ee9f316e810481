from mioloop.transports.tls_session cimport TlsSession

cdef int write(TlsSession session, bytes data) except -1
cdef int encrypt(TlsSession session) except -1
cdef int encrypt_all(TlsSession session) except -1
cdef int send(TlsSession session) except -1
cdef int pause_if_full(TlsSession session) except -1
cdef int resume_if_drained(TlsSession session) except -1
cdef int set_write_limits(TlsSession session, high, low) except -1
cdef Py_ssize_t whole_bytes_above(object mark) except -1
