from mioloop.transports.endpoint cimport Endpoint
from mioloop.transports.sysio cimport iovec

cdef enum:
    MOST_CHUNKS = 1024          # IOV_MAX of Linux, macOS and the BSDs


cdef tuple BYTE_PROTOCOLS           # protocols of stream sockets that carry bytes, not records
cdef tuple water_marks(object high, object low, Py_ssize_t default_high)
cdef Py_ssize_t whole_bytes(object mark) except -1


cdef class WriteFlow(Endpoint):
    """A transport with a write buffer. It pauses and resumes the protocol's writing."""
    cdef readonly bint _protocol_paused
    cdef Py_ssize_t buffered_bytes          # written, not yet accepted by the kernel
    cdef Py_ssize_t high_bytes
    cdef Py_ssize_t low_bytes
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
    cdef list chunks                        # bytes, none of them empty
    cdef Py_ssize_t first_sent              # bytes of chunks[0] that are already sent
    cdef Py_ssize_t offered                 # bytes that prepare_send() gave to the reactor to send
    cdef Py_ssize_t result                  # result of the reactor's send(); 0: none is pending
    cdef bint keeps_records                 # each chunk is a message with its own system call

    cdef bint may_gather(self) noexcept
    cdef int append(self, bytes data) except -1
    cdef int written(self) except -1
    cdef int flush_other(self) except -1
    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2
    cdef Py_ssize_t send_one(self, bytes data) noexcept
    cdef Py_ssize_t gather(self, iovec *iov, Py_ssize_t *tried) except -1
    cdef int drop_sent(self, Py_ssize_t sent) except -1
    cdef int write_failed(self, exc) except -1
