from mioloop.reactor.handle cimport Handle
from mioloop.reactor.reactor cimport Reactor, Source


cdef class ProcessEnd(Source):
    """Watches for the end of one child process."""
    cdef Reactor reactor
    cdef Handle handle                      # runs after the end, in the context of the start


cdef ProcessEnd new_process_end(Reactor reactor, int pidfd, Handle handle)
