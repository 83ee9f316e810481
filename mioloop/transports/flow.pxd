from mioloop.reactor.reactor cimport Reactor, Source


cdef class WriteFlow(Source):
    """A source with a write buffer that tells its protocol when to pause."""
    cdef readonly object _protocol
    cdef readonly bint _protocol_paused
    cdef Reactor reactor
    cdef Py_ssize_t buffered_bytes          # written, not yet taken by the system
    cdef Py_ssize_t high_bytes
    cdef Py_ssize_t low_bytes

    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int report_flow(self, str message, exc) except -1
