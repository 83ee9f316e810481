cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mioloop.reactor.core cimport (
    mio_burst, mio_clock_now, mio_event, mio_peek, mio_poll, mio_slab, mio_timers, mio_token,
    mio_transfer)
from mioloop.reactor.flush_policy cimport FlushPolicy
from mioloop.reactor.handle cimport Handle, Host, TimerHandle


cdef extern from *:
    """
    /* 0: the class has none now, because it has just been changed. Since 3.13 the flag
     * Py_TPFLAGS_VALID_VERSION_TAG says nothing; every version sets the tag to 0. */
    static inline unsigned int mio_class_version(PyTypeObject *type)
    {
        return type->tp_version_tag;
    }
    """
    ctypedef struct PyTypeObject
    unsigned int class_version "mio_class_version"(PyTypeObject *) noexcept
    PyTypeObject *class_of "Py_TYPE"(object)


cdef enum:
    READ_SIZE = 262144      # of the buffer that reads share
    COPY_BELOW = 65536      # a smaller read is copied into bytes of its own size
    AHEAD_SIZE = 4032       # of a read before its turn; 4096 would put all in the same cache sets
    SPARES = 65             # blocks for small reads, and the first for any other


cdef enum Trigger:
    EDGE
    LEVEL
    ONESHOT


cdef class Reactor(Host)


cdef class Source:
    """One thing the reactor polls, and the calls it makes when it is ready."""
    cdef readonly int fd                # -1: none, or closed
    cdef mio_token token
    cdef bint attached                  # token is in the reactor's slab
    cdef bint held                      # the slab's entry owns a reference
    cdef bint registered                # fd is with the poll:
    cdef uint32_t polled_for            # its interest,
    cdef uint32_t poll_opts             # and options
    cdef unsigned int forked_before     # children of this process, when we were attached
    cdef uint32_t still_ready           # bits to be served again without an event
    cdef bint flush_queued
    cdef Source next_unflushed          # in the reactor's queue, if flush_queued

    cdef int on_ready(self, uint32_t ready) except -1
    cdef int on_flush(self) except -1
    cdef int send_gathered(self) except -1
    cdef int drop_gathered(self) noexcept
    cdef bint offers(self, mio_transfer *transfer) except -1
    cdef int offer_taken(self, Py_ssize_t result) noexcept
    cdef bint reads_ahead(self, uint32_t ready) noexcept
    cdef int read_ahead(self, const char *data, Py_ssize_t result) noexcept


cdef class Watcher(Source):
    """The reader and writer callbacks of one descriptor that is somebody else's."""
    cdef Handle reader
    cdef Handle writer
    cdef object fileobj                     # add_reader()'s, while there is a reader or writer
    cdef uint32_t interest(self) noexcept   # what someone waits for now
    cdef int update(self, Reactor reactor) except -1    # tell the poll
    cdef int give_way(self, Reactor reactor, Source successor) except -1
    cdef int fire(self, Handle handle, bint writing) except -1


