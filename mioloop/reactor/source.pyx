"""Source: one thing that the reactor polls. A transport, a listener and a watcher are sources.

A source overrides the methods that it needs. The reactor calls them and no others.
"""

from mioloop.reactor.sealed cimport seal


cdef class Source:

    def __cinit__(self):
        self.fd = -1

    cdef int on_ready(self, uint32_t ready) except -1:
        """Called when at least one condition of *ready* (MIO_READABLE ...) holds.

        May run any user code.
        """
        return 0

    cdef int give_way(self, HandleOwner reactor, Source successor) except -1:
        """Called when *successor* is about to be attached with the descriptor of this source."""
        return 0

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        """Count this source: loop.stats() asks all sources. Runs no code of the program."""
        return 0

    # -- gathered writes (flush_queue.pxd) ---------------------------------------

    cdef int on_flush(self) except -1:
        """Called once after flush_soon(), when the batch of callbacks has run."""
        return 0

    cdef int send_gathered(self) except -1:
        """Send the data that waits for on_flush(). Runs no callback. on_flush() is still called."""
        return 0

    cdef int drop_gathered(self) noexcept:
        """Drop the data that waits for on_flush(): another process sends it."""
        return 0

    # -- bursts: see batch_io.pxd ------------------------------------------------

    cdef bint prepare_send(self, mio_transfer *transfer) except -1:
        return False

    cdef int complete_send(self, Py_ssize_t result) noexcept:
        return 0

    cdef bint can_prefetch(self, uint32_t ready) noexcept:
        return False

    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept:
        return 0


seal(Source)
