"""The figures of a loop: counts, sizes, and where its time goes (reactor/measures.pxd).

Any thread may ask, while the loop runs or not.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint32_t

from mioloop.loop.tools cimport ToolsReactor
from mioloop.reactor.core cimport mio_histogram_add
from mioloop.reactor.handle cimport Handle, run_once
from mioloop.reactor.histogram cimport Histogram
from mioloop.reactor.measures cimport (
    WORK_CALLBACKS, WORK_EVENTS, WORK_LOOKS, WORK_TIMERS, share_out)
from mioloop.reactor.source cimport Source, SourceFigures

from mioloop.loop.figures import Durations, Latency, Utilization


cdef class MeasuringReactor(ToolsReactor):

    def stats(self):
        """Counts and times since the loop was made, and the sizes of its queues now.

        Totals: turns, polls, events, callbacks (of the ready queue), timers_fired. spins: polls at
        the beginning of a wait. bursts: system calls that sent or received for several connections.
        bytes_in, bytes_out: received and sent by transports. accepted: connections that listeners
        have accepted. refused: connections that were lost because making their protocol or
        transport failed, and calls of accept() that failed.

        Times in ns: idle_ns (in polls that wait), active_ns (the rest, while the loop runs). Parts
        of active_ns: callbacks_ns, events_ns (transports, listeners and watchers), timers_ns,
        polls_ns (polls that do not wait). The rest of active_ns was spent in other code of the loop.

        stalls: stalls that the stall watch has reported. stalled_ns: the length of the stalls that
        have ended. Both are 0 without a stall watch.

        At this moment: ready, timers, sources (with the self-pipe), streams, datagrams,
        pipes, listeners; paused (transports that do not read), buffered_bytes (that wait to be
        sent). most_ready: the greatest length of the ready queue at the beginning of a turn.
        """
        cdef SourceFigures now
        cdef int64_t idle, active

        self.sum_up(&now)
        self.times(&idle, &active)
        share_out(&self.measures)
        return {
            "turns": self.turns,
            "polls": self.polls,
            "spins": self.spins,
            "bursts": self.batch_io.total,
            "events": self.event_total,
            "callbacks": self.callback_total,
            "timers_fired": self.timer_total,
            "bytes_in": self.traffic.bytes_in,
            "bytes_out": self.traffic.bytes_out,
            "accepted": self.traffic.accepted,
            "refused": self.traffic.refused,
            "idle_ns": idle,
            "active_ns": active,
            "callbacks_ns": self.measures.active_ns_of[WORK_CALLBACKS],
            "events_ns": self.measures.active_ns_of[WORK_EVENTS],
            "timers_ns": self.measures.active_ns_of[WORK_TIMERS],
            "polls_ns": self.measures.active_ns_of[WORK_LOOKS],
            "stalls": self.stalls,
            "stalled_ns": self.stalled_ns,
            "ready": self.ring.count,
            "most_ready": self.measures.most_ready,
            "timers": self.timers.count,
            "sources": self.slab.count,
            "streams": now.streams,
            "datagrams": now.datagrams,
            "pipes": now.pipes,
            "listeners": now.listeners,
            "paused": now.paused,
            "buffered_bytes": now.buffered_bytes,
        }

    cdef int sum_up(self, SourceFigures *figures) except -1:
        """Ask each source for its part. Runs no code of the program."""
        cdef size_t i
        cdef void *entry

        figures[0] = SourceFigures(0, 0, 0, 0, 0, 0)
        for i in range(self.slab.used):
            entry = self.slab.entries[i].value
            if entry != NULL:
                (<Source>entry).add_figures(figures)
        return 0

    cdef int times(self, int64_t *idle, int64_t *active) noexcept:
        """Idle and active time until now, the wait or the stretch under way included."""
        cdef int64_t now = self.monotonic_ns()

        idle[0] = self.measures.idle_ns
        active[0] = self.measures.active_ns
        if self.measures.waiting_since_ns:
            idle[0] += now - self.measures.waiting_since_ns
        elif self.measures.stretch_began_ns:
            active[0] += now - self.measures.stretch_began_ns
        return 0

    def utilization(self, since=None):
        """Return how long the loop was idle and active: a `Utilization`, in seconds.

        The times are those since the loop was made; or, with *since*, an earlier result of
        utilization(), those since then. A loop is idle in a poll that waits, and neither idle nor
        active while it does not run. So does performance.eventLoopUtilization() of Node.js.

        Raises TypeError if *since* is no Utilization.
        """
        cdef int64_t idle, active

        if since is not None and not isinstance(since, Utilization):
            raise TypeError(f"since must be a result of utilization(), not {since!r}")
        self.times(&idle, &active)
        idle_s, active_s = idle / 1e9, active / 1e9
        if since is not None:
            idle_s, active_s = idle_s - since.idle, active_s - since.active
        return Utilization.of(idle_s, active_s)

    def latency(self):
        """Return how late the loop was: `Latency(turns, timers)`, two histograms.

        turns: how long the loop worked between two looks at the selector. An event that came
        meanwhile was noticed that much later, at most. timers: how long after its deadline the
        callback of a timer was queued.
        """
        return Latency(self.turn_latency, self.timer_latency)

    # -- durations() ---------------------------------------------------------------

    def durations(self):
        """Return how long callbacks and events took: `Durations(callbacks, events)`, two histograms.

        callbacks: one duration for each callback of the ready queue, such as a step of a task.
        events: one for each event of a transport, a listener or a watcher, with its system calls
        and the calls of the protocol. Work inside a nested turn counts for both turns.

        Raises RuntimeError if the loop was not made with ``durations=True``.
        """
        if self.callback_durations is None:
            raise RuntimeError(
                "the durations are not measured: make the loop with durations=True, "
                "or set MIOLOOP_DURATIONS=1")
        return Durations(self.callback_durations, self.event_durations)

    cdef int measure_durations(self, bint on) except -1:
        self.callback_durations = Histogram() if on else None
        self.event_durations = Histogram() if on else None
        return self.update_instrumented()

    cdef int update_instrumented(self) except -1:
        ToolsReactor.update_instrumented(self)
        self.observed = self.instrumented or self.callback_durations is not None
        return 0

    cdef int run_observed(self, PyObject *owned) except -1:
        cdef Histogram durations = self.callback_durations
        cdef int64_t began_ns

        if durations is None:
            return self.run_handle(owned)
        began_ns = self.monotonic_ns()
        try:
            return self.run_handle(owned)
        finally:
            mio_histogram_add(&durations.counts, self.monotonic_ns() - began_ns)

    cdef int run_handle(self, PyObject *owned) except -1:
        if not self.instrumented:
            return run_once(owned)
        handle = <Handle>owned
        Py_DECREF(handle)                   # the ring's reference: `handle` holds another one
        return self.run_instrumented(handle)

    cdef int serve_observed(self, Source source, uint32_t ready) except -1:
        cdef Histogram durations = self.event_durations
        cdef int64_t began_ns

        if durations is None:
            return self.serve_instrumented(source, ready)
        began_ns = self.monotonic_ns()
        try:
            if self.instrumented:
                return self.serve_instrumented(source, ready)
            return source.on_ready(ready)
        finally:
            mio_histogram_add(&durations.counts, self.monotonic_ns() - began_ns)

    # -- the stall watch (stall.py) ------------------------------------------------

    def _watch_for_stalls(self, watch):
        """Let *watch* know when the loop works, or end the watch there is if *watch* is None."""
        before, self.stall_watch = self.stall_watch, watch
        self.watch_sleeps = watch is not None
        if before is not None and before is not watch:
            before.end()

    cdef int wake_watch(self) except -1:
        self.watch_sleeps = False
        if self.stall_watch is not None:
            self.stall_watch.wake()
        return 0

    def _progress(self):
        """Return a value that changes whenever the loop does something.

        None: the loop waits, or does not run. It will then call wake() when it works again.
        """
        if self.measures.waiting_since_ns or not self.measures.stretch_began_ns:
            self.watch_sleeps = True
            return None
        return (self.turns, self.callback_total, self.event_total, self.event_next,
                self.deferred_next)

    def _served(self):
        """Return the source whose event the loop serves now, or None."""
        return self.serving

    def _count_stall(self, bint began, double ended_after):
        """Count a stall for stats(): *began* at its first report, its seconds at its last one."""
        self.stalls += began
        self.stalled_ns += <int64_t>(ended_after * 1e9)

    def _stretches(self):
        """Return the lengths in seconds of two stretches of work.

        They are the longest that has ended since the last call, and the one under way, or 0.0.
        """
        cdef int64_t longest = self.measures.longest_ns, current = 0

        self.measures.longest_ns = 0
        if self.measures.stretch_began_ns and not self.measures.waiting_since_ns:
            current = self.monotonic_ns() - self.measures.stretch_began_ns
        return longest / 1e9, current / 1e9
