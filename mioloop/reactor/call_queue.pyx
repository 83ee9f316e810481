"""CallQueue: the calls that wait for their turn, in the ready ring and in the heap of timers.

Any thread that holds the GIL may call push(): it neither runs Python code nor releases the GIL.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free
from libc.string cimport memset

from mioloop.reactor.core cimport *
from mioloop.reactor.handle cimport Handle, TimerHandle, handle_of
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.registry cimport check

cdef enum:
    FIRST_DUE = 16                      # so many timers are taken out of the heap one by one
    MANY_DUE = 32


cdef inline int64_t until(int64_t deadline_ns, int64_t now_ns) noexcept nogil:
    """The time until the deadline; 0 if it has passed. A replaced clock may have any value."""
    if deadline_ns <= now_ns:
        return 0
    if now_ns < 0 and deadline_ns > INT64_MAX + now_ns:
        return INT64_MAX
    return deadline_ns - now_ns


cdef class CallQueue(Registry):

    def __cinit__(self, *args, **kwargs):
        mio_timers_init(&self.timers)
        self.timer_latency = Histogram()

    # -- the ready ring ------------------------------------------------------------

    cdef int grow_ring(self) except -1:
        if self.ring.capacity == 0:
            raise RuntimeError("Event loop is closed")
        if mio_ring_grow(&self.ring) < 0:
            raise MemoryError
        return 0

    cdef object post(self, object callback, tuple args, object context):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        handle = handle_of(self, callback, args, context)
        self.push(<PyObject *>handle)
        return handle

    cdef int drop_ring(self) except -1:
        """Empty the ring. It is taken away before the first handle is dropped."""
        cdef mio_ring ring = self.ring
        memset(&self.ring, 0, sizeof(mio_ring))
        while ring.count:
            Py_DECREF(<object>mio_ring_pop(&ring))
        mio_ring_free(&ring)
        return 0

    # -- timers --------------------------------------------------------------------

    cdef int queue_due_timers(self) except -1:
        cdef int64_t now = self.timer_now_ns()
        cdef mio_timer *first
        cdef size_t queued = 0

        while True:
            first = mio_timers_first(&self.timers)
            if first == NULL or first.deadline_ns > now:
                return 0
            queued += 1
            if queued == FIRST_DUE and self.queue_many_due(now):
                return 0
            mio_histogram_add(&self.timer_latency.counts, now - max(first.deadline_ns, 0))
            handle = <TimerHandle>first.owner
            self.push(<PyObject *>handle)
            self.forget_timer(handle)
            self.timer_total += 1

    cdef bint queue_many_due(self, int64_t now) except -1:
        """Queue all due timers together if there are many. Return false: none was queued."""
        cdef size_t i, n = mio_timers_count_due(&self.timers, now)
        cdef mio_timer_entry *due

        if n < MANY_DUE:
            return False
        while self.ring.capacity - self.ring.count < n:
            self.grow_ring()
        if mio_timers_take_due(&self.timers, now, n, &due) < 0:
            return False
        for i in range(n):
            mio_histogram_add(&self.timer_latency.counts, now - max(due[i].deadline_ns, 0))
            mio_ring_push(&self.ring, due[i].timer.owner)   # the heap's reference is the ring's now
        self.timer_total += n
        free(due)
        return True

    cdef int64_t until_next_timer(self) except? -2:
        """The time that a poll may wait, in ns; -1: without limit."""
        cdef int64_t now

        if self.timers.count == 0:
            return -1
        now = self.timer_now_ns()
        # now() may run Python code, which may cancel timers or queue callbacks.
        if self.timers.count == 0:
            return -1
        if self.ring.count:
            return 0
        return until(mio_timers_first(&self.timers).deadline_ns, now)

    cdef int schedule(self, PyObject *handle, int64_t deadline_ns) except -1:
        """Add a timer. The heap takes a new reference.

        If this raises, it has dropped the caller's reference.
        """
        cdef int rc
        if self.closed:                     # creating the handle may have run any code
            Py_DECREF(<object>handle)
            raise RuntimeError("Event loop is closed")
        rc = mio_timers_add(&self.timers, &(<TimerHandle>handle).timer, deadline_ns)
        if rc < 0:
            Py_DECREF(<object>handle)
            check(rc)
        Py_INCREF(<object>handle)
        return 0

    cdef int forget_timer(self, TimerHandle handle) except -1:
        if handle.timer.position != MIO_TIMER_IDLE:
            mio_timers_remove(&self.timers, &handle.timer)
            Py_DECREF(handle)
        return 0

    cdef int64_t timer_now_ns(self) except? -1:
        return mio_clock_now()

    cdef int64_t monotonic_ns(self) noexcept:
        return mio_clock_now()

    cdef int drop_timers(self) except -1:
        cdef TimerHandle timer
        while self.timers.count:
            timer = <TimerHandle>mio_timers_first(&self.timers).owner
            self.forget_timer(timer)
        return 0
