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
from cpython.ref cimport Py_DECREF
from libc.errno cimport EINTR
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove

from mioloop.reactor.core cimport *
from mioloop.reactor.batch_io cimport LEAST_BATCH, drop_burst, read_batch, send_batch
from mioloop.reactor.contexts cimport drop_contexts, drop_unused_contexts, visit_contexts
from mioloop.reactor.flush_policy cimport (
    batch_ends, callbacks_begin, events_begin, forget_thread, look, run_ends)
from mioloop.reactor.flush_queue cimport dequeue, empty, enqueue
from mioloop.reactor.forking cimport begin_run, end_run, forks
from mioloop.reactor.handle cimport Handle, run_once
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.looking cimport (
    LOOKS_BEFORE_PEEK, arm_peek, drop_peek, peek_completed, peek_is_due)
from mioloop.reactor.measures cimport (
    TURNS_PER_CLOCK, WORK_CALLBACKS, WORK_EVENTS, WORK_LOOKS, WORK_TIMERS, look_ended, read_clock,
    run_ended, stretch_begins, turn_passes, wait_begins, wait_ended, work_begins)
from mioloop.reactor.python_api cimport (
    PyThread_get_thread_ident, PyTypeObject, inquiry, traverseproc, visitproc)
from mioloop.reactor.read_buffers cimport borrow, drop_buffers, give_back
from mioloop.reactor.registry cimport EDGE, LEVEL, ONESHOT, Registry, check
from mioloop.reactor.services cimport LoopServices
from mioloop.reactor.traverse cimport visit_all

from mioloop.reactor.registry import io_uring_problem, selectors  # for the layers above

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from * nogil:
    int add_atomically "__sync_add_and_fetch"(int *number, int by)

cdef enum:
    LEAST_EVENT_CAPACITY = 64
    FIRST_RING_CAPACITY = 256
    MOST_SPIN_NS = 1000000000           # one second: a longer wait should sleep
    # While callbacks are ready, a loop that watches only its self-pipe polls only after 64 turns or
    # so much time: a chain of call_soon() makes no system call for each link. Between two polls it
    # reads the clock three times, once in TURNS_PER_CLOCK turns.
    CLOCKS_PER_POLL = 3
    POLL_INTERVAL_NS = 200000
    SOURCES_PER_BATCH = 64              # gathered writes are sent at least after so many sources

TRIGGERS = {"edge": EDGE, "level": LEVEL, "oneshot": ONESHOT}

signal_count = 0


