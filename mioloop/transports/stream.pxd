cimport cython
from libc.stdint cimport uint32_t

from mioloop.transports.socket_transport cimport SocketTransport
from mioloop.transports.write_buffer cimport WriteBuffer


cdef class StreamFilter:
    """A protocol in native code. It gets received data in the loop's buffer, without a copy."""
    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1


@cython.final
cdef class StreamTransport(SocketTransport):
    # reading
    cdef StreamFilter filter            # the protocol, if it is one
    cdef bint buffered_protocol
    cdef bint reads_much                # the last read was too large to be prefetched
    cdef bint keeps_data                # the protocol keeps references to received data

    # writing
    cdef WriteBuffer buffer             # made when bytes wait for the first time
    cdef Py_ssize_t offered             # bytes that prepare_send() gave to the reactor to send
    cdef Py_ssize_t result              # of the reactor's send(); valid in WRITE_SENT
    cdef bint keeps_records             # each chunk is a message with its own system call
    # write_eof() was called. No WriteState: the buffer is sent first, in any of these states.
    cdef bint eof_written

    cdef int read(self, uint32_t ready) except -1
    cdef int deliver(self, bytes buffer, Py_ssize_t n) except -1
    cdef int feed_filter(self, const char *data, Py_ssize_t size) except -1
    cdef bint prefetch_allowed(self) noexcept
    cdef Py_ssize_t deliver_prefetched(self) except? -2
    cdef Py_ssize_t read_into_protocol(self) except? -2
    cdef int copy_into_protocol(self, bytes data) except -1
    cdef int read_ended(self, Py_ssize_t n) except -1
    cdef int enqueue(self, bytes data) except -1
    cdef int append(self, bytes data) except -1
    cdef bint may_gather(self) noexcept
    cdef int keep(self, bytes data) except -1
    cdef int drop_buffer(self) noexcept
    cdef int schedule_flush(self) except -1
    cdef int flush_in_context(self) except -1
    cdef Py_ssize_t send_buffered(self, Py_ssize_t *tried) except? -2
    cdef int all_sent(self) except -1
    cdef int write_failed(self, exc) except -1
    cdef int on_eof(self) except -1
    cdef int protocol_failed(self, str name) except -1
    cdef int call_protocol(self, object protocol, str name, object arg) except -1


cdef StreamTransport bare_stream()
