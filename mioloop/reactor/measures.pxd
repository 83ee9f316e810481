"""Measures: where the time of a loop goes.

While a loop runs, it is idle in a poll that waits, and active otherwise. The time between the end
of one poll and the beginning of the next wait, or the end of the next look, is a *stretch* of work.
An event that comes during a stretch is noticed at its end: so the length of a stretch is the
latency that the loop adds at that moment.

A stretch has up to three kinds of work: callbacks, events for transports and watchers, timers. The
clock is read at the ends of a stretch only, because a read costs as much as a small callback. If a
stretch has one kind of work, its time is that kind's. The time of other stretches is divided in the
ratio that was found in every SAMPLED_TURNS-th turn, which reads the clock between its steps, too.

A turn may leave the look out, because it would find no event. Then the stretch ends with the turn
if turns are slow. Otherwise it ends with the last of several turns.

Times are in ns, on the clock of mio_clock_now().
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from mioloop.reactor.core cimport mio_clock_now
from mioloop.reactor.histogram cimport mio_histogram, mio_histogram_add

cdef enum:
    SAMPLED_TURNS = 16
    TURNS_PER_CLOCK = 8                 # of the turns that leave the look out
    SLOW_NS = 100000                    # such a stretch is long: the next ends with its first turn

    WORK_CALLBACKS = 1
    WORK_EVENTS = 2
    WORK_TIMERS = 4
    WORK_LOOKS = 8
    WORK_KINDS = 9                      # one more than the greatest kind


ctypedef struct Measures:
    int64_t idle_ns                     # in polls that waited, and have ended
    int64_t waiting_since_ns            # the beginning of the wait under way; 0 if there is none
    int64_t active_ns                   # in stretches that have ended
    int64_t stretch_began_ns            # 0 if the loop does not run
    int64_t longest_ns                  # the longest stretch since the stall watch has asked
    uint32_t kinds                      # WORK_ bits of the stretch
    int64_t alone_ns[WORK_KINDS]        # stretches of one kind of work
    int64_t mixed_ns                    # other stretches
    int turns_to_clock                  # such turns until the clock is read
    bint sampling                       # the current turn reads the clock between its steps
    int64_t step_began_ns
    int64_t sampled_ns[WORK_KINDS]      # steps of sampled turns
    uint64_t most_ready                 # high-water mark of the ready queue


cdef inline int stretch_ends(Measures *measures, mio_histogram *latency, int64_t now) noexcept:
    cdef int64_t length = now - measures.stretch_began_ns
    cdef uint32_t kinds = measures.kinds

    measures.active_ns += length
    if length > measures.longest_ns:
        measures.longest_ns = length
    if kinds & (kinds - 1):
        measures.mixed_ns += length
    else:
        measures.alone_ns[kinds] += length
    measures.kinds = 0
    measures.stretch_began_ns = now
    mio_histogram_add(latency, length)
    return 0


cdef inline int wait_begins(Measures *measures, mio_histogram *latency, int64_t now) noexcept:
    stretch_ends(measures, latency, now)
    measures.waiting_since_ns = now
    return 0


cdef inline int wait_ends(Measures *measures, int64_t now) noexcept:
    measures.idle_ns += now - measures.waiting_since_ns
    measures.waiting_since_ns = 0
    measures.stretch_began_ns = now
    return 0


cdef inline bint turn_passes(Measures *measures, mio_histogram *latency) noexcept:
    """Called if a turn leaves the look out. True if the stretch has ended here."""
    cdef int64_t began = measures.stretch_began_ns

    if measures.turns_to_clock > 0:
        measures.turns_to_clock -= 1
        return False
    stretch_ends(measures, latency, mio_clock_now())
    measures.turns_to_clock = (
        TURNS_PER_CLOCK - 1 if measures.stretch_began_ns - began < SLOW_NS else 0)
    return True


cdef inline int run_begins(Measures *measures) noexcept:
    measures.stretch_began_ns = mio_clock_now()
    measures.kinds = 0
    return 0


cdef inline int run_ended(Measures *measures, mio_histogram *latency) noexcept:
    stretch_ends(measures, latency, mio_clock_now())
    measures.stretch_began_ns = 0
    return 0


cdef inline int turn_begins(Measures *measures, uint64_t turn) noexcept:
    measures.sampling = turn % SAMPLED_TURNS == 0
    if measures.sampling:
        measures.step_began_ns = mio_clock_now()
    return 0


cdef inline int step_ends(Measures *measures, uint32_t kind) noexcept:
    """Called after a step of the turn that has done work of this kind."""
    cdef int64_t now

    measures.kinds |= kind
    if measures.sampling:
        now = mio_clock_now()
        measures.sampled_ns[kind] += now - measures.step_began_ns
        measures.step_began_ns = now
    return 0


cdef inline int64_t time_of(const Measures *measures, uint32_t kind) noexcept:
    """The time that work of this kind has taken in the stretches that have ended."""
    cdef int64_t sampled = (measures.sampled_ns[WORK_CALLBACKS] + measures.sampled_ns[WORK_EVENTS]
                            + measures.sampled_ns[WORK_TIMERS] + measures.sampled_ns[WORK_LOOKS])

    if sampled == 0:
        return measures.alone_ns[kind]
    return measures.alone_ns[kind] + <int64_t>(
        <double>measures.mixed_ns * measures.sampled_ns[kind] / sampled)
