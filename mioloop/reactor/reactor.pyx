"""The reactor: ready queue, timers, sources, and one turn over the Poll core.

One turn has five named steps: poll, queue the due timers, run the ready handles, dispatch the
events, run the callbacks of the due timers. The writes that a step gathered (flush_policy.pxd) are
sent after it. See turn().

Threads: every function here needs the GIL and belongs to the thread that runs the loop. The
exception is push() followed by wake(): any thread that holds the GIL may call them, because a push
neither runs Python code nor releases the GIL.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, EPERM
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove, memset

from mioloop.reactor.core cimport *
from mioloop.reactor.flush_policy cimport (
    batch_ends, callbacks_begin, events_begin, forget_thread, look, run_ends)
from mioloop.reactor.handle cimport Handle, TimerHandle, handle_of, run_once
from mioloop.reactor.read_buffers cimport (
    AHEAD_SIZE, ReadBuffers, borrow, drop_buffers, give_back)
from mioloop.reactor.sealed cimport seal

import errno
import os
import weakref

cdef inline int64_t until(int64_t deadline_ns, int64_t now_ns) noexcept nogil:
    """The time until the deadline; 0 if it has passed. A replaced clock may have any value."""
    if deadline_ns <= now_ns:
        return 0
    if now_ns < 0 and deadline_ns > INT64_MAX + now_ns:
        return INT64_MAX
    return deadline_ns - now_ns


cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from * nogil:
    int add_atomically "__sync_add_and_fetch"(int *number, int by)

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef extern from *:
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct NativeType "PyTypeObject":
        traverseproc tp_traverse
        inquiry tp_clear

cdef enum:
    LEAST_EVENT_CAPACITY = 64
    FIRST_RING_CAPACITY = 256
    MOST_SPIN_NS = 1000000000           # one second: a longer wait should sleep
    # While callbacks are ready, a loop that watches only its self-pipe polls only after so many
    # turns or so much time. So a chain of call_soon() makes no system call for each link.
    TURNS_PER_POLL = 61
    POLL_INTERVAL_NS = 200000
    # A peek costs as much as four looks, and pays if it saves more than four.
    LOOKS_BEFORE_PEEK = 4
    MOST_LOOKS_BEFORE_PEEK = 256
    TURNS_OF_A_GOOD_PEEK = 16
    SOURCES_PER_BATCH = 64              # gathered writes are sent at least after so many sources

TRIGGERS = {"edge": EDGE, "level": LEVEL, "oneshot": ONESHOT}

# A child shares its parent's epoll until Reactor.renew(), so it must not change registrations.
forks = 0
# A child holds the open files of the moment of its fork. A descriptor that the parent closes after
# the fork therefore keeps its registration.
cdef unsigned int children_forked = 0
signal_count = 0


# The reactors that are inside run_turns(), in any thread. Only these can have gathered writes.
cdef PyObject *running_reactors = NULL


def _before_fork():
    """Send the writes that this thread has gathered, so that they are sent only once (R95).

    The child would otherwise send them a second time.
    """
    cdef PyObject *each = running_reactors
    while each != NULL:
        if (<Reactor>each).thread == PyThread_get_thread_ident():
            (<Reactor>each).send_unflushed()
        each = (<Reactor>each).next_running


def _after_fork_in_child():
    """Drop the writes that other threads have gathered: these threads send them in the parent."""
    global forks, children_forked
    cdef PyObject *each = running_reactors
    forks += 1
    children_forked += 1                # the parent holds the same open files
    while each != NULL:
        (<Reactor>each).policy.off = True
        run_ends(&(<Reactor>each).policy)
        if (<Reactor>each).thread != PyThread_get_thread_ident():
            (<Reactor>each).drop_unflushed()
        each = (<Reactor>each).next_running


def _after_fork_in_parent():
    global children_forked
    children_forked += 1


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)


def selectors():
    """The names of the selectors of this build, the default first."""
    names = []
    while mio_selector_name(len(names)) != NULL:
        names.append(mio_selector_name(len(names)).decode())
    return names


def io_uring_problem():
    """The name of the errno with which the system refuses an io_uring; None if it allows one."""
    cdef mio_burst *burst
    cdef int rc = mio_burst_new(&burst)
    mio_burst_free(burst)
    return None if rc == 0 else errno.errorcode.get(-rc, str(-rc))


cdef int check(int rc) except -1:
    """Raise OSError for -errno. No other function of the Cython half does so for the core."""
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return rc


cdef extern from *:
    """
    /* glibc gives memory at the top of the heap back to the system whenever more than 128 KiB of
     * it is free, and streams of large messages then pay page faults for the same memory again
     * and again: 24 for each of 100 KiB. Once a large block has come and gone, the limit is twice
     * that block's size (malloc(3), M_MMAP_THRESHOLD): a process may keep 16 MiB. */
    static void mio_keep_heap(void)
    {
        void *volatile block = malloc(8 << 20);

        free(block);
    }
    """
    void mio_keep_heap() nogil


cdef class Source:

    def __cinit__(self):
        self.fd = -1

    cdef int on_ready(self, uint32_t ready) except -1:
        """Called when at least one condition of *ready* (MIO_READABLE ...) holds.

        May run any user code.
        """
        return 0

    cdef int on_flush(self) except -1:
        """Called once after flush_soon(), when the batch of callbacks has run."""
        return 0

    cdef int send_gathered(self) except -1:
        """Send the data that waits for on_flush(). Runs no callback. on_flush() is still called."""
        return 0

    cdef int drop_gathered(self) noexcept:
        """Drop the data that waits for on_flush(): another process sends it."""
        return 0

    cdef bint prepare_send(self, mio_transfer *transfer) except -1:
        """Fill *transfer* with the data that on_flush() would send first.

        False if that data is not one contiguous piece, or needs more than a send(). After True the
        bytes stay in place until complete_send() gets the result, before on_flush().
        """
        return False

    cdef int complete_send(self, Py_ssize_t result) noexcept:
        """Record the result of the send: a positive number of bytes, or -errno.

        on_flush() acts on it.
        """
        return 0

    cdef bint can_prefetch(self, uint32_t ready) noexcept:
        """Whether on_ready(ready) would begin with a recv() of at most AHEAD_SIZE bytes."""
        return False

    cdef int complete_prefetch(self, const char *data, Py_ssize_t result) noexcept:
        """Record the result of the recv(): the number of bytes in *data*, or -errno.

        on_ready() acts on it.
        """
        return 0


cdef class Watcher(Source):

    cdef uint32_t interest(self) noexcept:
        return ((MIO_READABLE if self.reader is not None else 0)
                | (MIO_WRITABLE if self.writer is not None else 0))

    cdef int update(self, Reactor reactor) except -1:
        # An unchanged interest is registered, too: the fd may have been closed and used again.
        return reactor.register(self, self.interest(), MIO_LEVEL)

    cdef int hand_over(self, Reactor reactor, Source successor) except -1:
        """Release this watcher, because *successor* takes the descriptor over."""
        return reactor.detach(self, False)

    cdef int on_ready(self, uint32_t ready) except -1:
        if wakes_reader(ready) and self.reader is not None:
            self.fire(self.reader, False)
        if wakes_writer(ready) and self.writer is not None:
            self.fire(self.writer, True)
        return 0

    cdef int fire(self, Handle handle, bint writing) except -1:
        cdef Reactor reactor = <Reactor>handle.host
        if handle._cancelled:               # handle.cancel() was called, not remove_reader()
            reactor.unwatch_fd(self.fd, writing)
        elif reactor.instrumented:
            reactor.run_instrumented(handle)
        else:
            handle.run()
        return 0


cdef class Reactor(HandleOwner):

    def __cinit__(self, *args, **kwargs):
        mio_slab_init(&self.slab)
        mio_timers_init(&self.timers)
        self.closed = True                  # until open_reactor()
        self.deferred_sources = []
        self.deferred_now = []
        self.token_by_fd = {}

    def __dealloc__(self):
        self.close_reactor()

    cdef int open_reactor(self, str selector, str trigger, double spin_s,
                          bint io_uring) except -1:
        """Make the poll. Raises ValueError for an unknown name, OSError if the system refuses."""
        if trigger not in TRIGGERS:
            raise ValueError(f"trigger must be one of {', '.join(TRIGGERS)}, not {trigger!r}")
        names = selectors()
        if selector is None:
            selector = names[0]
        if selector not in names:
            raise ValueError(f"selector must be one of {', '.join(names)}, not {selector!r}")
        if self.dismantling:
            raise RuntimeError("the event loop is being closed")
        self.close_reactor()                # __init__() may be called twice
        check(mio_poll_new(selector.encode(), &self.poll))
        self.selector = selector
        self.trigger_mode = TRIGGERS[trigger]
        self.batching_allowed = self.peeks = io_uring
        self.looks_before_peek = LOOKS_BEFORE_PEEK
        self.batch_min = 4
        self.prefetches = True
        self.edges_emulated = mio_poll_emulates_edges(self.poll)
        self.fork_generation = forks
        self.spin_ns = self.spin_budget_ns = <int64_t>min(spin_s * 1e9, <double>MOST_SPIN_NS)
        self.event_capacity = LEAST_EVENT_CAPACITY
        self.events = <mio_event *>malloc(LEAST_EVENT_CAPACITY * sizeof(mio_event))
        self.ring = <PyObject **>malloc(FIRST_RING_CAPACITY * sizeof(PyObject *))
        if self.events == NULL or self.ring == NULL:
            self.close_reactor()
            raise MemoryError
        self.ring_capacity = FIRST_RING_CAPACITY
        mio_keep_heap()
        self.closed = False
        return 0

    cdef int close_reactor(self) except -1:
        """Release all handles, timers and sources, then the poll. Idempotent.

        __dealloc__ and tp_clear call this, too. A dropped object may run any code. That code finds
        a closed loop: the ring, the heap and the slab accept no new entry, and the poll exists
        until all three are empty.
        """
        self.closed = True
        if self.dismantling:
            return 0
        self.dismantling = True
        # The threads that `wakers` counts do not exist in a child that was forked meanwhile.
        while add_atomically(&self.wakers, 0) and self.fork_generation == forks:
            sched_yield()
        try:
            drop_ring(self)
            drop_timers(self)
            drop_sources(self)
            self.deferred_sources = []
            self.deferred_now = []
            self.token_by_fd = {}
        finally:                            # the assignments above may raise MemoryError
            self.free_all()
        return 0

    cdef int free_all(self) noexcept:
        mio_timers_free(&self.timers)
        mio_slab_free(&self.slab)
        mio_burst_free(self.burst)
        self.burst = NULL
        self.drop_peek()
        drop_buffers(&self.buffers)
        forget_thread(&self.policy)
        mio_poll_free(self.poll)
        self.poll = NULL
        free(self.events)
        self.events = NULL
        self.event_capacity = self.event_count = self.event_next = self.event_ahead = 0
        self.deferred_next = 0
        self.dismantling = False
        return 0

    cdef int renew(self) except -1:
        """Called at the first use of the poll in a forked child. The loop overrides this."""
        return self.renew_poll()

    cdef int renew_poll(self) except -1:
        """Replace the parent's poll by a new one, and register all sources there again.

        If this raises, the loop does not poll, and the next use of the poll tries again.
        """
        cdef Source source
        cdef uint32_t i
        cdef int rc

        if self.closed:
            raise RuntimeError("Event loop is closed")
        check(mio_poll_renew(self.poll))
        mio_burst_free(self.burst)
        self.burst = NULL
        self.drop_peek()
        self.wakers = 0
        self.parked = False
        for i in range(self.slab.used):
            source = <Source>self.slab.entries[i].value if self.slab.entries[i].value else None
            if source is None or not source.registered:
                continue
            rc = mio_poll_register(self.poll, source.fd, source.token, source.polled_for,
                                   source.poll_opts)
            if rc == -EBADF or rc == -EPERM or rc == -EEXIST:   # closed, and perhaps used again
                source.registered = False
            else:
                check(rc)
        self.fork_generation = forks
        return 0

    # -- the ready queue ---------------------------------------------------

    cdef int grow_ring(self) except -1:
        cdef size_t capacity = self.ring_capacity * 2
        cdef PyObject **ring
        cdef size_t i
        if capacity == 0:
            raise RuntimeError("Event loop is closed")
        ring = <PyObject **>malloc(capacity * sizeof(PyObject *))
        if ring == NULL:
            raise MemoryError
        for i in range(self.ring_count):
            ring[i] = self.ring[(self.ring_first + i) & (self.ring_capacity - 1)]
        free(self.ring)
        self.ring = ring
        self.ring_capacity = capacity
        self.ring_first = 0
        return 0

    cdef object post(self, object callback, tuple args, object context):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        handle = handle_of(self, callback, args, context)
        self.push(<PyObject *>handle)
        return handle

    cdef int wake(self) except -1:
        """End a poll that is blocking. Needed after a push() from another thread."""
        if self.parked:
            self.parked = False             # one write is enough
            if self.fork_generation != forks:
                return 0                    # `parked` is the parent's: no poll blocks here
            # Release the GIL: the loop needs it as soon as the write has woken it, and would
            # have to wait a second time. close_reactor() waits until `wakers` is 0. A thread
            # decrements it before it asks for the GIL, because it may never get the GIL.
            add_atomically(&self.wakers, 1)
            with nogil:
                mio_poll_wake(self.poll)
                add_atomically(&self.wakers, -1)
        return 0

    # -- timers ------------------------------------------------------------

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

    cdef int serve_tools(self) except -1:
        """See look_around(). The loop overrides this."""
        return 0

    # -- one turn ----------------------------------------------------------

    cdef int run_turns(self) except -1:
        """Run one turn; or, if run_until_stopped is set, turns until `stopping` is set."""
        cdef bint nested = self.running
        cdef bint go_on = self.run_until_stopped and not nested and not self.leaves_native_run
        self.turns_since_poll = TURNS_PER_POLL      # the first turn looks at the selector
        if self.peek_thread != PyThread_get_thread_ident():
            self.drop_peek()
        self.running = True
        if not nested:
            enter_run(self)
        try:
            while True:
                self.turn()
                if self.stopping or not go_on or self.leaves_native_run:
                    return 0
        except BaseException:
            if self.unflushed is not None:      # the loop may never run again
                self.flush()
            raise
        finally:
            run_ends(&self.policy)
            self.running = nested
            if not nested:
                leave_run(self)

    cdef int turn(self) except -1:
        """Run one turn in asyncio's order: queued handles, fd events, due timers (rule R2).

        If KeyboardInterrupt or SystemExit leaves the loop (rule R13), the rest of the turn stays in
        the ring, in `events` and in `again_now`. The next turn continues with it.
        """
        cdef size_t queued, due

        self.turns += 1
        self.look_around()
        if self.goes_by_selector:
            return self.turn_by_selector()
        if not (self.ring_count or self.stopping or self.has_pending()):
            self.poll_events(self.until_next_timer())
        elif self.must_look():
            self.look()
        if self.deferred_sources:
            if self.deferred_now:                  # an exception ended the turn that served them
                self.deferred_now.extend(self.deferred_sources)
                self.deferred_sources.clear()
            else:
                self.deferred_sources, self.deferred_now = self.deferred_now, self.deferred_sources

        queued = self.ring_count
        if self.timers.count:
            self.queue_due_timers()
        due = self.ring_count - queued

        self.run_ready(queued, True)
        if self.event_next < self.event_count or self.deferred_now:
            self.dispatch()
        if due:
            self.run_ready(due, False)
        return 0

    cdef int turn_by_selector(self) except -1:
        """Run a turn that calls loop._selector, as asyncio does. The loop overrides this."""
        return 0

    cdef bint has_pending(self) noexcept:
        """Whether a source has work that no poll will report."""
        return (self.event_next < self.event_count or self.deferred_sources or self.deferred_now
                or self.unflushed is not None)

    cdef bint must_look(self) noexcept:
        """Whether a turn that does not wait polls the selector.

        Rule R92: a turn sees every descriptor that was ready when the turn began, as asyncio's
        does. The poll is left out only where it would find no event: the loop watches only its
        self-pipe, or the peek has not completed.
        """
        if (self.slab.count <= self.own_sources and not self.poll_is_shared
                and self.signals_seen == signal_count):
            if (self.turns_since_poll < TURNS_PER_POLL
                    and mio_clock_now() - self.polled_ns < POLL_INTERVAL_NS):
                self.turns_since_poll += 1
                return False
            return True
        if not self.peek_armed:
            return True
        if self.fork_generation == forks and mio_peek_is_quiet(self.peek):
            return False
        self.peek_armed = False
        # A peek that completes after a few turns saves less than it costs: arm the next one later.
        if self.turns - self.peek_turn >= TURNS_OF_A_GOOD_PEEK:
            self.looks_before_peek = LOOKS_BEFORE_PEEK
        elif self.looks_before_peek < MOST_LOOKS_BEFORE_PEEK:
            self.looks_before_peek *= 2
        return True

    cdef int look(self) except -1:
        """Poll without waiting. Arm the peek after several polls without an event."""
        cdef int count = self.event_count - self.event_next

        self.poll_events(0)
        if self.event_count - self.event_next > count:
            self.empty_looks = 0
            return 0
        self.empty_looks += 1
        if self.empty_looks >= self.looks_before_peek and self.peeks:
            self.arm_peek()
        return 0

    cdef int arm_peek(self) noexcept:
        cdef int fd

        self.empty_looks = 0
        if self.peek_armed or self.slab.count <= self.own_sources:
            return 0
        if self.fork_generation != forks:
            self.peeks = False
            return 0
        if self.peek == NULL:
            fd = mio_poll_fd(self.poll)
            if fd < 0 or mio_peek_new(fd, &self.peek) < 0:
                self.peeks = False
                return 0
            self.peek_thread = PyThread_get_thread_ident()
        self.peek_armed = self.peeks = mio_peek_arm(self.peek)
        self.peek_turn = self.turns
        return 0

    cdef int drop_peek(self) noexcept:
        mio_peek_free(self.peek)
        self.peek = NULL
        self.peek_armed = False
        return 0

    cdef int64_t until_next_timer(self) except? -2:
        """The time that a poll may wait, in ns; -1: without limit."""
        cdef int64_t now

        if self.timers.count == 0:
            return -1
        now = self.timer_now_ns()
        # now() may run Python code, which may cancel timers or queue callbacks.
        if self.timers.count == 0:
            return -1
        if self.ring_count:
            return 0
        return until(mio_timers_first(&self.timers).deadline_ns, now)

    cdef int make_event_room(self) except -1:
        """Move the undispatched events to the front, and make room for one event of each source."""
        cdef int pending = self.event_count - self.event_next
        cdef int needed = pending + <int>self.slab.count + 1
        cdef void *more

        if self.event_next:
            if pending:
                memmove(self.events, self.events + self.event_next, pending * sizeof(mio_event))
            self.event_ahead = max(0, self.event_ahead - self.event_next)
            self.event_next = 0
            self.event_count = pending
        if needed > self.event_capacity:
            needed = max(needed, 2 * self.event_capacity)
            more = realloc(self.events, needed * sizeof(mio_event))
            if more != NULL:
                self.events = <mio_event *>more
                self.event_capacity = needed
            elif self.event_count == self.event_capacity:
                raise MemoryError
        return 0

    cdef int poll_events(self, int64_t timeout_ns) except -1:
        """Poll for at most *timeout_ns* (-1: without limit).

        The new events are appended to the events that are not dispatched yet.
        """
        cdef int n
        cdef mio_poll *poll = self.poll

        if self.closed:
            raise RuntimeError("Event loop is closed")
        if self.fork_generation != forks:
            self.renew()
        self.make_event_room()
        self.signals_seen = signal_count
        if timeout_ns == 0:
            n = self.poll_into_room(0)
        else:
            self.parked = True
            with nogil:
                n = self.wait(timeout_ns)
            self.parked = False
        self.polls += 1
        self.polled_ns = mio_clock_now()
        self.turns_since_poll = 0
        if n < 0:
            if n != -EINTR:
                check(n)
            n = 0
            PyErr_CheckSignals()
        self.event_count += n
        self.event_total += n
        return 0

    cdef int poll_into_room(self, int64_t timeout_ns) noexcept nogil:
        return mio_poll_poll(self.poll, self.events + self.event_count,
                             self.event_capacity - self.event_count, timeout_ns)

    cdef int wait(self, int64_t timeout_ns) noexcept nogil:
        """Poll until there is an event. Spin before blocking if recent spins have paid.

        A wait that ends by an event within `spin_ns` makes the next spin longer, up to `spin_ns`.
        Any other wait halves it, down to 0. Blocking waits are timed, too, so that a loop that has
        stopped spinning notices when spinning would pay again.
        """
        cdef int64_t began_ns, now_ns, until_ns
        cdef int n = 0

        if self.spin_ns == 0:
            return self.poll_into_room(timeout_ns)
        began_ns = now_ns = mio_clock_now()
        until_ns = began_ns + self.spin_budget_ns
        if 0 <= timeout_ns < self.spin_budget_ns:
            until_ns = began_ns + timeout_ns
        # A wake-up produces no event: wake() clears `parked` before it writes.
        while n == 0 and self.parked and now_ns < until_ns:
            n = self.poll_into_room(0)
            now_ns = mio_clock_now()
            self.spins += 1
        if n == 0 and self.parked:
            if timeout_ns >= 0:
                timeout_ns = max(0, timeout_ns - (now_ns - began_ns))
            n = self.poll_into_room(timeout_ns)
            now_ns = mio_clock_now()
        if (n > 0 or not self.parked) and now_ns - began_ns <= self.spin_ns:
            self.spin_budget_ns = min(self.spin_ns, max(2 * self.spin_budget_ns, self.spin_ns // 8))
        elif self.spin_budget_ns > self.spin_ns // 64:
            self.spin_budget_ns //= 2
        else:
            self.spin_budget_ns = 0
        return n

    cdef int queue_due_timers(self) except -1:
        cdef int64_t now = self.timer_now_ns()
        cdef mio_timer *first

        while True:
            first = mio_timers_first(&self.timers)
            if first == NULL or first.deadline_ns > now:
                return 0
            handle = <TimerHandle>first.owner
            self.push(<PyObject *>handle)
            self.forget_timer(handle)
            self.timer_total += 1

    cdef int run_ready(self, size_t count, bint woken) except -1:
        """Run the next *count* handles of the ring, then flush the writes that they gathered.

        *woken*: events may have queued the handles. False for the handles of due timers.
        """
        cdef PyObject *first

        callbacks_begin(&self.policy, woken and not self.instrumented, self.turns, count)
        while count and self.ring_count:    # a nested run may have emptied it
            count -= 1
            first = self.pop()
            if (<Handle>first)._cancelled:
                Py_DECREF(<object>first)
                continue
            self.callback_total += 1
            if self.instrumented:
                handle = <Handle>first
                Py_DECREF(handle)           # the ring's reference: `handle` holds another one
                self.run_instrumented(handle)
            else:
                run_once(first)
            if look(&self.policy):
                self.end_batch()
        batch_ends(&self.policy)
        self.end_batch()
        return 0

    cdef int run_instrumented(self, Handle handle) except -1:
        """Run *handle* in debug mode or by a replaced Handle._run. The loop overrides this."""
        return handle.run()

    cdef int serve_instrumented(self, Source source, uint32_t ready) except -1:
        """Serve *source* in debug mode or with a replaced Handle._run. The loop overrides this."""
        return source.on_ready(ready)

    cdef int dispatch(self) except -1:
        cdef mio_event *event
        cdef void *found
        cdef Source source = None
        cdef int served = 0

        events_begin(&self.policy, not self.instrumented, self.turns,
                     self.event_count - self.event_next
                     + len(self.deferred_now) - self.deferred_next)
        if self.deferred_now:
            self.serve_deferred()
        while self.event_next < self.event_count:
            try:                            # around all events: entering it costs time
                while self.event_next < self.event_count:
                    if self.event_next >= self.event_ahead:
                        self.read_together()
                    event = &self.events[self.event_next]
                    self.event_next += 1
                    # The token of a source that was released after the poll finds no source, even
                    # if another source has the fd now.
                    found = mio_slab_get(&self.slab, event.token)
                    if found != NULL:
                        source = <Source>found      # a new reference: the slab may drop its own
                        self.serve(source, event.ready)
                        served += 1
                        if look(&self.policy) or served % SOURCES_PER_BATCH == 0:
                            self.end_batch()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.serving_failed(source, exc)
        batch_ends(&self.policy)
        self.end_batch()
        return 0

    cdef int serve_deferred(self) except -1:
        """Serve the sources of `again_now`. A nested turn continues where the outer one is."""
        cdef Source source
        cdef uint32_t ready

        while self.deferred_next < len(self.deferred_now):
            source = <Source>self.deferred_now[self.deferred_next]
            self.deferred_next += 1
            ready, source.deferred = source.deferred, 0
            if ready and source.attached:
                try:
                    self.serve(source, ready)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    self.serving_failed(source, exc)
        self.deferred_now.clear()
        self.deferred_next = 0
        return 0

    cdef int serve(self, Source source, uint32_t ready) except -1:
        if self.instrumented:
            self.serve_instrumented(source, ready)
        else:
            source.on_ready(ready)
        return 0

    cdef int serving_failed(self, Source source, exc) except -1:
        """Report *exc*, raised while *source* was served. Callbacks report their own exceptions."""
        self.report({"message": f"Fatal error: {source!r} could not be served", "exception": exc})
        return 0

    cdef int flush(self) except -1:
        """Send the gathered writes, with one send for each source."""
        cdef Source source = None
        cdef PyObject *last = self.last_unflushed   # sources queued meanwhile wait for the next one

        if self.unflushed.next_unflushed is not None:
            self.send_together()
        while <PyObject *>source != last and self.unflushed is not None:
            try:                            # around all sources: entering it costs time
                while <PyObject *>source != last and self.unflushed is not None:
                    source = self.unflushed
                    self.unflushed = source.next_unflushed
                    source.next_unflushed = None
                    source.flush_queued = False
                    if source.attached:
                        source.on_flush()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.serving_failed(source, exc)
        return 0

    cdef int send_unflushed(self) except -1:
        cdef Source source = self.unflushed

        while source is not None:
            if source.attached:
                source.send_gathered()
            source = source.next_unflushed
        return 0

    cdef int drop_unflushed(self) except -1:
        cdef Source source = self.unflushed

        while source is not None:
            source.drop_gathered()
            source = source.next_unflushed
        return 0

    cdef bint can_batch(self, int count) noexcept:
        """Whether *count* operations can be made in one system call, and are then cheaper."""
        if count < self.batch_min or not self.batching_allowed or self.fork_generation != forks:
            return False
        if self.burst == NULL:
            self.batching_allowed = mio_burst_new(&self.burst) == 0
        self.burst_total += self.batching_allowed
        return self.batching_allowed

    cdef int send_together(self) except -1:
        """Send the data that the unflushed sources offer. Runs no user code."""
        cdef mio_transfer transfers[MIO_BURST_MOST]
        cdef PyObject *sources[MIO_BURST_MOST]      # borrowed: the queue owns them
        cdef Source source = self.unflushed
        cdef int count = 0, i

        while source is not None and count < MIO_BURST_MOST:
            if source.attached and source.prepare_send(&transfers[count]):
                transfers[count].fd = source.fd
                sources[count] = <PyObject *>source
                count += 1
            source = source.next_unflushed
        if not self.can_batch(count):
            return 0
        self.batching_allowed = mio_burst_send(self.burst, transfers, count)
        for i in range(count):
            (<Source>sources[i]).complete_send(transfers[i].result)
        return 0

    cdef int read_together(self) except -1:
        """Read for the sources of the next events. Runs no user code."""
        cdef mio_transfer transfers[MIO_BURST_MOST]
        cdef PyObject *sources[MIO_BURST_MOST]      # borrowed: the slab owns them
        cdef bytes buffer
        cdef char *room
        cdef void *found
        cdef int count = 0, i

        self.event_ahead = min(self.event_count, self.event_next + MIO_BURST_MOST)
        if (self.event_ahead - self.event_next < self.batch_min
                or not (self.batching_allowed and self.prefetches)):
            return 0
        buffer = borrow(&self.buffers.received)     # in use by no other code: none runs meanwhile
        room = PyBytes_AS_STRING(buffer)
        give_back(&self.buffers.received, buffer)
        for i in range(self.event_next, self.event_ahead):
            found = mio_slab_get(&self.slab, self.events[i].token)
            if found != NULL and (<Source>found).can_prefetch(self.events[i].ready):
                transfers[count].fd = (<Source>found).fd
                transfers[count].buf = room + count * AHEAD_SIZE
                transfers[count].len = AHEAD_SIZE
                sources[count] = <PyObject *>found
                count += 1
        if not self.can_batch(count):
            return 0
        self.batching_allowed = mio_burst_recv(self.burst, transfers, count)
        for i in range(count):
            (<Source>sources[i]).complete_prefetch(<const char *>transfers[i].buf,
                                                   transfers[i].result)
        return 0

    # -- sources -----------------------------------------------------------

    cdef Source lookup(self, mio_token token):
        """The source of *token*; None if it was released, even if another has its slot now."""
        cdef void *found = mio_slab_get(&self.slab, token)
        return None if found == NULL else <Source>found

    cdef int attach(self, Source source, int fd) except -1:
        """Give *source* a token and the descriptor *fd* (-1: none). The slab takes a reference."""
        if self.closed:
            raise RuntimeError("Event loop is closed")
        stale = self.source_of(fd)
        if isinstance(stale, Watcher):      # its file was closed and the number used again
            self.remember_displaced((<Watcher>stale).fileobj)
            (<Watcher>stale).hand_over(self, source)
        check(mio_slab_insert(&self.slab, <void *>source, &source.token))
        if fd >= 0:
            try:
                self.token_by_fd[fd] = source.token
            except BaseException:           # no memory
                mio_slab_remove(&self.slab, source.token)
                raise
        source.attached = True
        self.keep_alive(source)
        source.fd = fd
        source.forked_before = children_forked
        return 0

    cdef int keep_alive(self, Source source) noexcept:
        """Let the slab own a reference, because the source may be served at any time."""
        if source.attached and not source.held:
            source.held = True
            Py_INCREF(source)
        return 0

    cdef int drop_reference(self, Source source) except -1:
        """Drop the slab's reference, because no event of *source* will come.

        The source is then freed when its user drops it, and its __del__ must call detach().
        """
        if source.held:
            source.held = False
            Py_DECREF(source)
        return 0

    cdef Source source_of(self, int fd):
        """The source that *fd* is registered for, or None."""
        token = self.token_by_fd.get(fd)
        return None if token is None else self.lookup(token)

    cdef int register(self, Source source, uint32_t interest, uint32_t opts) except -1:
        """Register, or replace interest and options. Raises OSError as epoll_ctl(2) fails."""
        cdef int rc = -ENOENT
        if self.closed:
            raise RuntimeError("Event loop is closed")
        if self.fork_generation != forks:
            self.renew()
        if source.registered:
            rc = mio_poll_reregister(self.poll, source.fd, source.token, interest, opts)
        if rc == -ENOENT:                   # new, or the number of a closed file used again
            rc = mio_poll_register(self.poll, source.fd, source.token, interest, opts)
        if rc < 0:
            self.unregister(source)         # the old or the new interest may be registered
            check(rc)
        source.registered = True
        source.polled_for = interest
        source.poll_opts = opts
        return 0

    cdef bint reregister_if_same(self, Source source, uint32_t interest,
                                 uint32_t opts) except -1:
        """Register again. False if the registered file was closed, so that the poll forgot it."""
        cdef int rc
        if not source.registered:
            return False
        if self.fork_generation != forks:
            self.renew()
            return source.registered
        rc = mio_poll_reregister(self.poll, source.fd, source.token, interest, opts)
        if rc == -ENOENT:
            source.registered = False
            return False
        check(rc)
        return True

    cdef int unregister(self, Source source) noexcept:
        """Stop polling the descriptor. The source keeps its token.

        The poll may refuse: the owner has closed the descriptor (ENOENT, EBADF), and a plain file
        may have its number now (EPERM). No other error has a remedy, so all errors are ignored.
        """
        if source.registered:
            source.registered = False
            if self.fork_generation == forks:
                mio_poll_deregister(self.poll, source.fd)
        return 0

    cdef int detach(self, Source source, bint closing) except -1:
        """Remove *source* from the slab and from the poll.

        *closing*: the caller closes the descriptor next, and this process has no duplicate of it.
        Edge-triggered, the kernel may then drop the registration by itself, which saves a system
        call. Level-triggered that is not safe: if a child holds a duplicate, the poll would report
        the descriptor for ever.
        """
        cdef bint held = source.held

        if not source.attached:
            return 0
        source.attached = source.held = False       # first: a later failure must not keep it there
        source.deferred = 0
        mio_slab_remove(&self.slab, source.token)
        try:
            if self.token_by_fd.get(source.fd) == source.token:
                del self.token_by_fd[source.fd]
            elif source.fd >= 0:                    # closed, and another source has the number
                source.registered = False
            if (closing and source.registered and self.fork_generation == forks
                    and self.forgets_closed(source)):
                mio_poll_closing(self.poll, source.fd)
                source.registered = False
            else:
                self.unregister(source)
        finally:
            if held:
                Py_DECREF(source)
        return 0

    cdef bint forgets_closed(self, Source source) noexcept:
        """Whether the kernel drops the registration when *source* closes its descriptor.

        It does unless a forked child holds the open file, too. In that case edges for a released
        token would continue to end the poll.
        """
        return self.trigger_mode == EDGE and source.forked_before == children_forked

    cdef int drained(self, Source source, uint32_t ready) except -1:
        """*source* has consumed its readiness. Where edges are emulated, poll for it again."""
        if self.edges_emulated and self.fork_generation == forks:
            mio_poll_drained(self.poll, source.fd, ready)
        return 0

    cdef int defer(self, Source source, uint32_t ready) except -1:
        """Call on_ready(ready) in the next turn, which will not block."""
        if source.deferred == 0:
            self.deferred_sources.append(source)
        source.deferred |= ready
        return 0

    cdef int flush_soon(self, Source source) except -1:
        if not source.flush_queued:
            source.flush_queued = True
            if self.unflushed is None:
                self.unflushed = source
            else:
                (<Source>self.last_unflushed).next_unflushed = source
            self.last_unflushed = <PyObject *>source
        return 0

    # -- descriptors that the program owns: add_reader(), add_writer() -------

    cdef Handle watch_fd(self, int fd, bint writing, Handle handle, object fileobj):
        """Set the reader or writer callback of *fd*, level-triggered.

        *fileobj*: the object that the program passed. After fileobj.close() the watcher is found by
        the identity of this object (rule R96).
        """
        cdef Watcher watcher
        cdef Handle old = None
        cdef Source source = self.source_of(fd)
        if source is not None and not isinstance(source, Watcher):
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {source!r}")
        watcher = Watcher.__new__(Watcher) if source is None else <Watcher>source
        if writing:
            old, watcher.writer = watcher.writer, handle
        else:
            old, watcher.reader = watcher.reader, handle
        try:
            if source is None:
                self.attach(watcher, fd)
            watcher.update(self)
        except BaseException:
            if writing:
                watcher.writer = old
            else:
                watcher.reader = old
            if source is None:
                self.detach(watcher, False)
            raise
        if watcher.fileobj is not fileobj:
            if watcher.fileobj is not None:
                self.remember_displaced(watcher.fileobj)
            watcher.fileobj = fileobj
        if old is not None:
            old.cancel()
        return handle

    cdef int remember_displaced(self, object fileobj) except -1:
        """Remember that *fileobj* has no watch any more.

        remove_reader(fileobj) then returns False although *fileobj* has been closed.
        """
        if fileobj is None or isinstance(fileobj, int):
            return 0
        if self.displaced is None:
            self.displaced = weakref.WeakSet()
        try:
            self.displaced.add(fileobj)
        except TypeError:                   # no weak reference possible, or not hashable
            pass
        return 0

    cdef bint unwatch_fd(self, int fd, bint writing) except -1:
        """Drop the reader or writer callback of *fd*; False if there was none."""
        cdef Watcher watcher
        cdef Handle old
        cdef Source source = self.source_of(fd)
        if not isinstance(source, Watcher):
            return False
        watcher = <Watcher>source
        if writing:
            old, watcher.writer = watcher.writer, None
        else:
            old, watcher.reader = watcher.reader, None
        if old is None:
            return False
        if watcher.reader is None and watcher.writer is None:
            watcher.fileobj = None
        old.cancel()
        if watcher.interest() == 0:
            self.detach(watcher, False)
        else:
            try:
                watcher.update(self)
            except OSError:                 # the owner has closed the descriptor
                if watcher.reader is None and watcher.writer is None:
                    watcher.hand_over(self, None)
                else:                       # the other callback is still to be removed
                    self.unregister(watcher)
        return True

    def _burst_from(self, int least):
        """For tests: make bursts from *least* operations on, even where they do not pay."""
        self.batch_min = least

    def stats(self):
        """Counts since the loop was made, and the sizes of its queues now.

        turns, polls, events, callbacks (run from the ready queue), timers_fired: totals. spins:
        non-blocking polls at the beginning of a wait. bursts: system calls that sent, or received,
        for several connections.
        ready, timers, sources: the numbers at this moment. Sources include the loop's self-pipe.
        """
        return {
            "turns": self.turns,
            "polls": self.polls,
            "spins": self.spins,
            "bursts": self.burst_total,
            "events": self.event_total,
            "callbacks": self.callback_total,
            "timers_fired": self.timer_total,
            "ready": self.ring_count,
            "timers": self.timers.count,
            "sources": self.slab.count,
        }


cdef int enter_run(Reactor reactor) noexcept:
    global running_reactors
    cdef unsigned long thread = PyThread_get_thread_ident()
    if reactor.thread != thread:
        forget_thread(&reactor.policy)
        reactor.thread = thread
    reactor.next_running = running_reactors
    running_reactors = <PyObject *>reactor
    return 0


cdef int leave_run(Reactor reactor) noexcept:
    global running_reactors
    cdef PyObject *each = running_reactors
    if each == <PyObject *>reactor:
        running_reactors = reactor.next_running
        return 0
    while (<Reactor>each).next_running != <PyObject *>reactor:
        each = (<Reactor>each).next_running
    (<Reactor>each).next_running = reactor.next_running
    return 0


cdef int drop_ring(Reactor reactor) except -1:
    """Empty the ring. It is taken away before the first handle is dropped."""
    cdef PyObject **ring = reactor.ring
    cdef size_t first = reactor.ring_first, count = reactor.ring_count
    cdef size_t mask = reactor.ring_capacity - 1, i
    reactor.ring = NULL
    reactor.ring_capacity = reactor.ring_first = reactor.ring_count = 0
    for i in range(count):
        Py_DECREF(<object>ring[(first + i) & mask])
    free(ring)
    return 0


cdef int drop_timers(Reactor reactor) except -1:
    cdef TimerHandle timer
    while reactor.timers.count:
        timer = <TimerHandle>mio_timers_first(&reactor.timers).owner
        reactor.forget_timer(timer)
    return 0


cdef int drop_sources(Reactor reactor) except -1:
    cdef uint32_t i = 0
    cdef Source source
    while reactor.unflushed is not None:    # one by one: freeing a long chain must not recurse
        source = reactor.unflushed
        reactor.unflushed = source.next_unflushed
        source.next_unflushed = None
        source.flush_queued = False
    while i < reactor.slab.used:
        if reactor.slab.entries[i].value != NULL:
            source = <Source>reactor.slab.entries[i].value
            # No system call: the poll is freed with all its registrations.
            source.attached = source.registered = False
            source.deferred = 0
            mio_slab_remove(&reactor.slab, source.token)
            reactor.drop_reference(source)
            source = None
        i += 1
    return 0


# -- garbage collection: references in the core's structures ---------------
#
# The ring, the heap and the slab own references that Cython does not know. Without
# these two functions a loop that is dropped without close() would never be collected: the
# watcher of its self-pipe alone makes a cycle through the slab.

cdef traverseproc cython_traverse
cdef inquiry cython_clear


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef Reactor reactor = <Reactor>self
    cdef size_t i
    cdef int rc = cython_traverse(self, visit, arg)
    cdef void *entry

    if rc:
        return rc
    for i in range(reactor.ring_count):
        rc = visit(reactor.ring[(reactor.ring_first + i) & (reactor.ring_capacity - 1)], arg)
        if rc:
            return rc
    for i in range(reactor.timers.count):
        rc = visit(<PyObject *>reactor.timers.heap[i].timer.owner, arg)
        if rc:
            return rc
    for i in range(reactor.slab.used):
        entry = reactor.slab.entries[i].value
        if entry != NULL and (<Source>entry).held:
            rc = visit(<PyObject *>entry, arg)
            if rc:
                return rc
    return 0


cdef int clear(PyObject *self) noexcept:
    (<Reactor>self).close_reactor()         # Cython prints an exception as "unraisable"
    return cython_clear(self)


cython_traverse = (<NativeType *>Reactor).tp_traverse
cython_clear = (<NativeType *>Reactor).tp_clear
(<NativeType *>Reactor).tp_traverse = traverse
(<NativeType *>Reactor).tp_clear = clear

seal(Source)
seal(Watcher)
