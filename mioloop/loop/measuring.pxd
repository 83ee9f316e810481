from libc.stdint cimport int64_t

from mioloop.loop.tools cimport ToolsReactor
from mioloop.reactor.source cimport SourceFigures


cdef class MeasuringReactor(ToolsReactor):
    """What a program asks a loop about itself: stats(), utilization(), latency()."""
    cdef object stall_watch                 # a StallWatch, or None
    cdef int64_t stalls                     # the number of stalls that it has reported
    cdef int64_t stalled_ns                 # the length of the stalls that have ended
    cdef public object on_stall             # called with each Stall by the watch's thread, or None

    cdef int sum_up(self, SourceFigures *figures) except -1
    cdef int times(self, int64_t *idle, int64_t *active) noexcept
