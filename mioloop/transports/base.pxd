cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source, Trigger
from mioloop.transports.flow_control cimport FlowControl
from mioloop.transports.states cimport *


cdef class BaseTransport(Source):
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
    cdef PyObject *connections          # owned: a ServerConnections with this transport, or NULL
    cdef Py_ssize_t place               # index in connections.transports

    # the registration
    cdef uint32_t armed                 # interest that is registered with the poll
    cdef Trigger trigger                # how the descriptor is polled
    cdef bint short_read_means_drained  # a short read means drained, a short write means full

    # reading
    cdef ReadState read_state
    cdef Incoming incoming
    cdef uint32_t deferred_readiness    # readiness that an edge reported while paused

    # writing
    cdef FlowControl flow               # of the bytes that the kernel has not accepted yet
    cdef WriteState write_state
    cdef tuple limits                   # (low, high) as set by the program, or None
    # The context of the call that found the descriptor full; resume_writing() runs in it. Not used
    # by a connection, which has one context for all its callbacks (R58).
    cdef object writer_context

    # the end
    cdef Life life
    cdef int expected_errno             # of the errors that are not reported; 0: every OSError
    cdef readonly int _conn_lost        # 1 once connection_lost() is scheduled; later writes add 1

    cdef int start(self, Reactor reactor, int fd, Trigger trigger, waiter) except -1
    cdef object callback_context(self)

    # -- the states: the tables are in states.pyx

    @cython.final
    cdef inline int enter_life(self, Life life) except -1:
        assert may_follow("Life", self.life, life), f"life {life} after {self.life}"
        self.life = life
        return 0

    @cython.final
    cdef inline int enter_read(self, ReadState state) except -1:
        assert may_follow("ReadState", self.read_state, state), f"{state} after {self.read_state}"
        self.read_state = state
        return 0

    @cython.final
    cdef inline int enter_write(self, WriteState state) except -1:
        assert may_follow("WriteState", self.write_state, state), f"{state} after {self.write_state}"
        self.write_state = state
        return 0

    @cython.final
    cdef inline bint closes(self) noexcept:
        """Return whether close(), abort() or an error has begun the end."""
        return self.life >= LIFE_CLOSING

    @cython.final
    cdef inline bint paused(self) noexcept:
        return self.read_state == READ_PAUSED or self.read_state == READ_ENDED_PAUSED

    @cython.final
    cdef inline bint ended(self) noexcept:
        """Return whether the stream has ended, and the protocol keeps the transport open."""
        return self.read_state >= READ_ENDED

    @cython.final
    cdef inline bint blocked(self) noexcept:
        """Return whether a write must wait: until writable, or behind a file."""
        return self.write_state >= WRITE_FULL

    @cython.final
    cdef inline bint reads(self) noexcept:
        """Return whether data is received and delivered now, or its reader watched."""
        if self.incoming == INCOMING_DATA:
            return self.life == LIFE_OPEN and self.read_state == READ_FLOWING
        return (self.incoming == INCOMING_END
                and (self.life == LIFE_OPEN or self.life == LIFE_CLOSING))

    @cython.final
    cdef inline bint idles(self) noexcept:
        """Return whether nothing happens to the transport until the program calls it."""
        return (self.paused() and not self.closes() and self.flow.size == 0
                and self.write_state != WRITE_FILE)

    cdef bint is_consistent(self) except -1
    cdef int after_read(self, Py_ssize_t n, uint32_t ready) except -1
    cdef int block(self) except -1
    cdef bint after_drain(self) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int update_interest(self) except -1
    cdef int go_on_polling(self) except -1
    cdef int callback_failed(self, str name, exc) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int report(self, str message, exc) except -1
    cdef int discard(self) except -1
    cdef int schedule_connection_lost(self, exc) except -1
    cdef int count_lost_write(self) except -1
    cdef int after_connection_lost(self) except -1
    cdef int close_fd(self) except -1
    cdef int close_files(self, int fd) except -1
    cdef int forgotten(self) except -1


cdef class WritingTransport(BaseTransport):
    cdef int flush(self) except -1
