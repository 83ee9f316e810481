from cpython.object cimport PyObject

from mioloop.transports.base cimport BaseTransport


cdef class ServerConnections:
    """The transports of one Server, in no order."""
    cdef PyObject **transports          # borrowed: a transport leaves before it is freed
    cdef Py_ssize_t count
    cdef Py_ssize_t room

    cdef int join(self, BaseTransport transport) except -1


cdef int leave(PyObject *transport) noexcept
cdef int count_natively(object server) except -1
cdef int attach(object server, BaseTransport transport) except -1
cdef int detach(object server, BaseTransport transport) except -1
