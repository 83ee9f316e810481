from mioloop.transports.endpoint cimport Endpoint
from mioloop.transports.flow_control cimport FlowControl
from mioloop.transports.write_buffer cimport WriteBuffer

cdef enum:
    MOST_CHUNKS = 1024          # IOV_MAX of Linux, macOS and the BSDs


cdef tuple BYTE_PROTOCOLS           # protocols of stream sockets that carry bytes, not records


cdef class WriteFlow(Endpoint):
    """A transport with a write buffer. It pauses and resumes the protocol's writing."""
    cdef FlowControl flow                   # of the bytes that the kernel has not accepted yet
    # The context of the call that found the descriptor full; resume_writing() runs in it. Not used
    # by a connection, which has one context for all its callbacks (R58).
    cdef object writer_context
    cdef tuple limits                       # (low, high) as set by the program, or None

    cdef int flush_now(self) except -1
    cdef int flush_in_context(self) except -1
    cdef int flush_gathered(self) except -1
    cdef int buffer_drained(self) except -1
    cdef int all_sent(self) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1


cdef class ByteFlow(WriteFlow):
    """A buffer of bytes, sent in the order of the writes, many chunks in one system call."""
    cdef WriteBuffer buffer                 # made when bytes wait for the first time
    cdef Py_ssize_t offered                 # bytes that prepare_send() gave to the reactor to send
    cdef Py_ssize_t result                  # result of the reactor's send(); 0: none is pending
    cdef bint keeps_records                 # each chunk is a message with its own system call

    cdef bint may_gather(self) noexcept
    cdef int append(self, bytes data) except -1
    cdef int written(self) except -1
    cdef int flush_other(self) except -1
    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2
    cdef Py_ssize_t send_one(self, bytes data) noexcept
    cdef int keep(self, bytes data) except -1
    cdef int drop_sent(self, Py_ssize_t sent) except -1
    cdef int drop_buffer(self) noexcept
    cdef int write_failed(self, exc) except -1
