"""Signals: what CPython's C handler writes to the loop's self-pipe, and what it could not write.

The self-pipe carries a byte a signal, its number. It holds a few hundred; while it is full,
numbers are lost, and with asyncio's empty Python-level handler so is the last sign of a signal
that came only once. Ours notes its number. While the pipe may have been full, what was noted and
not read is served as well; a signal that came in that very moment may then be served twice, as in
a storm any may be.
"""

from cpython.exc cimport PyErr_CheckSignals

from mioloop.reactor cimport reactor
from mioloop.transports.sysio cimport *

import os
import signal

from mioloop import stdlib

cdef enum:
    MAYBE_FULL_BYTES = 64               # no self-pipe holds less, with the system's defaults

cdef set noted = set()                  # numbers since a self-pipe was last read
cdef int our_wakeup_fd = -1             # the last that wake_by() was given


def note(signum, frame):
    noted.add(signum)
    reactor.signal_count += 1           # the next turn of every loop reads its self-pipe


def take_note_of(signum, fd):
    """After add_signal_handler(): replace its empty handler by `note`; *fd* is the self-pipe."""
    if signal.getsignal(signum) is stdlib.sighandler_noop:
        signal.signal(signum, note)
        signal.siginterrupt(signum, False)
        wake_by(fd)                     # again: a full pipe is not to be complained about


def wake_by(fd):
    """Have signals written to *fd*, a self-pipe; gives the descriptor they went to before."""
    global our_wakeup_fd
    before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    our_wakeup_fd = fd
    return before


def _after_fork_in_child():
    """The self-pipe is shared: the parent would serve signals that were sent to the child."""
    noted.clear()                       # the parent's
    if our_wakeup_fd >= 0:
        fd = signal.set_wakeup_fd(-1)
        if fd != our_wakeup_fd:         # somebody else's
            signal.set_wakeup_fd(fd)


os.register_at_fork(after_in_child=_after_fork_in_child)


def take_over(csock):
    """In a forked child: *csock* is its new self-pipe. Signals that came since the fork go there."""
    wake_by(csock.fileno())
    for signum in list(noted):
        csock.send(bytes([signum]))


def serve(loop):
    """Read the self-pipe of *loop* and run the handlers of the signals that have come (R87)."""
    cdef bint full = False, was_full
    failure = None

    while loop._csock is not None:
        was_full = full
        failure = run_handlers(failure)
        # No Python code runs from here to the end of the drain: a number that is noted has its
        # byte in the pipe, unless that was full. What comes in between has a byte, or is noted by
        # the next round.
        come = noted.copy()
        noted.clear()
        numbers = drain(loop._ssock.fileno())
        full = len(numbers) >= MAYBE_FULL_BYTES
        failure = run_handlers(failure)     # Ctrl-C here, not in the Python code that follows
        if not full:                        # read ahead of its note: not to be served by that, too
            noted.difference_update(set(numbers).difference(come))
        loop._process_self_data(numbers)
        if full or was_full:
            for signum in come.difference(numbers):
                loop._handle_signal(signum)
        if not full:
            break
    if failure is not None:
        raise failure


cdef object run_handlers(object failure):
    """Python's handlers of what has come. Gives *failure*, or else what one of them raised."""
    try:
        PyErr_CheckSignals()
    except BaseException as exc:        # of the program's own, or Ctrl-C
        return exc if failure is None else failure
    return failure


cdef bytes drain(int fd):
    cdef char buf[4096]
    cdef Py_ssize_t n = sizeof(buf)

    read = b""
    while n == sizeof(buf):
        n = mio_recv(fd, buf, sizeof(buf))
        if n > 0:
            read += buf[:n]
    return read
