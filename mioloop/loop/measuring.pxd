from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from mioloop.loop.tools cimport ToolsReactor
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.source cimport Source, SourceFigures


cdef class MeasuringReactor(ToolsReactor):
    """The figures of a loop: stats(), utilization(), latency(), durations()."""
    cdef Histogram callback_durations       # None: they are not measured
    cdef Histogram event_durations
    cdef object stall_watch                 # a StallWatch, or None
    cdef int64_t stalls                     # the number of stalls that it has reported
    cdef int64_t stalled_ns                 # the length of the stalls that have ended
    cdef public object on_stall             # called with each Stall by the watch's thread, or None

    cdef int sum_up(self, SourceFigures *figures) except -1
    cdef int times(self, int64_t *idle, int64_t *active) noexcept
    cdef int measure_durations(self, bint on) except -1
    cdef int run_handle(self, PyObject *owned) except -1
