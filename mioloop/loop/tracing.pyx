"""Records: which callbacks, steps of tasks and events a loop has run, and when.

The console records while a client asks (console/recorder.py). A loop that records runs each
callback as in debug mode, without its checks. The cost is one test of a flag that exists for debug
mode; while a loop records, it is about a microsecond for each callback, and a write() sends at once
instead of together with other writes. A record holds no object of the program but code objects and
strings. It calls no method that a program has overridden.

Any thread that holds the GIL may begin and end the recording, and take the records.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from mioloop.loop.measuring cimport MeasuringReactor
from mioloop.reactor.handle cimport Handle
from mioloop.reactor.python_api cimport PyObject_TypeCheck, PyTypeObject, Py_XDECREF
from mioloop.reactor.source cimport Source, SourceFigures
from mioloop.transports.base cimport BaseTransport

import functools
from asyncio import tasks
from types import (
    BuiltinMethodType, CoroutineType, FunctionType, GeneratorType, MethodType)

cdef enum:
    RECORDS = 32768                     # a power of two
    QUEUED = 4096                       # a power of two

    RECORD_CALLBACK = 0
    RECORD_STEP = 1
    RECORD_EVENT = 2

KINDS = ("callback", "step", "event")

cdef object Task = tasks.Task
cdef object get_coro = Task.get_coro
cdef object get_name = Task.get_name
cdef object is_done = Task.done
cdef object waiter_of = getattr(Task, "_fut_waiter", None)     # a descriptor, of the C class only
# CPython's types for the first and the next steps of a task; both have the task as __self__.
cdef tuple STEPS = ("TaskStepMethWrapper", "TaskWakeupMethWrapper")


cdef object task_of(callback):
    """The task of which *callback* is a step, or None."""
    cdef type kind = type(callback)
    if kind is BuiltinMethodType or kind is MethodType or kind.__name__ in STEPS:
        owner = callback.__self__
        if PyObject_TypeCheck(<PyObject *>owner, <PyTypeObject *>Task):
            return owner
    return None


cdef object name_of(callback):
    """The code object of a function in Python, or a name."""
    cdef int i
    for i in range(8):
        kind = type(callback)
        if kind is functools.partial:
            callback = callback.func
        elif kind is MethodType:
            callback = callback.__func__
        else:
            break
    if kind is FunctionType:
        return callback.__code__
    if kind is CoroutineType:
        return callback.cr_code
    if kind is GeneratorType:
        return callback.gi_code
    if kind is BuiltinMethodType or kind.__module__.startswith("_cython_"):
        return callback.__qualname__
    return kind.__qualname__


cdef PyObject *owned(thing):
    Py_INCREF(thing)
    return <PyObject *>thing


cdef class TracingReactor(MeasuringReactor):

    def __dealloc__(self):
        self.forget_records()

    def _record(self, bint on):
        """Begin or end the recording. Raises MemoryError."""
        if on and self.records == NULL:
            self.records = <Record *>calloc(RECORDS, sizeof(Record))
            self.queued = <Queued *>calloc(QUEUED, sizeof(Queued))
            if self.records == NULL or self.queued == NULL:
                self.forget_records()
                raise MemoryError
        if on and not self.traced:
            self.recorded_in, self.recorded_out = self.traffic.bytes_in, self.traffic.bytes_out
        self.traced = on
        self.update_instrumented()
        if on:
            self.note_queued(self.ring.count, self.monotonic_ns())
        elif self.under_way.began_ns == 0:
            self.forget_records()

    def _take_records(self, size_t most):
        """Return (records, lost): at most *most* of the oldest records, as tuples.

        *lost* records had no room since the last call.
        """
        cdef Record *record
        taken = []
        while self.record_count and len(taken) < most:
            record = &self.records[self.first_record]
            taken.append((
                KINDS[record.kind], record.began_ns, record.ended_ns, record.ready_ns, record.turn,
                record.polled_ns, record.idle_ns, record.bytes_in, record.bytes_out, record.spins,
                record.fd, record.task, <object>record.name, <object>record.detail))
            self.first_record = (self.first_record + 1) & (RECORDS - 1)
            self.record_count -= 1
            Py_XDECREF(record.name)
            Py_XDECREF(record.detail)
        lost, self.lost_records = self.lost_records, 0
        return taken, lost

    def _under_way(self):
        """Return (began_ns, name, detail) of the callback or event under way, or None."""
        if self.under_way.began_ns == 0 or self.under_way.name == NULL:
            return None
        return (self.under_way.began_ns, <object>self.under_way.name,
                <object>self.under_way.detail)

    def _list_transports(self):
        """Return (class, fd, class of the protocol, peer, paused, buffered) of each transport."""
        cdef SourceFigures figures
        cdef BaseTransport transport
        cdef size_t i
        cdef void *entry
        found = []
        for i in range(self.slab.used):
            entry = self.slab.entries[i].value
            if entry == NULL or not PyObject_TypeCheck(<PyObject *>entry,
                                                       <PyTypeObject *>BaseTransport):
                continue
            transport = <BaseTransport>entry
            figures = SourceFigures(0, 0, 0, 0, 0, 0)
            transport.add_figures(&figures)
            peer = None if transport.extra is None else transport.extra.get("peername")
            found.append((
                type(transport).__name__, transport.fd, type(transport._protocol).__qualname__,
                peer, figures.paused > 0, figures.buffered_bytes))
        return found

    # -- recording -----------------------------------------------------------------------

    cdef int update_instrumented(self) except -1:
        MeasuringReactor.update_instrumented(self)
        if self.traced:
            self.instrumented = self.observed = True
        return 0

    cdef int run_instrumented(self, Handle handle) except -1:
        cdef Record record
        if not self.traced:
            return MeasuringReactor.run_instrumented(self, handle)
        callback = handle._callback
        task = task_of(callback)
        if task is None:
            record.kind = RECORD_CALLBACK
            record.task = 0
            record.name = owned(name_of(callback))
            record.detail = owned(None)
        else:
            record.kind = RECORD_STEP
            record.task = <uint64_t><size_t><PyObject *>task
            record.name = owned(name_of(get_coro(task)))
            record.detail = owned(get_name(task))
        del callback
        record.fd = -1
        self.begin_record(&record)
        if self.serving is None:                # else a watcher calls it, without the queue
            record.ready_ns = self.take_queued(record.began_ns)
        try:
            return MeasuringReactor.run_instrumented(self, handle)
        finally:
            self.end_record(&record, task)

    cdef int serve_instrumented(self, Source source, uint32_t ready) except -1:
        cdef Record record
        if not self.traced:
            return MeasuringReactor.serve_instrumented(self, source, ready)
        record.kind = RECORD_EVENT
        record.task = 0
        record.name = owned(type(source).__name__)
        if isinstance(source, BaseTransport):
            protocol = (<BaseTransport>source)._protocol
            record.detail = owned(type(protocol).__qualname__)
            del protocol
        else:
            record.detail = owned(None)
        record.fd = source.fd
        self.begin_record(&record)
        try:
            return MeasuringReactor.serve_instrumented(self, source, ready)
        finally:
            self.end_record(&record, None)

    cdef int begin_record(self, Record *record) except -1:
        record.spins = False
        record.turn = self.turns
        record.polled_ns = self.polled_ns
        record.idle_ns = self.measures.idle_ns
        record.began_ns = record.ready_ns = self.monotonic_ns()
        if self.under_way.began_ns == 0:
            self.under_way = record[0]
        return 0

    cdef int end_record(self, Record *record, task) noexcept:
        cdef size_t place

        record.ended_ns = self.monotonic_ns()
        if self.under_way.began_ns == record.began_ns:
            memset(&self.under_way, 0, sizeof(Record))
        if not self.traced or self.record_count == RECORDS:
            self.lost_records += self.traced
            Py_XDECREF(record.name)
            Py_XDECREF(record.detail)
            if not self.traced:
                self.forget_records()
            return 0
        # Several sources may have received together, before the first of them was served.
        record.bytes_in = self.traffic.bytes_in - self.recorded_in
        record.bytes_out = self.traffic.bytes_out - self.recorded_out
        self.recorded_in, self.recorded_out = self.traffic.bytes_in, self.traffic.bytes_out
        if task is not None and waiter_of is not None:
            record.spins = waiter_of.__get__(task) is None and not is_done(task)
        place = (self.first_record + self.record_count) & (RECORDS - 1)
        self.records[place] = record[0]
        self.record_count += 1
        self.note_queued(self.ring.count, record.ended_ns)
        return 0

    # -- when a handle was queued ---------------------------------------------------------
    #
    # A handle has no room for a time. So the length of the ready queue is compared before and after
    # each callback: the handles that it has queued were ready when it ended.

    cdef int note_queued(self, uint64_t ready, int64_t now_ns) noexcept:
        """*ready* handles are in the queue: the last ones are new, or the first ones have gone."""
        cdef uint64_t gone
        cdef Queued *first

        if self.queued == NULL:
            return 0
        if ready > self.known:
            if self.queued_count == QUEUED:         # count them with the last ones
                self.queued[(self.first_queued + QUEUED - 1) & (QUEUED - 1)].count += (
                    ready - self.known)
            else:
                self.queued[(self.first_queued + self.queued_count) & (QUEUED - 1)] = Queued(
                    ready - self.known, now_ns)
                self.queued_count += 1
            self.known = ready
        while ready < self.known:
            first = &self.queued[self.first_queued]
            gone = min(first.count, self.known - ready)
            first.count -= gone
            self.known -= gone
            if first.count == 0:
                self.first_queued = (self.first_queued + 1) & (QUEUED - 1)
                self.queued_count -= 1
        return 0

    cdef int64_t take_queued(self, int64_t now_ns) noexcept:
        """The time when the handle was queued that the loop has just taken from its queue."""
        cdef int64_t at_ns

        if self.queued == NULL:
            return now_ns
        self.note_queued(self.ring.count + 1, now_ns)       # cancelled handles have gone before it
        at_ns = self.queued[self.first_queued].at_ns
        self.note_queued(self.ring.count, now_ns)
        return at_ns

    cdef int forget_records(self) noexcept:
        cdef size_t i
        cdef Record *record

        for i in range(self.record_count):
            record = &self.records[(self.first_record + i) & (RECORDS - 1)]
            Py_XDECREF(record.name)
            Py_XDECREF(record.detail)
        free(self.records)
        free(self.queued)
        self.records = NULL
        self.queued = NULL
        self.first_record = self.record_count = self.first_queued = self.queued_count = 0
        self.known = self.lost_records = 0
        return 0
