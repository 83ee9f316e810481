from mioloop.transports.endpoint cimport Endpoint
from mioloop.transports.sysio cimport iovec

cdef enum:
    MOST_CHUNKS = 1024          # IOV_MAX of Linux, macOS and the BSDs


cdef tuple BYTE_PROTOCOLS           # of stream sockets without records
cdef tuple water_marks(object high, object low, Py_ssize_t default_high)
cdef Py_ssize_t whole_bytes(object mark) except -1


cdef class WriteFlow(Endpoint):
    """A transport with a write buffer that tells its protocol when to pause."""
    cdef readonly bint _protocol_paused
    cdef Py_ssize_t buffered_bytes          # written, not yet taken by the system
    cdef Py_ssize_t high_bytes
    cdef Py_ssize_t low_bytes
    cdef object writer_context              # of the write that waits, if no context is kept (R58)
    cdef tuple limits                       # (low, high) as the program has set them, or None

    cdef int flush_now(self) except -1
    cdef int flush_in_context(self) except -1
    cdef int flush_gathered(self) except -1
    cdef int buffer_drained(self) except -1
    cdef int all_sent(self) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1


cdef class ByteFlow(WriteFlow):
    """A buffer of bytes that leave in the order they were written, many in one system call."""
    cdef list chunks                        # bytes, none of them empty
    cdef Py_ssize_t first_sent              # bytes of chunks[0] that are gone
    cdef Py_ssize_t offered                 # bytes that the reactor has sent for us, or tried to
    cdef Py_ssize_t result                  # and what send() returned; 0: it has not
    cdef bint keeps_records                 # each chunk is a message: one system call each

    cdef bint may_gather(self) noexcept
    cdef int append(self, bytes data) except -1
    cdef int written(self) except -1
    cdef int flush_other(self) except -1
    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2
    cdef Py_ssize_t send_one(self, bytes data) noexcept
    cdef Py_ssize_t gather(self, iovec *iov, Py_ssize_t *tried) except -1
    cdef int drop_sent(self, Py_ssize_t sent) except -1
    cdef int write_failed(self, exc) except -1
