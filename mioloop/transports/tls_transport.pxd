from mioloop.transports.tls_session cimport TlsSession


cdef class TlsTransport:
    """The transport that the application sees."""
    cdef readonly TlsSession _ssl_protocol
    cdef object __weakref__
    cdef dict __dict__                      # attributes set by the program; created with the first


cdef TlsTransport new_tls_transport(TlsSession session)
