cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mioloop.reactor.core cimport (
    mio_burst, mio_clock_now, mio_event, mio_peek, mio_poll, mio_slab, mio_timers, mio_token,
    mio_transfer)
from mioloop.reactor.flush_policy cimport FlushPolicy
from mioloop.reactor.handle cimport Handle, HandleOwner, TimerHandle
from mioloop.reactor.python_api cimport PyTypeObject
from mioloop.reactor.read_buffers cimport ReadBuffers


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


cdef enum Trigger:
    EDGE
    LEVEL
    ONESHOT


cdef class Reactor(HandleOwner)


cdef class Source:
    """One thing that the reactor polls, and the methods that it calls when the thing is ready."""
    cdef readonly int fd                # -1: none, or closed
    cdef mio_token token
    cdef bint attached                  # token is in the reactor's slab
    cdef bint held                      # the slab's entry owns a reference
    cdef bint registered                # fd is registered on the poll
    cdef uint32_t polled_for            # interest of that registration
    cdef uint32_t poll_opts             # options of that registration
    cdef unsigned int forked_before     # children_forked at the time of attach()
    cdef uint32_t deferred           # readiness to serve in the next turn, without an event
    cdef bint flush_queued
    cdef Source next_unflushed          # in the reactor's queue, if flush_queued

    cdef int on_ready(self, uint32_t ready) except -1
    cdef int on_flush(self) except -1
    cdef int send_gathered(self) except -1
    cdef int drop_gathered(self) noexcept
    cdef bint prepare_send(self, mio_transfer *transfer) except -1
    cdef int complete_send(self, Py_ssize_t result) noexcept
    cdef bint can_prefetch(self, uint32_t ready) noexcept
    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept


cdef class Watcher(Source):
    """The reader and writer callbacks of one descriptor that the program owns."""
    cdef Handle reader
    cdef Handle writer
    cdef object fileobj                     # argument of add_reader(); None without a callback
    cdef uint32_t interest(self) noexcept   # the readiness that a callback or call waits for
    cdef int update(self, Reactor reactor) except -1    # register that interest on the poll
    cdef int hand_over(self, Reactor reactor, Source successor) except -1
    cdef int fire(self, Handle handle, bint writing) except -1


