from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source, Trigger

cdef extern from *:
    """
    /* What a protocol is given and does not keep is used again, with its length set to what
     * was read. A bytes object may be changed only while it has one reference, ours; and its
     * cached hash goes with its contents. */
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
    void mio_bytes_set_size(object bytes, Py_ssize_t size)


cdef int write_unraisable(exc, transport) except -1
cdef int drop_attributes(object transport) noexcept
cdef bint has_attributes(object transport) noexcept
cdef int set_attribute(object transport, str name, object value) except -1


cdef class Endpoint(Source):
    """One descriptor and the protocol it is for: what all transports are."""
    cdef readonly object _protocol
    cdef Reactor reactor
    cdef dict extra
    cdef object owner                   # its close() closes the descriptor
    cdef bint duplicated                # but `fd` is a duplicate, and ours to close as well
    cdef object context                 # in which read callbacks run; all callbacks, if it is kept
    cdef bint keeps_context             # a connection's; pipes and datagrams take the caller's (R58)
    cdef object __weakref__
    cdef dict __dict__                  # attributes that the program sets; made when it does
    cdef PyObject *clients              # owned: a server's Clients that we have joined, or NULL
    cdef Py_ssize_t place               # in them

    # the registration
    cdef uint32_t armed                 # interest that the poll has
    cdef Trigger trigger                # how it is polled
    cdef bint blocked                   # the system is full: wait until writable
    cdef bint short_is_all              # a short read or write means: no more now

    # reading
    cdef bint started                   # connection_made() was called: reading may begin
    cdef bint paused
    cdef uint32_t missed                # readiness that an edge announced while paused

    # the end
    cdef bint closing                   # close() or worse was called
    cdef readonly int _conn_lost        # connection_lost() is scheduled; then counts writes

    cdef int start(self, Reactor reactor, int fd, protocol, waiter) except -1
    cdef object callback_context(self)
    cdef bint reading(self) noexcept
    cdef Trigger choose_trigger(self) noexcept
    cdef bint idle(self) noexcept
    cdef int serve(self, uint32_t ready) except -1
    cdef int read(self, uint32_t ready) except -1
    cdef Py_ssize_t receive(self) except? -2
    cdef bytes copy(self, const char *data, Py_ssize_t size)
    cdef int block(self) except -1
    cdef int update_interest(self) except -1
    cdef int go_on_polling(self) except -1
    cdef bint is_expected(self, exc) except -1
    cdef int callback_failed(self, str name, exc) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int report(self, str message, exc) except -1
    cdef int discard(self) except -1
    cdef int lose(self, exc) except -1
    cdef int count_lost_write(self) except -1
    cdef int ended(self) except -1
    cdef int close_fd(self) except -1
    cdef int close_files(self, int fd) except -1
    cdef int forgotten(self) except -1


cdef bint enter_context(object context) noexcept
cdef int leave_context(object context) except -1
cdef object method_of(object protocol, str name)
