"""What was received for a transport before its turn: bytes, or an error (Reactor.read_together).

NONE    nothing. From here a new result is taken.
READY   bytes, with what came after them still to be announced.
STALE   bytes, and more may have come since, which nothing announces again.
FAILED  an errno.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

cdef extern from "Python.h":
    void Py_DECREF(PyObject *)

cdef enum PrefetchState:
    PREFETCH_NONE
    PREFETCH_READY
    PREFETCH_STALE
    PREFETCH_FAILED


ctypedef struct Prefetch:
    PyObject *data                      # owned: bytes; NULL unless READY or STALE
    int error
    PrefetchState state


cdef inline int set_data(Prefetch *self, bytes data, PrefetchState state) noexcept:
    """READY or STALE. From NONE only."""
    Py_INCREF(data)
    self.data = <PyObject *>data
    self.state = state
    return 0


cdef inline int set_error(Prefetch *self, int error) noexcept:
    """From NONE only."""
    self.error = error
    self.state = PREFETCH_FAILED
    return 0


cdef inline int set_stale(Prefetch *self) noexcept:
    if self.state == PREFETCH_READY:
        self.state = PREFETCH_STALE
    return 0


cdef inline bytes take_data(Prefetch *self):
    """What READY or STALE had; NONE from now on."""
    data = <bytes>self.data
    drop(self)
    return data


cdef inline int drop(Prefetch *self) noexcept:
    cdef PyObject *data = self.data
    self.data = NULL
    self.error = 0
    self.state = PREFETCH_NONE
    if data != NULL:
        Py_DECREF(data)
    return 0
