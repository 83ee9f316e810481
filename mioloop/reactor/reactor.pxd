cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mioloop.reactor.batch_io cimport BatchIo
from mioloop.reactor.core cimport mio_event, mio_spin
from mioloop.reactor.flush_policy cimport FlushPolicy
from mioloop.reactor.flush_queue cimport FlushQueue
from mioloop.reactor.forking cimport Run
from mioloop.reactor.handle cimport Handle
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.looking cimport Looking
from mioloop.reactor.measures cimport Measures
from mioloop.reactor.python_api cimport PyTypeObject
from mioloop.reactor.read_buffers cimport ReadBuffers
from mioloop.reactor.registry cimport EDGE, LEVEL, ONESHOT, Trigger
from mioloop.reactor.services cimport LoopServices
from mioloop.reactor.source cimport Source


cdef extern from *:
    """
    /* 0: the class has none now, because it has just been changed. Since 3.13 the flag
     * Py_TPFLAGS_VALID_VERSION_TAG says nothing; every version sets the tag to 0. */
    static inline unsigned int mio_class_version(PyTypeObject *type)
    {
        return type->tp_version_tag;
    }
    """
    unsigned int class_version "mio_class_version"(PyTypeObject *) noexcept
    PyTypeObject *class_of "Py_TYPE"(object)


ctypedef struct Traffic:
    uint64_t bytes_in                   # received
    uint64_t bytes_out                  # accepted by the kernel
    uint64_t accepted                   # connections
    uint64_t refused                    # connections that got no protocol or transport


cdef class Reactor(LoopServices):
    # Events that were polled. An event that has not been dispatched stays here when an exception
    # leaves the loop. A nested turn appends its events.
    cdef mio_event *events
    cdef int event_capacity
    cdef int event_count
    cdef int event_next
    cdef int event_ahead                # events before this index have been offered a prefetch

    cdef list deferred_now      # Sources with deferred bits that this turn serves
    cdef int deferred_next      # index of the first in deferred_now that is not served yet

    # Looking at the selector while callbacks are ready (see must_look())
    cdef bint poll_is_shared            # the program may register on the poll by itself
    cdef unsigned int signals_seen      # signal_count when the selector was last polled
    cdef Looking looking                # leaves looks out that would find no event

    cdef bint watch_sleeps              # the stall watch wants wake_watch() when the loop works
    cdef Traffic traffic                # of transports and listeners
    cdef Measures measures              # where the time goes
    cdef Histogram turn_latency         # lengths of stretches, see measures.pxd

    cdef FlushPolicy policy             # decides whether a write() sends or gathers
    cdef FlushQueue flushes             # sources whose on_flush() is due
    cdef BatchIo batch_io               # one system call for many sources
    cdef bint prefetches                # False: the program takes descriptors from transports
    cdef ReadBuffers buffers            # the memory that all reads share

    cdef bint parked                    # inside a poll that may block
    cdef int wakers                     # number of threads that are about to end such a poll
    cdef bint running                   # inside run_turns()
    cdef Run this_run                   # for a fork during run_turns()
    cdef bint stopping
    cdef bint dismantling               # inside close_reactor()
    cdef bint instrumented                  # debug mode, or someone replaced Handle._run
    cdef bint observed                      # instrumented, or timed for durations()
    cdef bint goes_by_selector          # a tool replaced loop._selector, or a part of it
    cdef bint leaves_native_run         # _run_once() was replaced: run_forever() calls it each turn
    cdef PyTypeObject *timer_class      # asyncio.TimerHandle
    cdef PyTypeObject *thread_safe_class    # asyncio's class for call_soon_threadsafe()
    # Version tags of these classes and of the loop's class, see look_around().
    cdef unsigned int timer_class_version
    cdef unsigned int thread_safe_class_version
    cdef unsigned int class_version
    cdef object shown_timers            # loop._scheduled, while a tool may change it, or None
    cdef object displaced               # a WeakSet of closed fileobjs without a watch, or None
    cdef bint run_until_stopped         # the next run_turns() goes on until `stopping` is set
    cdef unsigned int clocks_until_poll
    cdef int64_t polled_ns              # when the last poll returned
    cdef mio_spin spin                  # how long a wait polls before it blocks

    cdef uint64_t turns, polls, spins, event_total, callback_total

    # called by loop/ and transports/
    cdef int open_reactor(self, str selector, str trigger, double spin_s, bint io_uring) except -1
    cdef int close_reactor(self) except -1
    cdef int free_all(self) noexcept
    @cython.final
    cdef inline int end_batch(self) except -1:
        """Send the gathered writes of the callbacks that have returned."""
        if self.flushes.first != NULL:
            self.flush()
        return 0

    @cython.final
    cdef inline int look_around(self) except -1:
        """Notice, once a turn, that a tool replaced Handle._run or a method of the loop, or that
        it holds loop._scheduled.

        The version tag of a class changes whenever an attribute of the class or of one of its
        bases changes.
        """
        if (class_version(self.timer_class) != self.timer_class_version
                or class_version(self.thread_safe_class) != self.thread_safe_class_version
                or class_version(class_of(self)) != self.class_version
                or self.shown_timers is not None):
            self.serve_tools()
        return 0

    cdef int serve_tools(self) except -1
    cdef int wake_watch(self) except -1
    cdef int wake(self) except -1
    cdef int run_turns(self) except -1
    cdef int flush_soon(self, Source source) except -1

    # one turn
    cdef int turn(self) except -1
    cdef int turn_by_selector(self) except -1
    cdef int begin(self) noexcept
    cdef bint has_pending(self) noexcept
    cdef bint must_look(self) noexcept
    cdef int look(self) except -1
    cdef int make_event_room(self) except -1
    cdef int poll_events(self, int64_t timeout_ns) except -1
    cdef int poll_into_room(self, int64_t timeout_ns) noexcept nogil
    cdef int wait(self, int64_t timeout_ns) noexcept nogil
    cdef int run_ready(self, size_t count, bint woken) except -1
    cdef int run_instrumented(self, Handle handle) except -1
    cdef int dispatch(self) except -1
    cdef int serve_deferred(self) except -1
    cdef int serve(self, Source source, uint32_t ready) except -1
    cdef int run_observed(self, PyObject *handle) except -1
    cdef int serve_observed(self, Source source, uint32_t ready) except -1
    cdef int flush(self) except -1
    cdef int read_together(self) except -1


# Number of calls of the loop's own Python-level signal handler since the process began.
cdef unsigned int signal_count