cdef class Reactor(HandleOwner):
    # objects of the core, owned until close_reactor()
    cdef mio_poll *poll                 # NULL once closed
    cdef mio_slab slab                  # token -> Source; each entry owns a reference
    cdef mio_timers timers              # each scheduled TimerHandle is owned by the heap
    cdef readonly str selector
    cdef Trigger trigger_mode
    cdef bint edges_emulated
    cdef unsigned int fork_generation   # value of `forks` in the process that made the poll

    # Events that were polled. An event that has not been dispatched stays here when an exception
    # leaves the loop. A nested turn appends its events.
    cdef mio_event *events
    cdef int event_capacity
    cdef int event_count
    cdef int event_next
    cdef int event_ahead                # events before this index have been offered a prefetch

    # the ready queue: a ring of owned Handle references
    cdef PyObject **ring
    cdef size_t ring_capacity           # a power of two
    cdef size_t ring_first
    cdef size_t ring_count

    cdef list deferred_sources  # Sources with deferred bits, for the next turn
    cdef list deferred_now# Sources with deferred bits that this turn serves
    cdef int deferred_next                 # index of the first in again_now that is not served yet

    # Looking at the selector while callbacks are ready (see must_look())
    cdef uint32_t own_sources           # number of sources that every loop has: its self-pipe
    cdef bint poll_is_shared            # the program may register on the poll by itself
    cdef unsigned int signals_seen      # signal_count when the selector was last polled
    cdef mio_peek *peek                 # NULL: not made yet, or not possible
    cdef bint peeks                     # False: the user or the system refuses peeks
    cdef bint peek_armed
    cdef unsigned long peek_thread      # the thread that made the peek
    cdef uint64_t peek_turn             # the turn that armed the peek
    cdef int empty_looks                # consecutive looks that found no event
    cdef int looks_before_peek          # number of empty looks that arms the peek

    cdef FlushPolicy policy             # decides whether a write() sends or gathers
    cdef Source unflushed               # head of the queue of sources whose on_flush() is due
    cdef PyObject *last_unflushed       # tail of that queue; borrowed, the queue owns it
    cdef mio_burst *burst               # one system call for many sources; NULL: not made
    cdef bint batching_allowed          # False: the user or the system refuses bursts
    cdef bint prefetches                # False: the program takes descriptors from transports
    cdef int batch_min                # smallest number of operations for which a burst pays
    cdef dict token_by_fd               # one registration for each descriptor

    cdef bint parked                    # inside a poll that may block
    cdef int wakers                     # number of threads that are about to end such a poll
    cdef bint running                   # inside run_turns()
    cdef unsigned long thread           # the thread that runs run_turns()
    cdef PyObject *next_running         # borrowed: its caller holds it, and it unlinks itself
    cdef bint stopping
    cdef bint closed
    cdef bint dismantling               # inside close_reactor()
    cdef bint instrumented                  # debug mode, or someone replaced Handle._run
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
    cdef int turns_since_poll
    cdef int64_t polled_ns              # when the last poll returned
    cdef int64_t spin_ns                # longest time to poll without blocking before a wait
    cdef int64_t spin_budget_ns         # current limit, 0 to spin_ns: follows the recent waits

    cdef ReadBuffers buffers            # the memory that all reads share

    cdef uint64_t turns, polls, spins, burst_total, event_total, callback_total, timer_total

    # called by loop/ and transports/
    cdef int open_reactor(self, str selector, str trigger, double spin_s, bint io_uring) except -1
    cdef int close_reactor(self) except -1
    cdef int free_all(self) noexcept
    cdef int renew(self) except -1
    cdef int renew_poll(self) except -1
    @cython.final
    cdef inline int push(self, PyObject *handle) except -1:
        if self.ring_count == self.ring_capacity:
            self.grow_ring()
        Py_INCREF(<object>handle)
        self.ring[(self.ring_first + self.ring_count) & (self.ring_capacity - 1)] = handle
        self.ring_count += 1
        return 0

    @cython.final
    cdef inline PyObject *pop(self) noexcept:
        """Remove and return the first handle. The caller takes the ring's reference over.

        The ring must not be empty.
        """
        cdef PyObject *first = self.ring[self.ring_first]
        self.ring_first = (self.ring_first + 1) & (self.ring_capacity - 1)
        self.ring_count -= 1
        return first

    @cython.final
    cdef inline int end_batch(self) except -1:
        """Send the gathered writes of the callbacks that have returned."""
        if self.unflushed is not None:
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
    cdef object post(self, object callback, tuple args, object context)
    cdef int schedule(self, PyObject *handle, int64_t deadline_ns) except -1
    cdef int wake(self) except -1
    cdef int run_turns(self) except -1
    cdef Source lookup(self, mio_token token)
    cdef Source source_of(self, int fd)
    cdef int keep_alive(self, Source source) noexcept
    cdef int drop_reference(self, Source source) except -1
    cdef int attach(self, Source source, int fd) except -1
    cdef int register(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef bint reregister_if_same(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef int unregister(self, Source source) noexcept
    cdef int detach(self, Source source, bint closing) except -1
    cdef bint forgets_closed(self, Source source) noexcept
    cdef int drained(self, Source source, uint32_t ready) except -1
    cdef int defer(self, Source source, uint32_t ready) except -1
    cdef int flush_soon(self, Source source) except -1
    cdef Handle watch_fd(self, int fd, bint writing, Handle handle, object fileobj)
    cdef bint unwatch_fd(self, int fd, bint writing) except -1
    cdef int remember_displaced(self, object fileobj) except -1

    # one turn
    cdef int turn(self) except -1
    cdef int turn_by_selector(self) except -1
    cdef int64_t until_next_timer(self) except? -2
    cdef bint has_pending(self) noexcept
    cdef bint must_look(self) noexcept
    cdef int look(self) except -1
    cdef int arm_peek(self) noexcept
    cdef int drop_peek(self) noexcept
    cdef int make_event_room(self) except -1
    cdef int poll_events(self, int64_t timeout_ns) except -1
    cdef int poll_into_room(self, int64_t timeout_ns) noexcept nogil
    cdef int wait(self, int64_t timeout_ns) noexcept nogil
    cdef int queue_due_timers(self) except -1
    cdef int run_ready(self, size_t count, bint woken) except -1
    cdef int run_instrumented(self, Handle handle) except -1
    cdef int dispatch(self) except -1
    cdef int serve_deferred(self) except -1
    cdef int serve(self, Source source, uint32_t ready) except -1
    cdef int serve_instrumented(self, Source source, uint32_t ready) except -1
    cdef int serving_failed(self, Source source, exc) except -1
    cdef int send_unflushed(self) except -1
    cdef int drop_unflushed(self) except -1
    cdef int flush(self) except -1
    cdef bint can_batch(self, int count) noexcept
    cdef int send_together(self) except -1
    cdef int read_together(self) except -1
    cdef int64_t timer_now_ns(self) except? -1       # loop.time() in ns: the loop may override it
    cdef int64_t monotonic_ns(self) noexcept
    cdef int grow_ring(self) except -1


cdef int check(int rc) except -1

# Number of calls of the loop's own Python-level signal handler since the process began.
cdef unsigned int signal_count

# Number of forks between the first process and this one. Each child counts one more.
cdef unsigned int forks
