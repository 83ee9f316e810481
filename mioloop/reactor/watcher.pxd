from libc.stdint cimport uint32_t

from mioloop.reactor.handle cimport Handle, HandleOwner
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.source cimport Source


cdef class Watcher(Source):
    """The reader and writer callbacks of one descriptor that the program owns."""
    cdef Handle reader
    cdef Handle writer
    cdef object fileobj                     # argument of add_reader(); None without a callback
    cdef uint32_t interest(self) noexcept   # the readiness that a callback or call waits for
    cdef int update(self, Reactor reactor) except -1    # register that interest on the poll
    cdef int hand_over(self, Reactor reactor, Source successor) except -1
    cdef int fire(self, Handle handle, bint writing) except -1


cdef Handle watch_fd(Reactor reactor, int fd, bint writing, Handle handle, object fileobj)
cdef bint unwatch_fd(Reactor reactor, int fd, bint writing) except -1
cdef int remember_displaced(Reactor reactor, object fileobj) except -1
