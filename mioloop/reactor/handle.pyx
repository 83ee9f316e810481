"""Handles: what call_soon(), call_later() and add_reader() return.

They behave as asyncio.Handle and asyncio.TimerHandle do, and pass isinstance() for
them (by `__class__`: a class of the stdlib cannot be a base of a native one). Whatever
is not needed to run a callback (repr, ordering) is asked of the stdlib's own classes,
so that it reads as it does in the Python version at hand.
"""

cimport cython
from cpython.object cimport PyObject

from mioloop.reactor.core cimport MIO_TIMER_IDLE

import inspect
import sys
from asyncio import events, format_helpers

cdef extern from "Python.h":
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *kwargs)
    object PyContext_CopyCurrent()
    int PyContext_Enter(PyObject *context)
    int PyContext_Exit(PyObject *context)
    void Py_DECREF(PyObject *)

cdef object StdHandle = events.Handle
cdef object StdTimerHandle = events.TimerHandle
cdef bint describe_takes_debug = (
    "debug" in inspect.signature(format_helpers._format_callback_source).parameters
)


cdef class Host:

    cdef int forget_timer(self, TimerHandle timer) except -1:
        return 0

    cdef int report(self, dict context) except -1:
        return 0

    cdef bint is_debug(self) noexcept:
        return False


cdef int raised() except -1:
    """Turns the C API's current exception into one that Cython sees."""
    return -1


@cython.freelist(512)
cdef class Handle:

    # -- hot path ----------------------------------------------------------

    cdef int run(self) except -1:
        """Call the callback in its context. The caller holds a reference to us."""
        cdef PyObject *context = <PyObject *>self._context
        cdef PyObject *result
        # Its own references: cancel() may drop ours while it runs.
        callback, args = self._callback, self._args
        entered = self._context
        if PyContext_Enter(context) < 0:
            result = NULL                   # not a Context, or one that is entered already
        else:
            result = PyObject_Call(<PyObject *>callback, <PyObject *>args, NULL)
            PyContext_Exit(context)
        if result == NULL:
            self.callback_failed(callback, args)
        else:
            Py_DECREF(result)
        return 0

    # -- cold path ---------------------------------------------------------

    cdef int callback_failed(self, callback, args) except -1:
        try:
            raised()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            context = {
                "message": f"Exception in callback {describe(self.host, callback, args)}",
                "exception": exc,
                "handle": self,
            }
            if self._source_traceback:
                context["source_traceback"] = self._source_traceback
            self.host.report(context)
        return 0

    def _run(self):
        self.run()

    def cancel(self):
        if self._cancelled:
            return
        self._cancelled = True
        if self.host.is_debug():
            self._repr = repr(self)
        self._callback = None
        self._args = None

    def cancelled(self):
        return self._cancelled

    def get_context(self):
        return self._context

    @property
    def _loop(self):
        return self.host

    @property
    def __class__(self):
        return StdHandle

    def _repr_info(self):
        return StdHandle._repr_info(self)

    def __repr__(self):
        return StdHandle.__repr__(self)


cdef class TimerHandle(Handle):

    def __cinit__(self):
        self.timer.position = MIO_TIMER_IDLE
        self.timer.owner = <void *>self

    def cancel(self):
        self.host.forget_timer(self)
        Handle.cancel(self)

    def when(self):
        return self._when

    @property
    def _scheduled(self):
        return self.timer.position != MIO_TIMER_IDLE

    @property
    def __class__(self):
        return StdTimerHandle

    def _repr_info(self):
        return StdTimerHandle._repr_info(self)

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return StdTimerHandle.__lt__(self, other)

    def __le__(self, other):
        return StdTimerHandle.__le__(self, other)

    def __gt__(self, other):
        return StdTimerHandle.__gt__(self, other)

    def __ge__(self, other):
        return StdTimerHandle.__ge__(self, other)

    def __eq__(self, other):
        return StdTimerHandle.__eq__(self, other)


cdef describe(Host host, callback, args):
    """The callback as asyncio writes it in its messages."""
    if describe_takes_debug:
        return format_helpers._format_callback_source(callback, args, debug=host.is_debug())
    return format_helpers._format_callback_source(callback, args)


cdef int fill(Handle handle, Host host, object callback, tuple args, object context) except -1:
    handle.host = host
    handle._callback = callback
    handle._args = args
    handle._context = PyContext_CopyCurrent() if context is None else context
    if host.is_debug():
        handle._source_traceback = format_helpers.extract_stack(sys._getframe(0))
    return 0


cdef Handle new_handle(Host host, object callback, tuple args, object context):
    cdef Handle handle = Handle.__new__(Handle)
    fill(handle, host, callback, args, context)
    return handle


cdef TimerHandle new_timer(Host host, object when, object callback, tuple args, object context):
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    fill(handle, host, callback, args, context)
    handle._when = when
    return handle
