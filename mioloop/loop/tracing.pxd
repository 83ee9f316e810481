from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from mioloop.loop.measuring cimport MeasuringReactor


ctypedef struct Record:
    int kind                            # RECORD_ below
    bint spins                          # a step of a task that was ready again at once: sleep(0)
    int fd                              # of the source; -1: a callback
    uint64_t turn
    int64_t ready_ns                    # when the callback was queued, at the latest
    int64_t began_ns
    int64_t ended_ns
    int64_t polled_ns                   # when the poll before it returned
    int64_t idle_ns                     # of all polls before it that waited
    uint64_t bytes_in                   # since the record before
    uint64_t bytes_out
    uint64_t task                       # its identity; 0: no task
    PyObject *name                      # owned: a code object or a string
    PyObject *detail                    # owned: the name of the task, or of the protocol's class


# Handles of the ready queue that were queued at nearly the same time.
ctypedef struct Queued:
    uint64_t count
    int64_t at_ns


cdef class TracingReactor(MeasuringReactor):
    """Records each callback, step of a task and event, while it is told to."""
    cdef bint traced
    cdef Record *records                # a ring, or NULL
    cdef size_t first_record
    cdef size_t record_count
    cdef uint64_t lost_records          # because the ring was full
    cdef Record under_way               # the outermost callback or event; began_ns is 0 if none
    cdef uint64_t recorded_in           # bytes received that are in a record
    cdef uint64_t recorded_out
    cdef Queued *queued                 # a ring
    cdef size_t first_queued
    cdef size_t queued_count            # entries of that ring
    cdef uint64_t known                 # handles of the ready queue that these entries stand for

    cdef int begin_record(self, Record *record) except -1
    cdef int end_record(self, Record *record, task) noexcept
    cdef int note_queued(self, uint64_t ready, int64_t now_ns) noexcept
    cdef int64_t take_queued(self, int64_t now_ns) noexcept
    cdef int forget_records(self) noexcept
