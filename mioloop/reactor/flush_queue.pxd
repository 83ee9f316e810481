"""The queue of the sources that have gathered writes: linked through the sources themselves."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from mioloop.reactor.source cimport Source


ctypedef struct FlushQueue:
    PyObject *first                     # owned, or NULL: the queue is empty
    PyObject *last                      # borrowed: the queue owns it; stale while it is empty


cdef inline int enqueue(FlushQueue *queue, Source source) noexcept:
    if source.flush_queued:
        return 0
    source.flush_queued = True
    if queue.first == NULL:
        Py_INCREF(source)
        queue.first = <PyObject *>source
    else:
        (<Source>queue.last).next_unflushed = source
    queue.last = <PyObject *>source
    return 0


cdef inline Source dequeue(FlushQueue *queue):
    """The first source. The queue must not be empty."""
    cdef Source first = <Source>queue.first
    cdef Source following = first.next_unflushed

    Py_DECREF(first)                    # the queue's reference
    first.next_unflushed = None
    first.flush_queued = False
    if following is None:
        queue.first = NULL
    else:
        Py_INCREF(following)
        queue.first = <PyObject *>following
    return first


cdef inline int empty(FlushQueue *queue) except -1:
    """Drop all sources, one by one: freeing a long chain must not recurse."""
    while queue.first != NULL:
        dequeue(queue)
    return 0


# Before and after a fork, see forking.pyx.

cdef inline int send_all(FlushQueue *queue) except -1:
    """Send the gathered bytes of the sources. The sources stay in the queue."""
    cdef Source source = None if queue.first == NULL else <Source>queue.first

    while source is not None:
        if source.attached:
            source.send_gathered()
        source = source.next_unflushed
    return 0


cdef inline int forget_all(FlushQueue *queue) except -1:
    """Drop the gathered bytes of the sources. The sources stay in the queue."""
    cdef Source source = None if queue.first == NULL else <Source>queue.first

    while source is not None:
        source.drop_gathered()
        source = source.next_unflushed
    return 0
