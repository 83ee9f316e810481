"""ProcessEnd: a pidfd, which is readable once its process has ended.

Ownership  The ProcessEnd owns the descriptor: it is closed when the process has ended, or with the
           loop.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.handle cimport Handle
from mioloop.reactor.reactor cimport Reactor, Source
from mioloop.reactor.sealed cimport seal


cdef class ProcessEnd(Source):

    cdef int on_ready(self, uint32_t ready) except -1:
        self.reactor.detach(self, False)
        close_descriptor(self.fd)
        self.fd = -1
        # The handle is queued: data of the pipes from the same poll goes to the protocol first.
        return self.reactor.push(<PyObject *>self.handle)

    def __dealloc__(self):
        if self.fd >= 0:
            close_descriptor(self.fd)


cdef ProcessEnd new_process_end(Reactor reactor, int pidfd, Handle handle):
    """Run *handle* once the process of *pidfd* has ended.

    If this raises (OSError: the poll accepts no more), the caller keeps the descriptor.
    """
    cdef ProcessEnd self = ProcessEnd.__new__(ProcessEnd)
    self.reactor = reactor
    self.handle = handle
    reactor.attach(self, pidfd)
    try:
        reactor.register(self, MIO_READABLE, MIO_LEVEL)
    except BaseException:
        reactor.detach(self, False)
        self.fd = -1
        raise
    return self


seal(ProcessEnd)
