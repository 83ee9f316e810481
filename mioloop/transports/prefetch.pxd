"""The result of a read before the transport's turn (Reactor.read_together): bytes or an errno.

NONE    There is no result. A new one is stored in this state only.
READY   Bytes. A further event will report data that arrives after them.
STALE   Bytes. More data may have arrived since, and no further event will report it.
FAILED  An errno.
"""

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport Py_DECREF, Py_INCREF
from mioloop.transports.states cimport may_follow

cdef enum PrefetchState:
    PREFETCH_NONE
    PREFETCH_READY
    PREFETCH_STALE
    PREFETCH_FAILED


ctypedef struct Prefetch:
    PyObject *data                      # owned: bytes; NULL unless READY or STALE
    int error
    PrefetchState state


cdef inline int enter(Prefetch *self, PrefetchState state) noexcept:
    assert may_follow("PrefetchState", self.state, state), f"prefetch: {state} after {self.state}"
    self.state = state
    return 0


cdef inline int set_data(Prefetch *self, bytes data, PrefetchState state) noexcept:
    """Go from NONE to READY or STALE."""
    Py_INCREF(<PyObject *>data)
    self.data = <PyObject *>data
    return enter(self, state)


cdef inline int set_error(Prefetch *self, int error) noexcept:
    """Go from NONE to FAILED."""
    self.error = error
    return enter(self, PREFETCH_FAILED)


cdef inline int set_stale(Prefetch *self) noexcept:
    if self.state == PREFETCH_READY:
        enter(self, PREFETCH_STALE)
    return 0


cdef inline bytes take_data(Prefetch *self):
    """Return the bytes of READY or STALE, and go to NONE."""
    data = <bytes>self.data
    drop(self)
    return data


cdef inline int drop(Prefetch *self) noexcept:
    cdef PyObject *data = self.data
    self.data = NULL
    self.error = 0
    enter(self, PREFETCH_NONE)
    if data != NULL:
        Py_DECREF(data)
    return 0
