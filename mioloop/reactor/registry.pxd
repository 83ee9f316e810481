from libc.stdint cimport uint32_t

from mioloop.reactor.core cimport mio_poll, mio_slab, mio_token
from mioloop.reactor.handle cimport HandleOwner
from mioloop.reactor.source cimport Source


cdef enum Trigger:
    EDGE
    LEVEL
    ONESHOT


cdef class Registry(HandleOwner):
    cdef mio_poll *poll                 # NULL once closed
    cdef mio_slab slab                  # token -> Source; each entry owns a reference
    cdef dict token_by_fd               # one registration for each descriptor
    cdef readonly str selector
    cdef Trigger trigger_mode
    cdef bint edges_emulated
    cdef unsigned int fork_generation   # value of `forks` in the process that made the poll
    cdef bint closed
    cdef uint32_t own_sources           # number of sources that every loop has: its self-pipe
    cdef Source serving                 # its on_ready() has not returned yet
    cdef list deferred_sources          # Sources with deferred bits, for the next turn

    cdef Source lookup(self, mio_token token)
    cdef Source source_of(self, int fd)
    cdef int keep_alive(self, Source source) noexcept
    cdef int drop_reference(self, Source source) except -1
    cdef int attach(self, Source source, int fd) except -1
    cdef int detach(self, Source source, bint closing) except -1
    cdef bint forgets_closed(self, Source source) noexcept
    cdef int defer(self, Source source, uint32_t ready) except -1
    cdef bint only_one_is_ready(self) noexcept
    cdef bint defer_repeated(self, Source source, uint32_t *ready) except -1
    cdef int serving_failed(self, Source source, exc) except -1
    cdef int drop_sources(self) except -1
    cdef int register(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef bint reregister_if_same(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef int report_again(self) except -1
    cdef int unregister(self, Source source) noexcept
    cdef int drained(self, Source source, uint32_t ready) except -1
    cdef int renew(self) except -1
    cdef int renew_poll(self) except -1


cdef int check(int rc) except -1
