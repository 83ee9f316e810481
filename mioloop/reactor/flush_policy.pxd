"""When written bytes leave: at once, or gathered, behind the callbacks of a batch (R93).

write() sends within the call, as asyncio's does, so nothing waits behind a callback that computes,
sleeps or ends the process. To send behind the callbacks is up to 1.4 times faster under load, so
send_now() says no where that pays and is known to be harmless. All of these must hold:

- The callback stems from a crowd: a poll found CROWD sources ready at once, and the callback is
  one of theirs, or one that they woke, at most WOKEN_TURNS turns later. Fewer sources gain nothing.
  Timers and other callbacks stem from no poll. A crowd is seen in a plain run only: there is none
  outside a run, in debug mode, under an instrumented loop, or in a forked child.
- The transport may gather: it sends a stream of bytes, and no part of the program has its socket,
  by which it could see the order.
- What waits is not large. A buffer above its high mark is sent, so that pause_writing() is judged
  after an attempt (R59).
- No crowd's callback of late has taken HELD_NS, for which it may have kept a write waiting. After
  one has, every write leaves at once for FIRST_PENALTY_NS, doubled each time that it happens
  again, up to a minute; each quiet minute halves it. A slow callback meanwhile, which holds nothing
  back, makes the penalty begin anew. A callback is not slow if the loop's thread has had to wait
  for a processor meanwhile: else there would be no gathering on a busy machine.
"""

from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport mio_clock_now, mio_thread_delay_ns, mio_thread_delay_open

cdef enum:
    CROWD = 4
    WOKEN_TURNS = 2                     # a task, and the task or future that it wakes
    HELD_NS = 1000000
    GATHERING_NS = 1000000              # the longest wait for several short callbacks
    FLUSH_BYTES = 65536
    FIRST_PENALTY_NS = 1000000000
    DOUBLINGS = 6                       # 64 s
    QUIET_S = 60                        # halve it
    DELAY_AGE_NS = 2000000              # delay_ns is no older when a batch begins


ctypedef struct FlushPolicy:
    bint off                            # for good
    bint crowded                        # the callbacks of now stem from a crowd
    bint gathers                        # and what they write may wait for their end
    uint64_t crowd_turn                 # when a crowd was dispatched last; 0: never
    int64_t since_ns                    # something may have waited since then
    int64_t looked_ns                   # the last look at the clock
    int64_t at_once_until_ns
    int doublings                       # of the penalty
    int delay_fd                        # tells delay_ns; 0: not open yet, -1: there is none
    int64_t delay_ns                    # that this thread has waited for a processor
    int64_t delay_read_ns               # when that was read


cdef inline bint send_now(FlushPolicy *policy, bint may_gather, Py_ssize_t waiting,
                          Py_ssize_t high) noexcept:
    """Whether *waiting* bytes of a transport, with the last write among them, leave now."""
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
    """Another thread runs the loop next, or none does."""
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
    """The callbacks of *ready* sources come now."""
    policy.crowded = policy.gathers = False     # after those of a nested turn
    if ready >= CROWD and plain and not policy.off:
        policy.crowd_turn = turn
        crowd_begins(policy)
    return 0


cdef inline int callbacks_begin(FlushPolicy *policy, bint plain, uint64_t turn,
                                size_t count) noexcept:
    """*count* callbacks of the ready queue come now."""
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
    """After a callback: whether what was gathered has waited for long enough."""
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
    """The last callback has returned, and what was gathered is sent next."""
    look(policy)
    policy.crowded = policy.gathers = False
    return 0


cdef inline int run_ends(FlushPolicy *policy) noexcept:
    policy.crowded = policy.gathers = False
    return 0
