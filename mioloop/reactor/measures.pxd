"""Measures: where the time of a loop goes.

While a loop runs, it is idle in a poll that waits, and active otherwise. The time between the end
of one poll and the beginning of the next wait, or the end of the next look, is a *stretch* of work.
An event that comes during a stretch is noticed at its end: so the length of a stretch is the
latency that the loop adds at that moment.

The clock is read at the ends of a stretch only, because a read costs as much as a small callback.
A stretch may have several kinds of work: callbacks, events for transports and watchers, timers,
looks at the selector. The processor's tick counter, which is cheaper, is read where one kind ends
and another one begins. Its rate is constant but unknown: the ticks of all such stretches together
give each kind its part of their length (share_out()).

A turn may leave the look out, because it would find no event. Then the stretch ends with the turn
if turns are slow. Otherwise it ends with the last of several turns.

Times are in ns, on the clock of mio_clock_now().
"""

from libc.stdint cimport int64_t, uint64_t

from mioloop.reactor.core cimport mio_clock_now, mio_histogram, mio_histogram_add, mio_ticks

cdef enum:
    TURNS_PER_CLOCK = 16                # of the turns that leave the look out
    SLOW_NS = 100000                    # such a stretch is long: the next ends with its first turn

cdef enum:                              # the kinds of work
    WORK_OTHER                          # between the steps of a turn, and between runs
    WORK_CALLBACKS
    WORK_EVENTS
    WORK_TIMERS
    WORK_LOOKS
    WORK_KINDS


ctypedef struct Measures:
    int64_t idle_ns                     # in polls that waited, and have ended
    int64_t waiting_since_ns            # the beginning of the wait under way; 0 if there is none
    int64_t active_ns                   # in stretches that have ended
    int64_t active_ns_of[WORK_KINDS]    # its parts, see share_out()
    int64_t longest_ns                  # the longest stretch since the stall watch has asked

    int64_t stretch_began_ns            # 0 if the loop does not run
    int kind                            # of the work under way
    bint mixed                          # the stretch has several kinds
    uint64_t kind_began_ticks
    int64_t mixed_ns                    # the length of mixed stretches, not yet shared out
    uint64_t ticks_of[WORK_KINDS]       # in these
    int turns_to_clock                  # turns without a look until the clock is read

    uint64_t most_ready                 # high-water mark of the ready queue


cdef inline uint64_t ticks_between(uint64_t before, uint64_t after) noexcept:
    """Their difference; 0 if the counters of two processors differ, and time went back."""
    return after - before if <int64_t>(after - before) > 0 else 0


cdef inline int work_begins(Measures *measures, int kind) noexcept:
    """Called before each step of a turn that has something to do."""
    cdef uint64_t ticks

    if kind == measures.kind:
        return 0
    if measures.kind != WORK_OTHER:     # the beginning of a stretch counts for its first kind
        ticks = mio_ticks()
        measures.ticks_of[measures.kind] += ticks_between(measures.kind_began_ticks, ticks)
        measures.kind_began_ticks = ticks
        measures.mixed = True
    measures.kind = kind
    return 0


cdef inline int stretch_begins(Measures *measures, int64_t now, uint64_t ticks) noexcept:
    measures.stretch_began_ns = now
    measures.kind_began_ticks = ticks
    measures.kind = WORK_OTHER
    measures.mixed = False
    return 0


cdef inline int share_out(Measures *measures) noexcept:
    """Bring active_ns_of up to date: give each kind its part of the mixed stretches."""
    cdef uint64_t ticks = 0
    cdef int kind

    for kind in range(WORK_KINDS):
        ticks += measures.ticks_of[kind]
    if measures.mixed_ns == 0 or ticks == 0:
        return 0
    for kind in range(WORK_KINDS):
        measures.active_ns_of[kind] += <int64_t>(
            <double>measures.mixed_ns * measures.ticks_of[kind] / ticks)
        measures.ticks_of[kind] = 0
    measures.mixed_ns = 0
    return 0


cdef inline int stretch_ends(Measures *measures, mio_histogram *latency, int64_t now,
                             uint64_t ticks) noexcept:
    """*ticks*: the tick counter now, if the stretch is mixed."""
    cdef int64_t length = now - measures.stretch_began_ns

    measures.active_ns += length
    if measures.mixed:
        measures.ticks_of[measures.kind] += ticks_between(measures.kind_began_ticks, ticks)
        measures.mixed_ns += length
    else:
        measures.active_ns_of[measures.kind] += length
    if length > measures.longest_ns:
        measures.longest_ns = length
    mio_histogram_add(latency, length)
    return 0


cdef inline int look_ended(Measures *measures, mio_histogram *latency, int64_t now) noexcept:
    cdef uint64_t ticks

    if measures.stretch_began_ns == 0:      # a tool polls while the loop does not run
        return 0
    ticks = mio_ticks()
    stretch_ends(measures, latency, now, ticks)
    return stretch_begins(measures, now, ticks)


cdef inline int wait_begins(Measures *measures, mio_histogram *latency, int64_t now) noexcept:
    if measures.stretch_began_ns == 0:
        return 0
    stretch_ends(measures, latency, now, mio_ticks() if measures.mixed else 0)
    measures.waiting_since_ns = now
    return 0


cdef inline int wait_ended(Measures *measures, int64_t now) noexcept:
    if measures.waiting_since_ns == 0:
        return 0
    measures.idle_ns += now - measures.waiting_since_ns
    measures.waiting_since_ns = 0
    return stretch_begins(measures, now, mio_ticks())


cdef inline bint turn_passes(Measures *measures) noexcept:
    """Called if a turn leaves the look out. False: the clock must be read, see read_clock()."""
    if measures.turns_to_clock > 0:
        measures.turns_to_clock -= 1
        return True
    return False


cdef inline int read_clock(Measures *measures, mio_histogram *latency) noexcept:
    """End the stretch, and begin another one."""
    cdef int64_t began = measures.stretch_began_ns

    look_ended(measures, latency, mio_clock_now())
    measures.turns_to_clock = (
        TURNS_PER_CLOCK - 1 if measures.stretch_began_ns - began < SLOW_NS else 0)
    return 0


cdef inline int run_ended(Measures *measures, mio_histogram *latency) noexcept:
    stretch_ends(measures, latency, mio_clock_now(), mio_ticks() if measures.mixed else 0)
    measures.stretch_began_ns = 0
    return 0
