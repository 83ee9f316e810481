"""The references that Cython does not know: those of the ring, the heap, the slab and the flush queue.

Without them a loop that is dropped without close() would never be collected: the watcher of its
self-pipe alone makes a cycle through the slab.
"""

from cpython.object cimport PyObject

from mioloop.reactor.core cimport mio_ring, mio_ring_at, mio_slab, mio_timers
from mioloop.reactor.python_api cimport visitproc
from mioloop.reactor.source cimport Source


cdef inline int visit_all(mio_ring *ring, mio_timers *timers, mio_slab *slab, PyObject *first_flush,
                          visitproc visit, void *arg) noexcept:
    """tp_traverse: visit each owned reference. Return the first result of *visit* that is not 0."""
    cdef size_t i
    cdef int rc
    cdef void *entry

    if first_flush != NULL:
        rc = visit(first_flush, arg)
        if rc:
            return rc
    for i in range(ring.count):
        rc = visit(<PyObject *>mio_ring_at(ring, i)[0], arg)
        if rc:
            return rc
    for i in range(timers.count):
        rc = visit(<PyObject *>timers.heap[i].timer.owner, arg)
        if rc:
            return rc
    for i in range(slab.used):
        entry = slab.entries[i].value
        if entry != NULL and (<Source>entry).held:
            rc = visit(<PyObject *>entry, arg)
            if rc:
                return rc
    return 0
