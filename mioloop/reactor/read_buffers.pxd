"""The buffers that all reads of a loop share, and the bytes objects that protocols get from them.

Two buffers of READ_SIZE bytes live as long as the loop, so that a read touches no fresh pages: one
for received data, and one for decrypted data. A read borrows a buffer, and gives it back before or
after it calls the protocol. A nested read that finds the buffer borrowed gets another one; the
buffer that is given back last is kept.

bytes_of() copies data into a bytes object for a protocol. It reuses an earlier object that only
the loop still refers to, because objects that are too large for pymalloc are slow to allocate.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.string cimport memcpy

cdef extern from *:
    """
    /* Sets the length of a bytes object whose contents are replaced. The caller must have the only
     * reference to it. Its cached hash is reset with its contents. */
    static inline void mio_bytes_set_size(PyObject *bytes, Py_ssize_t size)
    {
        Py_SET_SIZE(bytes, size);
        PyBytes_AS_STRING(bytes)[size] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #endif
        ((PyBytesObject *)bytes)->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #endif
    }
    """
    void set_size "mio_bytes_set_size"(object bytes, Py_ssize_t size) noexcept
    Py_ssize_t references "Py_REFCNT"(PyObject *) noexcept
    Py_ssize_t references_of "Py_REFCNT"(object) noexcept


cdef enum:
    READ_SIZE = 262144          # size of a buffer
    COPY_BELOW = 65536          # a smaller read is copied into a bytes object of its own size
    AHEAD_SIZE = 4032           # of a prefetched read; 4096 would map all to the same cache sets
    SPARES = 65                 # slots 1 to 64: reads up to AHEAD_SIZE; slot 0: all larger reads
    PYMALLOC_MOST = 512 - 33    # data of the largest bytes object that pymalloc allocates


ctypedef struct ReadBuffers:
    PyObject *received          # owned; NULL while borrowed, and before the first read
    PyObject *decrypted         # owned; NULL while borrowed, and before the first read
    # Bytes objects that recent reads returned. A read may overwrite one if its reference count
    # shows that the program has dropped it.
    PyObject *spares[SPARES]    # owned, or NULL
    Py_ssize_t rooms[SPARES]    # number of bytes that each spare was made for
    int last_spare              # index of the last small slot that was used


cdef inline bytes borrow(PyObject **buffer):
    """Take one of the two buffers, for example `&buffers.received`."""
    cdef PyObject *kept = buffer[0]
    if kept == NULL:
        return PyBytes_FromStringAndSize(NULL, READ_SIZE)
    buffer[0] = NULL
    lent = <bytes>kept
    Py_DECREF(lent)
    return lent


cdef inline int give_back(PyObject **buffer, bytes lent) noexcept:
    cdef PyObject *other = buffer[0]
    Py_INCREF(lent)
    buffer[0] = <PyObject *>lent
    Py_XDECREF(other)
    return 0


cdef inline bint give_back_unless_kept(PyObject **buffer, bytes lent) noexcept:
    """Give a buffer back that a protocol has received as data. False if the protocol keeps it."""
    if references_of(lent) != 1:
        return False
    set_size(lent, READ_SIZE)
    give_back(buffer, lent)
    return True


cdef inline bytes bytes_of(ReadBuffers *buffers, const char *data, Py_ssize_t size):
    """Return a bytes object with the contents of *data*.

    Reuses an earlier object if only the loop still refers to it. An object that the program keeps
    occupies at most twice the size of its data. While received data is written and gathered, many
    objects are in use at once, so small reads rotate through several spare objects. All large
    reads share one.
    """
    cdef PyObject *spare
    cdef int i = 0

    if size <= PYMALLOC_MOST:
        return PyBytes_FromStringAndSize(data, size)
    if size <= AHEAD_SIZE:
        i = buffers.last_spare
        spare = buffers.spares[i]
        if spare == NULL or references(spare) > 1:
            i = buffers.last_spare = i % (SPARES - 1) + 1
    spare = buffers.spares[i]
    if (spare == NULL or references(spare) > 1 or size > buffers.rooms[i]
            or size < buffers.rooms[i] // 2):
        new = PyBytes_FromStringAndSize(data, size)
        Py_INCREF(new)
        buffers.spares[i] = <PyObject *>new
        buffers.rooms[i] = size
        Py_XDECREF(spare)
        return new
    set_size(<bytes>spare, size)
    memcpy(PyBytes_AS_STRING(<bytes>spare), data, size)
    return <bytes>spare


cdef inline int drop_buffers(ReadBuffers *buffers) noexcept:
    cdef int i
    Py_XDECREF(buffers.received)
    Py_XDECREF(buffers.decrypted)
    buffers.received = buffers.decrypted = NULL
    for i in range(SPARES):
        Py_XDECREF(buffers.spares[i])
        buffers.spares[i] = NULL
    return 0
