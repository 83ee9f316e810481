"""WriteBuffer: bytes that wait to be sent, in the order of the writes.

The chunks stand in one array of references. The first chunks leave it without moving the rest,
and an array that many chunks have made large is freed when the buffer is empty.
"""

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy, memmove

from mioloop.reactor.python_api cimport Py_DECREF, Py_INCREF, bytes_data, bytes_size
from mioloop.reactor.sealed cimport seal

import sys

# asyncio's stream transports have a deque of chunks from 3.12 on, and one bytearray before.
cdef bint keeps_chunks = sys.version_info >= (3, 12)

cdef enum:
    FIRST_ROOM = 4
    KEPT_ROOM = 16                      # an empty buffer keeps an array of at most this size


cdef class WriteBuffer:

    def __dealloc__(self):
        self.clear()
        PyMem_Free(self.chunks)

    def __len__(self):
        """Return the number of chunks."""
        return self.end - self.first

    cpdef int append(self, bytes data) except -1:
        """Add *data*, which is not empty."""
        if data is None:
            raise TypeError("data must be bytes, not None")
        assert PyBytes_GET_SIZE(data) > 0
        if self.end == self.room:
            self.grow()
        Py_INCREF(<PyObject *>data)
        self.chunks[self.end] = <PyObject *>data
        self.end += 1
        return 0

    cdef int grow(self) except -1:
        """Make room for one more chunk."""
        cdef Py_ssize_t count = self.end - self.first, room = self.room
        cdef void *more

        if count <= room // 2 and room > 0:
            memmove(self.chunks, self.chunks + self.first, count * sizeof(PyObject *))
        else:
            room = max(<Py_ssize_t>FIRST_ROOM, 2 * room)
            more = PyMem_Malloc(room * sizeof(PyObject *))
            if more == NULL:
                raise MemoryError
            if count:
                memcpy(more, self.chunks + self.first, count * sizeof(PyObject *))
            PyMem_Free(self.chunks)
            self.chunks = <PyObject **>more
            self.room = room
        self.first = 0
        self.end = count
        return 0

    cpdef int consume(self, Py_ssize_t sent) except -1:
        """Remove the first *sent* bytes."""
        cdef PyObject *chunk
        cdef Py_ssize_t left

        while sent > 0 and self.first < self.end:
            chunk = self.chunks[self.first]
            left = bytes_size(chunk) - self.first_sent
            if sent < left:
                self.first_sent += sent
                return 0
            sent -= left
            self.first_sent = 0
            self.first += 1
            Py_DECREF(chunk)
        if self.first == self.end:
            self.clear()
        return 0

    cpdef int clear(self) except -1:
        """Remove all chunks."""
        while self.first < self.end:
            self.first += 1
            Py_DECREF(self.chunks[self.first - 1])
        self.first = self.end = self.first_sent = 0
        if self.room > KEPT_ROOM:
            PyMem_Free(self.chunks)
            self.chunks = NULL
            self.room = 0
        return 0

    cdef Py_ssize_t first_chunk(self, char **data) noexcept:
        """Set *data* to the unsent bytes of the first chunk, and return their number.

        They stay in place until consume() or clear(). The buffer is not empty.
        """
        cdef PyObject *chunk = self.chunks[self.first]

        data[0] = bytes_data(chunk) + self.first_sent
        return bytes_size(chunk) - self.first_sent

    cdef Py_ssize_t as_iovec(self, iovec *iov, Py_ssize_t most, Py_ssize_t *total) noexcept:
        """Fill at most *most* entries of *iov*, and return their number.

        *total* is set to the number of bytes in them. The buffer is not empty.
        """
        cdef Py_ssize_t count = min(self.end - self.first, most), i
        cdef PyObject **chunks = self.chunks + self.first
        cdef char *data

        iov[0].iov_len = total[0] = self.first_chunk(&data)
        iov[0].iov_base = data
        for i in range(1, count):
            iov[i].iov_base = bytes_data(chunks[i])
            iov[i].iov_len = bytes_size(chunks[i])
            total[0] += iov[i].iov_len
        return count

    cdef int copy_to(self, char *out) noexcept:
        """Copy all unsent bytes to *out*, which has room for them."""
        cdef Py_ssize_t skipped = self.first_sent, size, i

        for i in range(self.first, self.end):
            size = bytes_size(self.chunks[i]) - skipped
            memcpy(out, bytes_data(self.chunks[i]) + skipped, size)
            out += size
            skipped = 0
        return 0

    cpdef bytes as_one_block(self):
        """Join all unsent bytes to one chunk, and return it."""
        cdef Py_ssize_t size = -self.first_sent, i
        cdef bytes joined

        if self.first == self.end:
            return b""
        for i in range(self.first, self.end):
            size += bytes_size(self.chunks[i])
        joined = PyBytes_FromStringAndSize(NULL, size)
        self.copy_to(PyBytes_AS_STRING(joined))
        Py_INCREF(<PyObject *>joined)
        for i in range(self.first, self.end):
            Py_DECREF(self.chunks[i])
        self.chunks[0] = <PyObject *>joined
        self.first = self.first_sent = 0
        self.end = 1
        return joined

    cpdef list unsent(self):
        """Return a list of all chunks, without the bytes that are already sent."""
        cdef list chunks = [<bytes>self.chunks[i] for i in range(self.first, self.end)]
        if self.first_sent:
            chunks[0] = chunks[0][self.first_sent:]
        return chunks


cdef bytes exact_bytes(data):
    """Return a copy of *data*, any bytes-like object. The type of the copy is exactly bytes.

    Subclasses of bytes are copied too: their __del__ could run user code during a send.
    """
    if PyBytes_Check(data):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return bytes(memoryview(data))


cdef bytes as_bytes(data):
    """Return exact_bytes(data), because the caller may change *data* (R50).

    Raises TypeError as asyncio's write() does, also for an array.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return exact_bytes(data)


cdef object snapshot(WriteBuffer buffer):
    """Return an immutable copy of the unsent data of *buffer*, or of None, in asyncio's form."""
    chunks = [] if buffer is None else buffer.unsent()
    return tuple(chunks) if keeps_chunks else b"".join(chunks)


cpdef WriteBuffer new_write_buffer():
    return WriteBuffer.__new__(WriteBuffer)


seal(WriteBuffer)
