cimport cython
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.write_buffer cimport WriteBuffer


@cython.final
cdef class ReadPipeTransport(BaseTransport):
    cdef int read(self, uint32_t ready) except -1
    cdef Py_ssize_t deliver(self) except? -2
    cdef Py_ssize_t read_ended(self, Py_ssize_t n) except? -2


@cython.final
cdef class WritePipeTransport(WritingTransport):
    cdef WriteBuffer buffer             # made at the first write
    cdef bint keeps_records             # each chunk is a message with its own system call

    cdef int append(self, bytes data) except -1
    cdef int flush_in_context(self) except -1
    cdef int reader_gone(self) except -1


cdef ReadPipeTransport new_read_pipe(Reactor reactor, object pipe, object protocol, object waiter,
                                     dict extra)
cdef WritePipeTransport new_write_pipe(Reactor reactor, object pipe, object protocol,
                                       object waiter, dict extra)
