"""Handles: what call_soon(), call_later() and add_reader() return.

They behave as asyncio.Handle and asyncio.TimerHandle do, and pass isinstance() for
them (by `__class__`: a class of the stdlib cannot be a base of a native one). Whatever
is not needed to run a callback (repr, ordering) is asked of the stdlib's own classes,
so that it reads as it does in the Python version at hand.

A handle is made and freed for every callback, so both are done by hand here: see "making and
freeing" at the end.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

from mioloop.reactor.core cimport MIO_TIMER_IDLE

import inspect
import sys
from asyncio import events, format_helpers

cdef extern from "Python.h":
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct PyTypeObject:
        destructor tp_dealloc
        traverseproc tp_traverse
        inquiry tp_clear
        void *tp_new
        void (*tp_free)(void *) noexcept
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *Py_None
    PyTypeObject *Py_TYPE(PyObject *)
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    PyObject *PyObject_Init(PyObject *, PyTypeObject *)
    void PyObject_GC_Track(PyObject *)
    void PyObject_GC_UnTrack(PyObject *)
    void PyObject_ClearWeakRefs(PyObject *)
    PyObject **PyObject_GET_WEAKREFS_LISTPTR(PyObject *)
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *kwargs)
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t nargsf,
                                  PyObject *kwnames)
    PyObject *PyContext_CopyCurrent()
    int PyContext_Enter(PyObject *context)
    int PyContext_Exit(PyObject *context)

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


cdef tuple pack(PyObject *const *args, Py_ssize_t count):
    cdef tuple packed = PyTuple_New(count)
    cdef Py_ssize_t i
    for i in range(count):
        Py_INCREF(args[i])
        PyTuple_SET_ITEM(packed, i, <object>args[i])
    return packed


cdef inline object value(PyObject *reference):
    return None if reference == NULL else <object>reference


cdef inline int drop(PyObject **reference) noexcept:
    """Py_CLEAR: what goes with it may run any code, which finds NULL already."""
    cdef PyObject *old = reference[0]
    if old != NULL:
        reference[0] = NULL
        Py_DECREF(old)
    return 0


cdef inline int replace(PyObject **reference, object new) noexcept:
    cdef PyObject *old = reference[0]
    Py_INCREF(<PyObject *>new)
    reference[0] = <PyObject *>new
    if old != NULL:
        Py_DECREF(old)
    return 0


cdef inline int drop_args(PyObject *self) noexcept:
    cdef int i, count = (<Handle>self).arg_count
    (<Handle>self).arg_count = 0
    for i in range(1, count + 1):
        drop(&(<Handle>self).arg[i])
    return drop(&(<Handle>self).args)


cdef inline int let_go(PyObject *callback, PyObject *context, PyObject *packed,
                       PyObject **arg, int count) noexcept:
    cdef int i
    for i in range(1, count + 1):
        Py_DECREF(arg[i])
    if packed != NULL:
        Py_DECREF(packed)
    Py_DECREF(callback)
    Py_DECREF(context)
    return 0


cdef class Handle:

    # -- hot path ----------------------------------------------------------

    cdef int run(self) except -1:
        """Call the callback in its context. The caller holds a reference to us."""
        cdef PyObject *arg[1 + INLINE_ARGS]
        cdef PyObject *context = self.context
        cdef PyObject *callback = self.callback if self.callback != NULL else Py_None
        cdef PyObject *packed = NULL
        cdef PyObject *result
        cdef int i, count = self.arg_count

        # Our own references: cancel() may drop the handle's while the callback runs.
        Py_INCREF(context)
        Py_INCREF(callback)
        if count < 0:
            packed = self.args
            Py_INCREF(packed)
        for i in range(1, count + 1):
            arg[i] = self.arg[i]
            Py_INCREF(arg[i])

        if PyContext_Enter(context) < 0:
            result = NULL                   # not a Context, or one that is entered already
        else:
            if count < 0:
                result = PyObject_Call(callback, packed, NULL)
            else:
                result = PyObject_Vectorcall(callback, arg + 1,
                                             count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            PyContext_Exit(context)
        if result == NULL:
            try:
                self.callback_failed(<object>callback,
                                     <tuple>packed if count < 0 else pack(arg + 1, count))
            finally:
                let_go(callback, context, packed, arg, count)
            return 0
        Py_DECREF(result)
        let_go(callback, context, packed, arg, count)
        return 0

    # -- cold path ---------------------------------------------------------

    cdef int callback_failed(self, callback, tuple args) except -1:
        host = <Host>self.host
        try:
            raised()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            context = {
                "message": f"Exception in callback {describe(host, callback, args)}",
                "exception": exc,
                "handle": self,
            }
            if self._source_traceback:
                context["source_traceback"] = self._source_traceback
            host.report(context)
        return 0

    def _run(self):
        self.run()

    def cancel(self):
        if self._cancelled:
            return
        self._cancelled = True
        if (<Host>self.host).is_debug():
            self._repr = repr(self)
        drop(&self.callback)
        drop_args(<PyObject *>self)

    def cancelled(self):
        return self._cancelled

    def get_context(self):
        return value(self.context)

    @property
    def _callback(self):
        """None once cancelled."""
        return value(self.callback)

    @_callback.setter
    def _callback(self, callback):
        replace(&self.callback, callback)

    @property
    def _args(self):
        """A tuple; None once cancelled."""
        if self.args == NULL and not self._cancelled:
            replace(&self.args, pack(self.arg + 1, self.arg_count))
        return value(self.args)

    @_args.setter
    def _args(self, args):
        packed = () if args is None else tuple(args)
        drop_args(<PyObject *>self)
        replace(&self.args, packed)
        self.arg_count = -1

    @property
    def _context(self):
        return value(self.context)

    @_context.setter
    def _context(self, context):
        replace(&self.context, context)

    @property
    def _loop(self):
        return value(self.host)

    @property
    def __class__(self):
        return StdHandle

    def _repr_info(self):
        return StdHandle._repr_info(self)

    def __repr__(self):
        return StdHandle.__repr__(self)


cdef class TimerHandle(Handle):

    def cancel(self):
        (<Host>self.host).forget_timer(self)
        Handle.cancel(self)

    def when(self):
        return value(self.when_s)

    @property
    def _when(self):
        return value(self.when_s)

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


# -- making and freeing --------------------------------------------------------
#
# Freed handles are kept, emptied, and used again. The functions at the end stand in the two
# types in the place of those that Cython made, which know nothing of our references.

cdef enum:
    MAX_FREE = 1024

ctypedef struct free_list:
    PyObject *handle[MAX_FREE]
    Py_ssize_t count

cdef free_list free_handles, free_timers


cdef PyObject *reuse(free_list *free) noexcept:
    """A handle without contents, which the garbage collector does not know yet; or NULL."""
    if free.count == 0:
        return NULL
    free.count -= 1
    return PyObject_Init(free.handle[free.count], Py_TYPE(free.handle[free.count]))


cdef int fill(Handle handle, Host host, PyObject *callback, PyObject *const *args,
              Py_ssize_t count, PyObject *context) except -1:
    cdef Py_ssize_t i

    if context == NULL or context == Py_None:
        context = PyContext_CopyCurrent()
        if context == NULL:
            raised()
    else:
        Py_INCREF(context)
    handle.context = context
    Py_INCREF(<PyObject *>host)
    handle.host = <PyObject *>host
    Py_INCREF(callback)
    handle.callback = callback
    handle._cancelled = False
    if count <= INLINE_ARGS:
        handle.arg_count = <int>count
        for i in range(count):
            Py_INCREF(args[i])
            handle.arg[i + 1] = args[i]
    else:
        handle._args = pack(args, count)
    if host.is_debug():
        handle._source_traceback = format_helpers.extract_stack(sys._getframe(0))
    return 0


cdef Handle new_handle(Host host, PyObject *callback, PyObject *const *args, Py_ssize_t count,
                       PyObject *context):
    cdef PyObject *free = reuse(&free_handles)
    cdef Handle handle
    if free == NULL:
        handle = Handle.__new__(Handle)
    else:
        handle = <Handle>free
        Py_DECREF(free)                     # the one that it came with; ours is `handle`
        PyObject_GC_Track(free)
    fill(handle, host, callback, args, count, context)
    return handle


cdef TimerHandle new_timer(Host host, PyObject *when, PyObject *callback, PyObject *const *args,
                           Py_ssize_t count, PyObject *context):
    cdef PyObject *free = reuse(&free_timers)
    cdef TimerHandle handle
    if free == NULL:
        handle = TimerHandle.__new__(TimerHandle)
        handle.timer.position = MIO_TIMER_IDLE
        handle.timer.owner = <void *>handle
    else:
        handle = <TimerHandle>free
        Py_DECREF(free)
        PyObject_GC_Track(free)
    Py_INCREF(when)
    handle.when_s = when
    fill(handle, host, callback, args, count, context)
    return handle


cdef int clear(PyObject *self) noexcept:
    # No local of type Handle in here and below: it would be a reference to what is going.
    drop(&(<Handle>self).callback)
    drop_args(self)
    if (<Handle>self)._source_traceback is not None:
        (<Handle>self)._source_traceback = None
    if (<Handle>self)._repr is not None:
        (<Handle>self)._repr = None
    return 0


cdef inline int show(PyObject *reference, visitproc visit, void *arg) noexcept:
    return visit(reference, arg) if reference != NULL else 0


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef int i
    cdef int rc = show((<Handle>self).callback, visit, arg)
    for i in range(1, (<Handle>self).arg_count + 1):
        rc = rc or visit((<Handle>self).arg[i], arg)
    rc = rc or show((<Handle>self).args, visit, arg)
    rc = rc or show((<Handle>self).context, visit, arg)
    rc = rc or show((<Handle>self).host, visit, arg)
    if (<Handle>self)._source_traceback is not None:
        rc = rc or visit(<PyObject *>(<Handle>self)._source_traceback, arg)
    return rc


cdef void free_handle(PyObject *self) noexcept:
    cdef PyTypeObject *type = Py_TYPE(self)
    cdef free_list *free = NULL

    PyObject_GC_UnTrack(self)
    if PyObject_GET_WEAKREFS_LISTPTR(self)[0] != NULL:
        PyObject_ClearWeakRefs(self)
    clear(self)
    drop(&(<Handle>self).context)
    drop(&(<Handle>self).host)
    if type == <PyTypeObject *>Handle:
        free = &free_handles
    elif type == <PyTypeObject *>TimerHandle:
        drop(&(<TimerHandle>self).when_s)
        free = &free_timers
    if free != NULL and free.count < MAX_FREE:
        free.handle[free.count] = self
        free.count += 1
    else:
        Py_DECREF(Py_None)                  # in _source_traceback
        Py_DECREF(Py_None)                  # in _repr
        type.tp_free(self)


cdef int by_hand(PyTypeObject *type) noexcept:
    type.tp_dealloc = <destructor>free_handle
    type.tp_traverse = <traverseproc>traverse
    type.tp_clear = <inquiry>clear
    type.tp_new = NULL                      # only a loop makes handles


by_hand(<PyTypeObject *>Handle)
by_hand(<PyTypeObject *>TimerHandle)
