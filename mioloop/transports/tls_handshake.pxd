from mioloop.transports.tls_session cimport TlsSession

cdef bint prepare_handshake(TlsSession session, transport) except -1
cdef int shake_hands(TlsSession session) except -1
cdef int handshake_failed(TlsSession session, exc) except -1
