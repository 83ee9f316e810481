"""Forks: the bytes that running loops have gathered are sent once (rule R95)."""

from mioloop.reactor.flush_policy cimport run_ends
from mioloop.reactor.flush_queue cimport forget_all, send_all
from mioloop.reactor.python_api cimport Py_AddPendingCall, PyThread_get_thread_ident

import os
import threading

forks = 0
children_forked = 0

# The loops that are running, in any thread. Only these can have gathered writes.
cdef Run *running = NULL


cdef int begin_run(Run *run) noexcept:
    global running
    run.next = running
    running = run
    return 0


cdef int end_run(Run *run) noexcept:
    global running
    cdef Run *each = running
    if each == run:
        running = run.next
        return 0
    while each.next != run:
        each = each.next
    each.next = run.next
    return 0


def _before_fork():
    """Send the writes that this thread has gathered. The child would send them a second time."""
    cdef Run *each = running
    while each != NULL:
        if each.thread == PyThread_get_thread_ident():
            send_all(each.flushes)
        each = each.next


def _after_fork_in_child():
    """Drop the writes that other threads have gathered: these threads send them in the parent."""
    global forks, children_forked
    cdef Run *each = running
    forks += 1
    children_forked += 1                # the parent holds the same open files
    while each != NULL:
        each.policy.off = True
        run_ends(each.policy)
        if each.thread != PyThread_get_thread_ident():
            forget_all(each.flushes)
        each = each.next


def _after_fork_in_parent():
    global children_forked
    children_forked += 1
    if not parent_callbacks:
        return
    # No line of Python may run between this and the end of os.fork(): it would make the call.
    if (threading.current_thread() is not threading.main_thread()
            or Py_AddPendingCall(call_parent_callbacks, NULL) != 0):
        call_parent_callbacks(NULL)


cdef int call_parent_callbacks(void *unused) except -1:
    for callback in parent_callbacks:
        callback()
    return 0


def call_after_forks(callback):
    """Call callback() in the parent after each fork.

    CPython 3.13 counts the threads of the parent after its hooks, and warns if there are several.
    So the callback, which may start a thread, runs when os.fork() has returned. Outside the main
    thread, where a fork makes a warning in any case, it runs before that.
    """
    parent_callbacks.append(callback)


cdef list parent_callbacks = []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)
