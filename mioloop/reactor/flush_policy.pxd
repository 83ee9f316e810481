"""When written bytes are sent: within write(), or gathered, after a batch of callbacks (R93).

Rule R93: write() sends within the call, as asyncio's does, unless the loop has proof that gathering
pays and is harmless. So nothing waits for a callback that computes, sleeps or ends the process.
Sending after the callbacks is up to 1.4 times faster under load. So send_now() returns False if all
of these conditions hold:

- The callback stems from a crowd: a poll found CROWD sources ready at once, and the callback serves
  one of these sources, or was woken by one at most WOKEN_TURNS turns ago. Fewer sources gain
  nothing. Timers and other callbacks stem from no poll. Only a plain run has crowds: there is none
  outside a run, in debug mode, under an instrumented loop, or in a forked child.
- The transport may gather: it sends a stream of bytes, and no part of the program has its socket,
  through which it could see the order.
- The waiting data is not large. A buffer above its high mark is sent, because pause_writing() is
  decided after an attempt to send (R59).
- No callback of a recent crowd has taken HELD_NS, because a gathered write may have waited for it.
  After such a slow callback, every write is sent at once for FIRST_PENALTY_NS. Each further one
  doubles the penalty, up to a minute, and each quiet minute halves it. A slow callback during the
  penalty, when no write waits, makes the penalty begin again. A callback is not slow if the loop's
  thread had to wait for a processor meanwhile. Otherwise a busy machine would never gather.
"""

from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport mio_clock_now, mio_thread_delay_ns, mio_thread_delay_open

cdef enum:
    CROWD = 4
    WOKEN_TURNS = 2                     # a task, and the task or future that it wakes
    HELD_NS = 1000000                   # a callback that takes longer is slow
    GATHERING_NS = 1000000              # longest time that a write waits for several callbacks
    FLUSH_BYTES = 65536                 # a larger amount of waiting data is sent
    FIRST_PENALTY_NS = 1000000000
    DOUBLINGS = 6                       # the longest penalty is 64 s
    QUIET_S = 60                        # seconds without a slow callback that halve the penalty
    DELAY_AGE_NS = 2000000              # greatest age of delay_ns at the beginning of a batch


ctypedef struct FlushPolicy:
    bint off                            # never gathers again
    bint crowded                        # the current callbacks stem from a crowd
    bint gathers                        # and their writes may wait for the end of the batch
    uint64_t crowd_turn                 # the turn that last dispatched a crowd; 0: none did
    int64_t since_ns                    # a write may have waited since this time
    int64_t looked_ns                   # time of the last look at the clock
    int64_t at_once_until_ns            # end of the penalty: every write is sent at once
    int doublings                       # how often the penalty is doubled
    int delay_fd                        # source of delay_ns; 0: not open yet, -1: not available
    int64_t delay_ns                    # total time that this thread waited for a processor
    int64_t delay_read_ns               # time at which delay_ns was read


cdef inline bint send_now(FlushPolicy *policy, bint may_gather, Py_ssize_t waiting,
                          Py_ssize_t high) noexcept:
    """Whether a transport sends its *waiting* bytes, the last write included, now."""
    return not (policy.gathers and may_gather and waiting < FLUSH_BYTES and waiting <= high)


cdef inline int read_delay(FlushPolicy *policy, int64_t now) noexcept:
    if policy.delay_fd == 0:
        policy.delay_fd = mio_thread_delay_open()
        if policy.delay_fd == 0:        # the program has closed its standard input
            close_descriptor(0)
            policy.delay_fd = -1
    if policy.delay_fd > 0:
        policy.delay_ns = mio_thread_delay_ns(policy.delay_fd)
    policy.delay_read_ns = now
    return 0


cdef inline int forget_thread(FlushPolicy *policy) noexcept:
    """Close delay_fd: the next run of the loop, if any, is in another thread."""
    if policy.delay_fd > 0:
        close_descriptor(policy.delay_fd)
    policy.delay_fd = 0
    policy.delay_read_ns = 0
    return 0


cdef inline bint was_kept_waiting(FlushPolicy *policy, int64_t now) noexcept:
    """Whether a callback has taken HELD_NS only because the system ran something else."""
    cdef int64_t before = policy.delay_ns

    read_delay(policy, now)
    return now - policy.looked_ns - (policy.delay_ns - before) < HELD_NS


cdef inline int crowd_begins(FlushPolicy *policy) noexcept:
    policy.crowded = True
    policy.since_ns = policy.looked_ns = mio_clock_now()
    policy.gathers = policy.since_ns >= policy.at_once_until_ns
    if policy.since_ns - policy.delay_read_ns >= DELAY_AGE_NS:
        read_delay(policy, policy.since_ns)
    return 0


cdef inline int events_begin(FlushPolicy *policy, bint plain, uint64_t turn,
                             Py_ssize_t ready) noexcept:
    """Called before the callbacks of *ready* sources run."""
    policy.crowded = policy.gathers = False     # a nested turn may have left them set
    if ready >= CROWD and plain and not policy.off:
        policy.crowd_turn = turn
        crowd_begins(policy)
    return 0


cdef inline int callbacks_begin(FlushPolicy *policy, bint plain, uint64_t turn,
                                size_t count) noexcept:
    """Called before *count* callbacks of the ready queue run."""
    policy.crowded = policy.gathers = False
    if (count >= CROWD and plain and policy.crowd_turn != 0
            and turn - policy.crowd_turn <= WOKEN_TURNS and not policy.off):
        crowd_begins(policy)
    return 0


cdef inline int penalise(FlushPolicy *policy, int64_t now) noexcept:
    cdef int64_t quiet = now - policy.at_once_until_ns
    cdef int64_t minutes = quiet // (<int64_t>QUIET_S * 1000000000)

    if policy.at_once_until_ns == 0:
        policy.doublings = 0
    elif minutes >= 1:
        policy.doublings = max(0, policy.doublings - <int>min(minutes, DOUBLINGS))
    elif quiet >= 0:
        policy.doublings = min(policy.doublings + 1, DOUBLINGS)
    policy.at_once_until_ns = now + (<int64_t>FIRST_PENALTY_NS << policy.doublings)
    policy.gathers = False
    return 0


cdef inline bint look(FlushPolicy *policy) noexcept:
    """Called after a callback. True if the gathered writes have waited long enough."""
    cdef int64_t now

    if not policy.crowded:
        return False
    now = mio_clock_now()
    if now - policy.looked_ns >= HELD_NS and not was_kept_waiting(policy, now):
        penalise(policy, now)
    policy.looked_ns = now
    if now - policy.since_ns < GATHERING_NS:
        return False
    policy.since_ns = now
    return True


cdef inline int batch_ends(FlushPolicy *policy) noexcept:
    """Called when the last callback has returned, before the gathered writes are sent."""
    look(policy)
    policy.crowded = policy.gathers = False
    return 0


cdef inline int run_ends(FlushPolicy *policy) noexcept:
    policy.crowded = policy.gathers = False
    return 0
