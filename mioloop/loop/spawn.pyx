"""Spawned: a child process that shares the loop's memory until it has executed its program.

Ownership  a Spawned owns everything that the child reads. Freed before the child has executed,
           it leaves that memory allocated: the child may still read it.
"""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.ref cimport Py_INCREF

from mioloop.reactor.sealed cimport seal

import errno
import os

cdef extern from "loop/child.h" nogil:
    const bint MIO_CHILD_SUPPORTED

    ctypedef struct mio_child:
        char **argv
        char **paths
        char **envp
        const char *cwd
        const int *keep
        int keep_count
        int stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write
        int report_read, report_write
        int close_fds, restore_signals, new_session
        int process_group, umask

    int mio_child_start(mio_child *child)
    void mio_child_free(mio_child *child)

cdef extern from "unistd.h" nogil:
    char **environ

# Where this is False, spawn() always returns None. Valgrind ends a process that calls clone() in
# this way. A process runs under Valgrind if Valgrind's library is preloaded.
SUPPORTED = MIO_CHILD_SUPPORTED and "vgpreload" not in os.environ.get("LD_PRELOAD", "")

# The errors of clone() where an emulator or a sandbox does not support this call.
cdef tuple IMPOSSIBLE = (errno.ENOSYS, errno.EINVAL, errno.EPERM)


@cython.no_gc                           # it refers to bytes only
@cython.final
cdef class Spawned:
    cdef mio_child *child
    cdef list strings                   # the bytes that argv, paths, envp and cwd point into
    cdef readonly int pid
    cdef bint child_reads

    def executed(self):
        """Called when the child has executed its program or ended: it no longer reads memory."""
        self.child_reads = False

    def __dealloc__(self):
        if self.child_reads:
            Py_INCREF(self.strings)
        elif self.child is not NULL:
            free_child(self.child)


cdef int free_child(mio_child *child) except -1:
    mio_child_free(child)
    PyMem_RawFree(child.argv)
    PyMem_RawFree(child.paths)
    PyMem_RawFree(child.envp)
    PyMem_RawFree(<void *>child.keep)
    PyMem_RawFree(child)
    return 0


cdef void *allocate(size_t count, size_t size) except NULL:
    cdef void *memory = PyMem_RawCalloc(count, size)
    if memory is NULL:
        raise MemoryError
    return memory


cdef char **pointers(list strings, items) except NULL:
    """A NULL-terminated array of pointers to the encoded *items*, which are added to *strings*."""
    cdef list encoded = [os.fsencode(item) for item in items]
    cdef char **array = <char **>allocate(len(encoded) + 1, sizeof(char *))
    for i, item in enumerate(encoded):
        if b"\0" in item:
            PyMem_RawFree(array)
            raise ValueError("embedded null byte")
        array[i] = item
    strings.extend(encoded)
    return array


cdef list current_environment():
    """Copy the environment, because the parent may change its own while the child reads it."""
    cdef list variables = []
    cdef char **at = environ
    while at is not NULL and at[0] is not NULL:
        variables.append(<bytes>at[0])
        at += 1
    return variables


def spawn(args, paths, bint close_fds, keep, cwd, env, streams, int report_read, int report_write,
          bint restore_signals, bint new_session, int process_group, int umask):
    """Start a child as _posixsubprocess.fork_exec() does, but never wait for its exec().

    Args:
        streams: the six descriptors of the standard streams, or -1: stdin's read and write end,
            stdout's, stderr's.
        report_read, report_write: a pipe; the child writes why it could not execute.

    Returns:
        A `Spawned`, or None if this system cannot do it.

    Raises:
        OSError: no child could be made.
        TypeError, ValueError, OverflowError: an argument is wrong; there is no child.
    """
    if not SUPPORTED:
        return None
    cdef Spawned self = Spawned.__new__(Spawned)
    cdef mio_child *child = <mio_child *>allocate(1, sizeof(mio_child))
    cdef int *kept
    cdef int result, before = -1
    self.child = child
    self.strings = []
    child.argv = pointers(self.strings, args)
    child.paths = pointers(self.strings, paths)
    child.envp = pointers(self.strings, current_environment() if env is None else env)
    if not paths:
        raise ValueError("no path to execute")
    if cwd is not None:
        encoded = os.fsencode(cwd)
        if b"\0" in encoded:
            raise ValueError("embedded null byte")
        self.strings.append(encoded)
        child.cwd = encoded
    kept = <int *>allocate(len(keep) + 1, sizeof(int))
    child.keep = kept
    child.keep_count = len(keep)
    for i, fd in enumerate(keep):
        kept[i] = fd
        if kept[i] <= before:
            raise ValueError("bad value(s) in fds_to_keep")
        before = kept[i]
    if report_write < 3:
        raise ValueError("report_write must be >= 3")
    (child.stdin_read, child.stdin_write, child.stdout_read, child.stdout_write,
     child.stderr_read, child.stderr_write) = streams
    child.report_read = report_read
    child.report_write = report_write
    child.close_fds = close_fds
    child.restore_signals = restore_signals
    child.new_session = new_session
    child.process_group = process_group
    child.umask = umask
    result = mio_child_start(child)     # keeps the GIL, so that no other thread forks meanwhile
    if -result in IMPOSSIBLE:
        return None
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    self.child_reads = True
    self.pid = result
    return self


seal(Spawned)
