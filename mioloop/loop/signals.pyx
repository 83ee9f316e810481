"""Signals: CPython's C handler writes their numbers to the loop's self-pipe, unless it is full.

The self-pipe carries one byte for each signal, its number. It holds a few hundred bytes. While it
is full, numbers are lost, and asyncio's Python-level handler is empty. So a signal that came only
once would leave no trace. The handler of this module, `record_signal`, records the number. If the
pipe may have been full, process_pending() also handles the numbers that were recorded and not read.
A signal that comes at that moment may be handled twice. In a storm of signals that may happen to
any signal.
"""

from cpython.exc cimport PyErr_CheckSignals

from mioloop.reactor cimport reactor
from mioloop.transports.sysio cimport *

import os
import signal

from mioloop import stdlib

cdef enum:
    MAYBE_FULL_BYTES = 64               # with the system's defaults every self-pipe holds more

cdef set pending_signals = set()        # numbers that came since a self-pipe was last read
cdef int our_wakeup_fd = -1             # last argument of set_wakeup_fd()


def record_signal(signum, frame):
    pending_signals.add(signum)
    reactor.signal_count += 1           # the next turn of every loop reads its self-pipe


def install_recorder(signum, fd):
    """Replace the empty handler of add_signal_handler() by `record_signal`.

    *fd* is the self-pipe.
    """
    if signal.getsignal(signum) is stdlib.sighandler_noop:
        signal.signal(signum, record_signal)
        signal.siginterrupt(signum, False)
        set_wakeup_fd(fd)               # again, to turn off the warning about a full pipe


def set_wakeup_fd(fd):
    """Make *fd*, a self-pipe, the wakeup descriptor of signals. Returns the previous one."""
    global our_wakeup_fd
    before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    our_wakeup_fd = fd
    return before


def _after_fork_in_child():
    """Stop writing to the self-pipe: the parent reads it, and would handle the child's signals."""
    pending_signals.clear()             # these signals were sent to the parent
    if our_wakeup_fd >= 0:
        fd = signal.set_wakeup_fd(-1)
        if fd != our_wakeup_fd:         # the program has set another one: keep it
            signal.set_wakeup_fd(fd)


os.register_at_fork(after_in_child=_after_fork_in_child)


def take_over(csock):
    """Use *csock*, the new self-pipe of a forked child. Write the signals since the fork there."""
    set_wakeup_fd(csock.fileno())
    for signum in list(pending_signals):
        csock.send(bytes([signum]))


def process_pending(loop):
    """Read the self-pipe of *loop* and run the handlers of the signals that came (R87)."""
    cdef bint full = False, was_full
    failure = None

    while loop._csock is not None:
        was_full = full
        failure = run_handlers(failure)
        # No Python code runs from here to the end of drain(). So a recorded number has its byte in
        # the pipe, unless the pipe was full. A signal that comes meanwhile has a byte in the pipe,
        # or is recorded in the next round.
        recorded = pending_signals.copy()
        pending_signals.clear()
        numbers = drain(loop._ssock.fileno())
        full = len(numbers) >= MAYBE_FULL_BYTES
        failure = run_handlers(failure)     # raises Ctrl-C here, not in the following Python code
        # The numbers that came during drain() were read before `record_signal` recorded them.
        # Remove these records, or the signals would be handled twice.
        if not full:
            pending_signals.difference_update(set(numbers).difference(recorded))
        loop._process_self_data(numbers)
        if full or was_full:
            for signum in recorded.difference(numbers):
                loop._handle_signal(signum)
        if not full:
            break
    if failure is not None:
        raise failure


cdef object run_handlers(object failure):
    """Run Python's handlers of the pending signals.

    Returns *failure*, or, if that is None, the exception that a handler raised.
    """
    try:
        PyErr_CheckSignals()
    except BaseException as exc:        # from a handler of the program, or Ctrl-C
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
