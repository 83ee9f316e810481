from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source, Trigger

cdef int write_unraisable(exc, transport) except -1
cdef int drop_attributes(object transport) noexcept
cdef bint has_attributes(object transport) noexcept
cdef int set_attribute(object transport, str name, object value) except -1


cdef class Endpoint(Source):
    """The base of all transports: one descriptor and its protocol."""
    cdef readonly object _protocol
    cdef Reactor reactor
    cdef dict extra
    cdef object owner                   # its close() closes the descriptor
    cdef bint duplicated                # `fd` is a duplicate, which the transport closes as well
    cdef object context                 # of read callbacks; of all callbacks if keeps_context
    # A connection keeps one context for all its callbacks (R58). The callbacks of pipes and
    # datagram transports run in the context of the call that led to them.
    cdef bint keeps_context
    cdef object __weakref__
    cdef dict __dict__                  # attributes set by the program; created with the first
    cdef PyObject *clients              # owned: the server's Clients with this transport, or NULL
    cdef Py_ssize_t place               # index in clients.transports

    # the registration
    cdef uint32_t armed                 # interest that is registered with the poll
    cdef Trigger trigger                # how the descriptor is polled
    cdef bint blocked                   # the kernel accepts no more: wait until writable
    cdef bint short_read_means_drained  # a short read means drained, a short write means full

    # reading
    cdef bint started                   # connection_made() was called: reading may begin
    cdef bint paused
    cdef uint32_t deferred_readiness  # readiness that an edge reported while paused

    # the end
    cdef bint closing                   # by close(), by abort() or after an error
    cdef readonly int _conn_lost        # 1 once connection_lost() is scheduled; later writes add 1

    cdef int start(self, Reactor reactor, int fd, protocol, waiter) except -1
    cdef object callback_context(self)
    cdef bint reading(self) noexcept
    cdef Trigger choose_trigger(self) noexcept
    cdef bint idle(self) noexcept
    cdef int serve(self, uint32_t ready) except -1
    cdef int read(self, uint32_t ready) except -1
    cdef Py_ssize_t receive(self) except? -2
    cdef int block(self) except -1
    cdef int update_interest(self) except -1
    cdef int go_on_polling(self) except -1
    cdef bint is_expected(self, exc) except -1
    cdef int callback_failed(self, str name, exc) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int report(self, str message, exc) except -1
    cdef int discard(self) except -1
    cdef int schedule_connection_lost(self, exc) except -1
    cdef int count_lost_write(self) except -1
    cdef int ended(self) except -1
    cdef int close_fd(self) except -1
    cdef int close_files(self, int fd) except -1
    cdef int forgotten(self) except -1


cdef bint enter_context(object context) noexcept
cdef int leave_context(object context) except -1
cdef object method_of(object protocol, str name)
