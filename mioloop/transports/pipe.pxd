from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.endpoint cimport Endpoint
from mioloop.transports.flow cimport ByteFlow


cdef class ReadPipeTransport(Endpoint):
    cdef Py_ssize_t read_ended(self, Py_ssize_t n) except? -2


cdef class WritePipeTransport(ByteFlow):
    cdef bint watches_reader            # the kernel reports when the reading end is closed
    cdef int reader_gone(self) except -1


cdef ReadPipeTransport new_read_pipe(Reactor reactor, object pipe, object protocol, object waiter,
                                     dict extra)
cdef WritePipeTransport new_write_pipe(Reactor reactor, object pipe, object protocol,
                                       object waiter, dict extra)
