cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t

from mioloop.reactor.core cimport (
    mio_ring, mio_ring_is_full, mio_ring_pop, mio_ring_push, mio_timers)
from mioloop.reactor.handle cimport TimerHandle
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.registry cimport Registry


cdef class CallQueue(Registry):
    cdef mio_ring ring                  # owned references to Handles
    cdef mio_timers timers              # each scheduled TimerHandle is owned by the heap
    cdef uint64_t timer_total
    cdef Histogram timer_latency        # how late timers fired

    @cython.final
    cdef inline int push(self, PyObject *handle) except -1:
        if mio_ring_is_full(&self.ring):
            self.grow_ring()
        Py_INCREF(<object>handle)
        mio_ring_push(&self.ring, handle)
        return 0

    @cython.final
    cdef inline PyObject *pop(self) noexcept:
        """Remove and return the first handle. The caller takes the ring's reference over.

        The ring must not be empty.
        """
        return <PyObject *>mio_ring_pop(&self.ring)

    cdef int grow_ring(self) except -1
    cdef int drop_ring(self) except -1
    cdef object post(self, object callback, tuple args, object context)
    cdef int schedule(self, PyObject *handle, int64_t deadline_ns) except -1
    cdef int queue_due_timers(self) except -1
    cdef bint queue_many_due(self, int64_t now) except -1
    cdef int64_t until_next_timer(self) except? -2
    cdef int64_t timer_now_ns(self) except? -1       # loop.time() in ns: the loop may override it
    cdef int64_t monotonic_ns(self) noexcept
    cdef int drop_timers(self) except -1