cdef class Reactor(Host):
    # the core's objects, ours until close_reactor()
    cdef mio_poll *poll                 # NULL once closed
    cdef mio_slab slab                  # token -> Source; each entry owns a reference
    cdef mio_timers timers              # each scheduled TimerHandle is owned by the heap
    cdef readonly str selector
    cdef Trigger trigger_mode
    cdef bint edges_emulated
    cdef unsigned int fork_generation   # of the process whose poll this is

    # Events that were polled. Those not yet dispatched outlive an exception, and a nested turn
    # polls behind them.
    cdef mio_event *events
    cdef int event_capacity
    cdef int event_count
    cdef int event_next
    cdef int event_ahead                # up to which was read before its turn

    # the ready queue: a ring of owned Handle references
    cdef PyObject **ring
    cdef size_t ring_capacity           # a power of two
    cdef size_t ring_first
    cdef size_t ring_count

    cdef list again                     # Sources with still_ready bits, for the next turn
    cdef list again_now                 # those of this turn
    cdef int again_next                 # the first of them that has not been served

    # Looking at the selector while callbacks are ready (see must_look())
    cdef uint32_t own_sources           # the loop's own, which every loop has: its self-pipe
    cdef bint poll_is_shared            # the program may register on the poll by itself
    cdef unsigned int signals_seen      # signal_count when the selector was last polled
    cdef mio_peek *peek                 # NULL: not yet, or not possible
    cdef bint peeks                     # unless the user or the system refuses
    cdef bint peek_armed
    cdef unsigned long peek_thread      # the thread that made it
    cdef uint64_t peek_turn             # in which it was armed
    cdef int empty_looks                # looks in a row that found nothing
    cdef int looks_before_peek          # so many of them arm the peek

    cdef FlushPolicy policy             # whether a write() sends, or gathers
    cdef Source unflushed               # the first of those whose on_flush() is due, or None
    cdef PyObject *last_unflushed       # borrowed: `unflushed` leads to it
    cdef mio_burst *burst               # one call for many sources; NULL: not yet, or never
    cdef bint bursts                    # unless the user or the system refuses
    cdef bint prefetches                # unless the program takes descriptors from transports
    cdef int burst_least                # operations, from which on one call for all is cheaper
    cdef dict token_by_fd               # one registration a descriptor

    cdef bint parked                    # inside a poll that may block
    cdef int wakers                     # threads that are about to end such a poll
    cdef bint running                   # inside run_turns()
    cdef unsigned long thread           # the one that is in run_turns()
    cdef PyObject *next_running         # borrowed: each is held by its caller, and unlinks itself
    cdef bint stopping
    cdef bint closed
    cdef bint dismantling               # inside close_reactor()
    cdef bint slow_run                  # debug mode, or someone replaced Handle._run
    cdef bint goes_by_selector          # a tool replaced loop._selector, or a part of it
    cdef bint leaves_native_run         # _run_once() was replaced: run_forever() calls it each turn
    cdef PyTypeObject *timer_class      # asyncio.TimerHandle, and what a thread's call makes
    cdef PyTypeObject *thread_safe_class
    cdef unsigned int timer_class_version   # those that the loop knows: see look_around()
    cdef unsigned int thread_safe_class_version
    cdef unsigned int class_version         # of our own class, when we looked last
    cdef object shown_timers            # loop._scheduled, while a tool may change it, or None
    cdef object displaced               # a WeakSet of closed fileobjs whose watches are gone, or None
    cdef bint run_until_stopped         # the next run_turns() goes on until stopping
    cdef int turns_since_poll
    cdef int64_t polled_ns              # when the last poll returned
    cdef int64_t spin_ns                # longest time to poll without blocking before a wait
    cdef int64_t spin_budget_ns         # what experience has made of it

    cdef bytes read_buffer              # of READ_SIZE bytes, for whoever reads; None if lent
    cdef bytes plain_buffer             # the same, for what was decrypted
    cdef list spares                    # of the last reads; nobody's, where only we refer to it
    cdef Py_ssize_t[SPARES] spare_rooms # bytes that each was made for
    cdef int spare_used                 # the last one

    cdef uint64_t turns, polls, spins, burst_total, event_total, callback_total, timer_total

    # for loop/ and transports/
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
        """The first handle of the ring, which is not empty, with the ring's reference."""
        cdef PyObject *first = self.ring[self.ring_first]
        self.ring_first = (self.ring_first + 1) & (self.ring_capacity - 1)
        self.ring_count -= 1
        return first

    @cython.final
    cdef inline int end_batch(self) except -1:
        """The callbacks that ran have returned: send what they wrote and did not send."""
        if self.unflushed is not None:
            self.flush()
        return 0

    @cython.final
    cdef inline int look_around(self) except -1:
        """Once a turn: has a tool replaced Handle._run or a method of the loop, or taken
        loop._scheduled?

        A class has another version tag after each change of one of its attributes, or one of its
        bases'.
        """
        if (class_version(self.timer_class) != self.timer_class_version
                or class_version(self.thread_safe_class) != self.thread_safe_class_version
                or class_version(class_of(self)) != self.class_version
                or self.shown_timers is not None):
            self.serve_tools()
        return 0

    cdef int serve_tools(self) except -1
    cdef object soon(self, object callback, tuple args, object context)
    cdef int schedule(self, PyObject *handle, int64_t deadline_ns) except -1
    cdef int wake(self) except -1
    cdef int run_turns(self) except -1
    cdef Source lookup(self, mio_token token)
    cdef Source source_of(self, int fd)
    cdef int hold(self, Source source) noexcept
    cdef int let_go(self, Source source) except -1
    cdef int adopt(self, Source source, int fd) except -1
    cdef int register(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef bint reregister_if_same(self, Source source, uint32_t interest, uint32_t opts) except -1
    cdef int unregister(self, Source source) noexcept
    cdef int release(self, Source source, bint closing) except -1
    cdef bint forgets_closed(self, Source source) noexcept
    cdef int drained(self, Source source, uint32_t ready) except -1
    cdef int serve_again(self, Source source, uint32_t ready) except -1
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
    cdef int run_slowly(self, Handle handle) except -1
    cdef int dispatch(self) except -1
    cdef int serve_again_now(self) except -1
    cdef int serve(self, Source source, uint32_t ready) except -1
    cdef int serve_slowly(self, Source source, uint32_t ready) except -1
    cdef int serving_failed(self, Source source, exc) except -1
    cdef int send_unflushed(self) except -1
    cdef int drop_unflushed(self) except -1
    cdef int flush(self) except -1
    cdef bint make_burst(self, int count) noexcept
    cdef int send_together(self) except -1
    cdef int read_together(self) except -1
    cdef int64_t now(self) except? -1       # loop.time() in ns: the loop may override it
    cdef int64_t monotonic(self) noexcept
    cdef int grow_ring(self) except -1


cdef int check(int rc) except -1

# Signals that had a Python-level handler of ours, since the process began.
cdef unsigned int signal_count

# Forks that this process is behind, counted in the child.
cdef unsigned int forks
