"""Bursts: one system call that sends, or receives, for several sources (core/burst.h).

A burst runs no user code, and no operation outlives its system call. Each result is kept until
its source's turn comes, and then counts as the result of a call that the source made itself. A
source takes part by four methods:

prepare_send(transfer)   Fills *transfer* with the data that on_flush() would send first. False if
                         that data is not one contiguous piece, or needs more than a send(). After
                         True the bytes stay in place until complete_send(), which comes before
                         on_flush(). No code of the program may run in between: a chunk of a
                         class with a __del__ is therefore copied first.
complete_send(result)    Records the result: a positive number of bytes, or -errno. on_flush()
                         acts on it, and so must every other method that sends.
can_prefetch(ready)      Whether on_ready(ready) would begin with a recv() of at most AHEAD_SIZE
                         bytes. Also False if the program could read the socket itself:
                         prefetched data is no longer there.
complete_prefetch(data, result)
                         Records the result: the number of bytes in *data*, which the source
                         copies, or -errno. on_ready() acts on it.

A burst of few operations costs more than single calls. Where the user or the system refuses
io_uring, `allowed` is False, and each source makes its own calls.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from mioloop.reactor.core cimport (
    MIO_BURST_MOST, mio_burst, mio_burst_free, mio_burst_new, mio_burst_recv, mio_burst_send,
    mio_event, mio_slab, mio_slab_get, mio_transfer)
from mioloop.reactor.read_buffers cimport AHEAD_SIZE
from mioloop.reactor.source cimport Source

cdef enum:
    LEAST_BATCH = 4                     # smallest number of operations for which a burst pays


ctypedef struct BatchIo:
    mio_burst *burst                    # NULL: not made
    bint allowed                        # False: the user or the system refuses bursts
    int least                           # LEAST_BATCH, except in tests
    uint64_t total                      # number of bursts


cdef inline bint can_batch(BatchIo *batch, int count) noexcept:
    """Whether *count* operations can be made in one system call, and are then cheaper."""
    if count < batch.least or not batch.allowed:
        return False
    if batch.burst == NULL:
        batch.allowed = mio_burst_new(&batch.burst) == 0
    batch.total += batch.allowed
    return batch.allowed


cdef inline int send_batch(BatchIo *batch, PyObject *first) except -1:
    """Send the data that the sources of the flush queue offer, from *first* on."""
    cdef mio_transfer transfers[MIO_BURST_MOST]
    cdef PyObject *sources[MIO_BURST_MOST]      # borrowed: the queue owns them
    cdef Source source = <Source>first
    cdef int count = 0, i

    while source is not None and count < MIO_BURST_MOST:
        if source.attached and source.prepare_send(&transfers[count]):
            transfers[count].fd = source.fd
            sources[count] = <PyObject *>source
            count += 1
        source = source.next_unflushed
    if not can_batch(batch, count):
        return 0
    batch.allowed = mio_burst_send(batch.burst, transfers, count)
    for i in range(count):
        (<Source>sources[i]).complete_send(transfers[i].result)
    return 0


cdef inline bint is_among(PyObject *source, PyObject **sources, int count) noexcept:
    """Whether *source* is to read already: nested polls report a source more than once."""
    cdef int i

    for i in range(count):
        if sources[i] == source:
            return True
    return False


cdef inline int read_batch(BatchIo *batch, const mio_slab *slab, const mio_event *events, int most,
                           char *room) except -1:
    """Read for the sources of *events*, at most MIO_BURST_MOST, into *room*."""
    cdef mio_transfer transfers[MIO_BURST_MOST]
    cdef PyObject *sources[MIO_BURST_MOST]      # borrowed: the slab owns them
    cdef void *found
    cdef int count = 0, i

    for i in range(most):
        found = mio_slab_get(slab, events[i].token)
        if (found != NULL and not is_among(<PyObject *>found, sources, count)
                and (<Source>found).can_prefetch(events[i].ready)):
            transfers[count].fd = (<Source>found).fd
            transfers[count].buf = room + count * AHEAD_SIZE
            transfers[count].len = AHEAD_SIZE
            sources[count] = <PyObject *>found
            count += 1
    if not can_batch(batch, count):
        return 0
    batch.allowed = mio_burst_recv(batch.burst, transfers, count)
    for i in range(count):
        (<Source>sources[i]).complete_prefetch(<const char *>transfers[i].buf, transfers[i].result)
    return 0


cdef inline int drop_burst(BatchIo *batch) noexcept:
    mio_burst_free(batch.burst)
    batch.burst = NULL
    return 0
