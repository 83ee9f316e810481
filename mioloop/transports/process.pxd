from mioloop.reactor.handle cimport Handle
from mioloop.reactor.reactor cimport Reactor, Source


cdef class ProcessEnd(Source):
    """A child that has not been seen to end."""
    cdef Reactor reactor
    cdef Handle handle                      # what to run then, in the context of its start


cdef ProcessEnd new_process_end(Reactor reactor, int pidfd, Handle handle)