cdef class Reactor(LoopServices):

    # -- one turn ------------------------------------------------------------------

    @cython.final
    cdef int turn(self) except -1:
        """Run one turn in asyncio's order: queued handles, fd events, due timers (rule R2).

        If KeyboardInterrupt or SystemExit leaves the loop (rule R13), the rest of the turn stays in
        the ring, in `events` and in `deferred_now`. The next turn continues with it.
        """
        cdef size_t queued, due

        self.turns += 1
        self.look_around()
        if self.goes_by_selector:
            return self.turn_by_selector()
        if not (self.ring.count or self.stopping or self.has_pending()):
            self.poll_events(self.until_next_timer())
        elif self.must_look():
            work_begins(&self.measures, WORK_LOOKS)
            self.look()
        if self.deferred_sources:
            if self.deferred_now:                  # an exception ended the turn that served them
                self.deferred_now.extend(self.deferred_sources)
                self.deferred_sources.clear()
            else:
                self.deferred_sources, self.deferred_now = self.deferred_now, self.deferred_sources

        queued = self.ring.count
        if self.timers.count:
            self.queue_due_timers()
        due = self.ring.count - queued

        if queued:
            work_begins(&self.measures, WORK_CALLBACKS)
            if queued > self.measures.most_ready:
                self.measures.most_ready = queued
            self.run_ready(queued, True)
        else:
            self.end_batch()
        if self.event_next < self.event_count or self.deferred_now:
            work_begins(&self.measures, WORK_EVENTS)
            self.dispatch()
        if due:
            work_begins(&self.measures, WORK_TIMERS)
            self.run_ready(due, False)
        return 0

    @cython.final
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
        if self.event_next == self.event_count:
            self.event_next = self.event_count = self.event_ahead = 0
        if self.event_count or <int>self.slab.count >= self.event_capacity:
            self.make_event_room()
        self.signals_seen = signal_count
        if timeout_ns == 0:
            n = self.poll_into_room(0)
            self.polled_ns = mio_clock_now()
            look_ended(&self.measures, &self.turn_latency.counts, self.polled_ns)
        else:
            wait_begins(&self.measures, &self.turn_latency.counts, mio_clock_now())
            self.parked = True
            with nogil:
                n = self.wait(timeout_ns)
            self.parked = False
            self.polled_ns = mio_clock_now()
            wait_ended(&self.measures, self.polled_ns)
        self.polls += 1
        self.clocks_until_poll = CLOCKS_PER_POLL
        self.measures.turns_to_clock = TURNS_PER_CLOCK - 1
        if n < 0:
            if n != -EINTR:
                check(n)
            n = 0
            PyErr_CheckSignals()
        self.event_count += n
        self.event_total += n
        if self.watch_sleeps and timeout_ns != 0:
            self.wake_watch()
        return 0

    @cython.final
    cdef int run_ready(self, size_t count, bint woken) except -1:
        """Run the next *count* handles of the ring, then flush the writes that they gathered.

        *woken*: events may have queued the handles. False for the handles of due timers.
        """
        cdef PyObject *first

        callbacks_begin(&self.policy, woken and not self.instrumented, self.turns, count)
        while count and self.ring.count:    # a nested run may have emptied it
            count -= 1
            first = self.pop()
            if (<Handle>first)._cancelled:
                Py_DECREF(<object>first)
                continue
            self.callback_total += 1
            if self.observed:
                self.run_observed(first)
            else:
                run_once(first)
            if look(&self.policy):
                self.end_batch()
        batch_ends(&self.policy)
        self.end_batch()
        return 0

    @cython.final
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
                        if (source.resumed_turn != <uint32_t>self.turns
                                or self.defer_repeated(source, &event.ready)):
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

    # -- its steps -----------------------------------------------------------------

    cdef int run_turns(self) except -1:
        """Run one turn; or, if run_until_stopped is set, turns until `stopping` is set."""
        cdef bint nested = self.running
        cdef bint go_on = self.run_until_stopped and not nested and not self.leaves_native_run
        self.clocks_until_poll = self.measures.turns_to_clock = 0   # the first turn looks
        if self.looking.thread != PyThread_get_thread_ident():
            drop_peek(&self.looking)
        self.running = True
        if nested:
            self.report_again()
        else:
            self.begin()
        try:
            if self.watch_sleeps:
                self.wake_watch()
            while True:
                self.turn()
                drop_unused_contexts(&self.contexts)
                if self.stopping or not go_on or self.leaves_native_run:
                    return 0
        except BaseException:
            self.end_batch()                    # the loop may never run again
            raise
        finally:
            drop_unused_contexts(&self.contexts)    # an exception may have ended the turn
            run_ends(&self.policy)
            self.serving = None
            self.running = nested
            if not nested:
                run_ended(&self.measures, &self.turn_latency.counts)
                end_run(&self.this_run)

    cdef int begin(self) noexcept:
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.this_run.thread != thread:
            forget_thread(&self.policy)
            self.this_run.thread = thread
        stretch_begins(&self.measures, mio_clock_now(), mio_ticks())
        return begin_run(&self.this_run)

    cdef int turn_by_selector(self) except -1:
        """Run a turn that calls loop._selector, as asyncio does. The loop overrides this."""
        return 0

    @cython.final
    cdef bint has_pending(self) noexcept:
        """Whether a source has work that no poll will report."""
        return (self.event_next < self.event_count or self.deferred_sources or self.deferred_now
                or self.flushes.first != NULL)

    @cython.final
    cdef bint must_look(self) noexcept:
        """Whether a turn that does not wait polls the selector.

        Rule R92: a turn sees all descriptors that were ready when it began, as asyncio's does. The
        poll is left out only where it would find no event: the loop watches its self-pipe alone, or
        beside it one source that this turn serves anyway; or the peek has not completed.
        """
        if ((self.slab.count <= self.own_sources or self.only_one_is_ready())
                and not self.poll_is_shared and self.signals_seen == signal_count):
            if turn_passes(&self.measures):
                return False
            if self.clocks_until_poll == 0:
                return True
            self.clocks_until_poll -= 1
            read_clock(&self.measures, &self.turn_latency.counts)
            return self.measures.stretch_began_ns - self.polled_ns >= POLL_INTERVAL_NS
        if not self.looking.armed:
            return True
        if self.fork_generation == forks and mio_peek_is_quiet(self.looking.peek):
            if not turn_passes(&self.measures):
                read_clock(&self.measures, &self.turn_latency.counts)
            return False
        return peek_completed(&self.looking, self.turns)

    @cython.final
    cdef int look(self) except -1:
        """Poll without waiting. Arm the peek after several polls without an event."""
        cdef int pending = self.event_count - self.event_next

        self.poll_events(0)
        if peek_is_due(&self.looking, self.event_count - self.event_next > pending):
            self.looking.empty_looks = 0
            if self.fork_generation == forks and self.slab.count > self.own_sources:
                arm_peek(&self.looking, self.poll, self.turns)
        return 0

    @cython.final
    cdef int make_event_room(self) except -1:
        """Move the undispatched events to the front, and make room for one event of each source."""
        cdef int pending = self.event_count - self.event_next
        cdef int needed = pending + <int>self.slab.count + 1
        cdef void *more

        if self.event_next:
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

    @cython.final
    cdef int poll_into_room(self, int64_t timeout_ns) noexcept nogil:
        return mio_poll_poll(self.poll, self.events + self.event_count,
                             self.event_capacity - self.event_count, timeout_ns)

    @cython.final
    cdef int wait(self, int64_t timeout_ns) noexcept nogil:
        """Poll until there is an event.

        Spin before blocking if recent spins have paid (core/spin.h).
        """
        cdef int64_t began_ns, now_ns, until_ns
        cdef int n = 0

        if self.spin.most_ns == 0:
            return self.poll_into_room(timeout_ns)
        began_ns = now_ns = mio_clock_now()
        until_ns = mio_spin_limit(&self.spin, began_ns, timeout_ns)
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
        mio_spin_learn(&self.spin, n > 0 or not self.parked, now_ns - began_ns)
        return n

    cdef int serve_deferred(self) except -1:
        """Serve the sources of `deferred_now`. A nested turn continues where the outer one is."""
        cdef Source source
        cdef uint32_t ready

        while self.deferred_next < len(self.deferred_now):
            source = <Source>self.deferred_now[self.deferred_next]
            self.deferred_next += 1
            ready, source.deferred = source.deferred, 0
            if ready and source.attached:
                source.resumed, source.resumed_turn = ready, <uint32_t>self.turns
                try:
                    self.serve(source, ready)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    self.serving_failed(source, exc)
        self.deferred_now.clear()
        self.deferred_next = 0
        return 0

    @cython.final
    cdef int serve(self, Source source, uint32_t ready) except -1:
        self.serving = source
        if self.observed:
            self.serve_observed(source, ready)
        else:
            source.on_ready(ready)
        self.serving = None
        return 0

    @cython.final
    cdef int read_together(self) except -1:
        """Let the sources of the next events receive in one system call. Runs no user code."""
        cdef bytes buffer
        cdef int most

        self.event_ahead = min(self.event_count, self.event_next + MIO_BURST_MOST)
        most = self.event_ahead - self.event_next
        if (most < self.batch_io.least or not (self.batch_io.allowed and self.prefetches)
                or self.fork_generation != forks):
            return 0
        buffer = borrow(&self.buffers.received)
        try:
            read_batch(&self.batch_io, &self.slab, &self.events[self.event_next], most,
                       PyBytes_AS_STRING(buffer))
        finally:
            give_back(&self.buffers.received, buffer)
        return 0

    # -- gathered writes (flush_policy.pxd, flush_queue.pxd) -----------------------

    cdef int flush_soon(self, Source source) except -1:
        """Call on_flush() when the batch of callbacks has run."""
        return enqueue(&self.flushes, source)

    cdef int flush(self) except -1:
        """Send the gathered writes, with one send for each source."""
        cdef Source source = None
        cdef PyObject *last = self.flushes.last     # sources queued meanwhile wait for the next one

        if self.flushes.first != last and self.fork_generation == forks:
            send_batch(&self.batch_io, self.flushes.first)
        while <PyObject *>source != last and self.flushes.first != NULL:
            try:                            # around all sources: entering it costs time
                while <PyObject *>source != last and self.flushes.first != NULL:
                    source = dequeue(&self.flushes)
                    if source.attached:
                        source.on_flush()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.serving_failed(source, exc)
        return 0

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

    # -- hooks: the loop overrides these ---------------------------------------------

    cdef int run_instrumented(self, Handle handle) except -1:
        """Run *handle* in debug mode or by a replaced Handle._run."""
        return handle.run()

    cdef int run_observed(self, PyObject *handle) except -1:
        """Run a handle for the last time while `observed` is set. Takes the reference over."""
        return run_once(handle)

    cdef int serve_observed(self, Source source, uint32_t ready) except -1:
        """Serve *source* while `observed` is set."""
        return source.on_ready(ready)

    cdef int serve_tools(self) except -1:
        """See look_around()."""
        return 0

    cdef int wake_watch(self) except -1:
        """Called if `watch_sleeps` is set, when the loop begins to work."""
        return 0

    # -- opening and closing -------------------------------------------------------

    def __cinit__(self, *args, **kwargs):
        self.deferred_now = []
        self.turn_latency = Histogram()
        self.this_run.policy = &self.policy
        self.this_run.flushes = &self.flushes

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
        self.batch_io.allowed = self.looking.peeks = io_uring
        self.batch_io.least = LEAST_BATCH
        self.looking.looks_before = LOOKS_BEFORE_PEEK
        self.prefetches = True
        self.edges_emulated = mio_poll_emulates_edges(self.poll)
        self.fork_generation = forks
        self.spin.most_ns = self.spin.budget_ns = <int64_t>min(spin_s * 1e9, <double>MOST_SPIN_NS)
        self.event_capacity = LEAST_EVENT_CAPACITY
        self.events = <mio_event *>malloc(LEAST_EVENT_CAPACITY * sizeof(mio_event))
        if self.events == NULL or mio_ring_open(&self.ring, FIRST_RING_CAPACITY) < 0:
            self.close_reactor()
            raise MemoryError
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
        # The threads in `wakers` do not exist in a child that was forked meanwhile.
        while add_atomically(&self.wakers, 0) and self.fork_generation == forks:
            sched_yield()
        try:
            self.drop_ring()
            self.drop_timers()
            drop_contexts(&self.contexts)
            empty(&self.flushes)
            self.drop_sources()
            self.deferred_sources = []
            self.deferred_now = []
            self.token_by_fd = {}
        finally:                            # the assignments above may raise MemoryError
            self.free_all()
        return 0

    cdef int free_all(self) noexcept:
        mio_timers_free(&self.timers)
        mio_slab_free(&self.slab)
        drop_burst(&self.batch_io)
        drop_peek(&self.looking)
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

    cdef int renew_poll(self) except -1:
        drop_burst(&self.batch_io)          # the parent's, as is the peek
        drop_peek(&self.looking)
        self.wakers = 0
        self.parked = False
        return Registry.renew_poll(self)

    # -- for tests and programs ----------------------------------------------------

    def _burst_from(self, int least):
        """For tests: make bursts from *least* operations on, even where they do not pay."""
        self.batch_io.least = least


# -- garbage collection (traverse.pxd) ----------------------------------------

cdef traverseproc cython_traverse
cdef inquiry cython_clear


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef Reactor reactor = <Reactor>self
    cdef int rc = cython_traverse(self, visit, arg)

    rc = rc or visit_contexts(&reactor.contexts, visit, arg)
    return rc or visit_all(&reactor.ring, &reactor.timers, &reactor.slab, reactor.flushes.first,
                           visit, arg)


cdef int clear(PyObject *self) noexcept:
    (<Reactor>self).close_reactor()         # Cython prints an exception as "unraisable"
    return cython_clear(self)


cython_traverse = (<PyTypeObject *>Reactor).tp_traverse
cython_clear = (<PyTypeObject *>Reactor).tp_clear
(<PyTypeObject *>Reactor).tp_traverse = traverse
(<PyTypeObject *>Reactor).tp_clear = clear
