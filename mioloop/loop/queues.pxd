from cpython.object cimport PyObject

from mioloop.reactor.handle cimport Handle
from mioloop.reactor.reactor cimport Reactor


cdef class ReadyView:
    cdef Reactor reactor

    cdef object change(self, method, tuple args)
    cdef int rotate_storage(self) except -1


# loop._ready of the loop *reactor*
cdef object ready_view(Reactor reactor)
# A queued handle as the program knows it: a foreign handle without its native wrapper
cdef object shown(PyObject *handle)
# *handle* itself, or a native handle that runs it. Raises TypeError if it is no handle.
cdef Handle native_handle(Reactor reactor, handle)
cdef int push_back(Reactor reactor, Handle handle) except -1
