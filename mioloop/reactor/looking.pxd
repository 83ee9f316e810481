"""The peek: knowing without a system call that no source is ready (core/peek.h, rule R92).

A turn that does not wait looks at the selector, so that it sees every descriptor that was ready
when the turn began. After several looks without an event the reactor arms a peek. While the peek
has not completed, a look would find no event, and is left out.
"""

from libc.stdint cimport uint64_t

from mioloop.reactor.core cimport (
    mio_peek, mio_peek_arm, mio_peek_free, mio_peek_is_quiet, mio_peek_new, mio_poll, mio_poll_fd)
from mioloop.reactor.python_api cimport PyThread_get_thread_ident

cdef enum:
    # A peek costs as much as four looks, and pays if it saves more than four.
    LOOKS_BEFORE_PEEK = 4
    MOST_LOOKS_BEFORE_PEEK = 256
    TURNS_OF_A_GOOD_PEEK = 16


ctypedef struct Looking:
    mio_peek *peek                      # NULL: not made yet, or not possible
    bint peeks                          # False: the user or the system refuses peeks
    bint armed
    unsigned long thread                # the thread that made the peek
    uint64_t armed_turn                 # the turn that armed the peek
    int empty_looks                     # consecutive looks that found no event
    int looks_before                    # number of empty looks that arms the peek


cdef inline bint peek_completed(Looking *looking, uint64_t turn) noexcept:
    """Called when an armed peek is no longer quiet. Returns True: a look is due."""
    looking.armed = False
    # A peek that completes after a few turns saves less than it costs: arm the next one later.
    if turn - looking.armed_turn >= TURNS_OF_A_GOOD_PEEK:
        looking.looks_before = LOOKS_BEFORE_PEEK
    elif looking.looks_before < MOST_LOOKS_BEFORE_PEEK:
        looking.looks_before *= 2
    return True


cdef inline bint peek_is_due(Looking *looking, bint found) noexcept:
    """Called after a look. True if it is time to arm the peek."""
    if found:
        looking.empty_looks = 0
        return False
    looking.empty_looks += 1
    return looking.empty_looks >= looking.looks_before and looking.peeks


cdef inline int arm_peek(Looking *looking, mio_poll *poll, uint64_t turn) noexcept:
    cdef int fd

    if looking.peek == NULL:
        fd = mio_poll_fd(poll)
        if fd < 0 or mio_peek_new(fd, &looking.peek) < 0:
            looking.peeks = False
            return 0
        looking.thread = PyThread_get_thread_ident()
    looking.armed = looking.peeks = mio_peek_arm(looking.peek)
    looking.armed_turn = turn
    return 0


cdef inline int drop_peek(Looking *looking) noexcept:
    mio_peek_free(looking.peek)
    looking.peek = NULL
    looking.armed = False
    return 0
