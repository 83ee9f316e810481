from mioloop.transports.tls_session cimport TlsSession


cdef class TlsProtocol(TlsSession):
    """The TLS session between a transport and an application's protocol."""
    cdef int go_on(self) except -1
