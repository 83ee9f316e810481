from mioloop.transports.tls_session cimport TlsSession

cdef int read(TlsSession session) except -1
cdef bint read_to_end(TlsSession session) except -1
cdef int start_shutdown(TlsSession session) except -1
cdef int flush(TlsSession session) except -1
cdef int shut_down(TlsSession session) except -1
