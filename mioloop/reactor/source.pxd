from libc.stdint cimport uint32_t

from mioloop.reactor.core cimport mio_token, mio_transfer
from mioloop.reactor.handle cimport HandleOwner


ctypedef struct SourceFigures:
    Py_ssize_t streams
    Py_ssize_t datagrams
    Py_ssize_t pipes
    Py_ssize_t listeners
    Py_ssize_t paused                   # transports that do not read
    Py_ssize_t buffered_bytes           # that wait to be sent


cdef class Source:
    """One thing that the reactor polls, and the methods that it calls when the thing is ready."""
    cdef readonly int fd                # -1: none, or closed
    cdef mio_token token
    cdef bint attached                  # token is in the reactor's slab
    cdef bint held                      # the slab's entry owns a reference
    cdef bint registered                # fd is registered on the poll
    cdef uint32_t polled_for            # interest of that registration
    cdef uint32_t poll_opts             # options of that registration
    cdef unsigned int forked_before     # children_forked at the time of attach()
    cdef uint32_t deferred              # readiness to serve in the next turn, without an event
    cdef uint32_t resumed               # readiness that was deferred, and served in `resumed_turn`
    cdef uint32_t resumed_turn
    cdef bint flush_queued              # in the reactor's FlushQueue, which alone sets this
    cdef Source next_unflushed          # in that queue

    cdef int on_ready(self, uint32_t ready) except -1
    cdef int give_way(self, HandleOwner reactor, Source successor) except -1
    cdef int add_figures(self, SourceFigures *figures) noexcept
    cdef int on_flush(self) except -1
    cdef int send_gathered(self) except -1
    cdef int drop_gathered(self) noexcept
    cdef bint prepare_send(self, mio_transfer *transfer) except -1
    cdef int complete_send(self, Py_ssize_t result) noexcept
    cdef bint can_prefetch(self, uint32_t ready) noexcept
    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept
