from cpython.object cimport PyObject

from mioloop.transports.endpoint cimport Endpoint


cdef class Clients:
    """The transports of one Server, in no order."""
    cdef PyObject **transports          # borrowed: a transport leaves before it is freed
    cdef Py_ssize_t count
    cdef Py_ssize_t room

    cdef int join(self, Endpoint transport) except -1


cdef int leave(PyObject *transport) noexcept
cdef int count_natively(object server) except -1
cdef int attach(object server, Endpoint transport) except -1
cdef int detach(object server, Endpoint transport) except -1
