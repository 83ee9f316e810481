cimport cython
from cpython.object cimport PyObject

from mioloop.transports.sysio cimport iovec


@cython.final
cdef class WriteBuffer:
    """Bytes that wait to be sent, in the order of the writes.

    A WriteBuffer knows no descriptor, protocol or loop, and runs no user code: it holds objects
    whose type is exactly bytes, and none of them is empty. The user counts the bytes.
    """
    cdef PyObject **chunks              # owned, with references to the chunks from first to end
    cdef Py_ssize_t first
    cdef Py_ssize_t end                 # equals `first` in an empty buffer
    cdef Py_ssize_t room                # number of entries of `chunks`
    cdef Py_ssize_t first_sent          # bytes of the first chunk that are already sent

    cpdef int append(self, bytes data) except -1
    cpdef int consume(self, Py_ssize_t sent) except -1
    cpdef int clear(self) except -1
    cpdef bytes as_one_block(self)
    cpdef list unsent(self)
    cdef Py_ssize_t first_chunk(self, char **data) noexcept
    cdef Py_ssize_t as_iovec(self, iovec *iov, Py_ssize_t most, Py_ssize_t *total) noexcept
    cdef int copy_to(self, char *out) noexcept
    cdef int grow(self) except -1


cdef enum:
    MOST_CHUNKS = 1024          # IOV_MAX of Linux, macOS and the BSDs


cdef bytes exact_bytes(data)
cdef bytes as_bytes(data)
cdef object snapshot(WriteBuffer buffer)
cpdef WriteBuffer new_write_buffer()
