"""Handles: the objects that call_soon(), call_later() and add_reader() return.

They behave as asyncio.Handle and asyncio.TimerHandle do, and pass isinstance() for these
classes. They do so by `__class__`, because a class of the stdlib cannot be the base of a native
one. The parts that do not run a callback (repr, ordering) call the stdlib's own classes, so that
their results match the running Python version.

A handle is made, run and freed for every callback, so all three are written by hand here:
run_once() stands first, and "memory" at the end.
"""

cimport cython
from cpython.object cimport PyObject

from mioloop.reactor.callback cimport Call, invoke, release_call
from mioloop.reactor.contexts cimport locate_variables, retire, share_current, unshare
from mioloop.reactor.core cimport MIO_TIMER_IDLE
from mioloop.reactor.freeing cimport freeing_now, mio_freeing
from mioloop.reactor.python_api cimport *
from mioloop.reactor.references cimport (
    drop, owned, pack, pack_or_null, replace, value, visit_reference)
from mioloop.reactor.sealed cimport seal

import inspect
from _thread import allocate_lock
from asyncio import events, format_helpers

from mioloop import stdlib

cdef object StdHandle = events.Handle
cdef object StdTimerHandle = events.TimerHandle
cdef object StdThreadSafeHandle = stdlib.ThreadSafeHandle            # 3.14
cdef object format_callback_source = stdlib.format_callback_source
cdef object getframe = stdlib.getframe
cdef bint describe_takes_debug = (
    "debug" in inspect.signature(format_callback_source).parameters
)


# -- running -------------------------------------------------------------------

cdef int run_once(PyObject *self) except -1:
    """Run a handle of the ready queue. Nearly every callback of a program is called here."""
    cdef Call call
    cdef PyObject *host
    cdef PyObject *when_s = NULL
    cdef PyObject *result = NULL
    cdef PyObject *shared = NULL
    cdef int i

    if (Py_REFCNT(self) != 1 or PyObject_GET_WEAKREFS_LISTPTR(self)[0] != NULL
            or (<Handle>self)._source_traceback is not None):
        try:
            return (<Handle>self).run()
        finally:
            Py_DECREF(self)

    # No other reference to the handle exists. Take its contents out, so that it can be used again
    # while the callback runs.
    PyObject_GC_UnTrack(self)
    call.count = (<Handle>self).arg_count
    call.callback = (<Handle>self).callback
    call.context = (<Handle>self).context
    call.args = (<Handle>self).args
    for i in range(1, call.count + 1):
        call.arg[i] = (<Handle>self).arg[i]
        (<Handle>self).arg[i] = NULL
    host = (<Handle>self).host
    if (<Handle>self).shares_context:
        shared = call.context
        call.context = unshare(&(<HandleOwner>host).contexts, shared)
    (<Handle>self).callback = (<Handle>self).context = (<Handle>self).args = NULL
    (<Handle>self).host = NULL
    (<Handle>self).arg_count = 0
    if Py_TYPE(self) == <PyTypeObject *>TimerHandle:
        when_s = (<TimerHandle>self).when_s
        (<TimerHandle>self).when_s = NULL
    if not recycle(self):
        PyObject_GC_Track(self)
        Py_DECREF(self)

    if call.context != NULL:
        result = invoke(&call)
    else:                                   # no memory for it
        call.context = shared
    if result == NULL:
        try:
            report_failure(None, <HandleOwner>host, when_s, &call)
        finally:
            release_call(&call)
            Py_DECREF(call.context)
            Py_XDECREF(when_s)
            Py_DECREF(host)
        return 0
    Py_DECREF(result)
    release_call(&call)
    if shared != NULL:
        retire(&(<HandleOwner>host).contexts, call.context)
    else:
        Py_DECREF(call.context)
    Py_XDECREF(when_s)
    Py_DECREF(host)
    return 0


cdef int report_failure(Handle handle, HandleOwner host, PyObject *when_s, Call *call) except -1:
    """Report the exception that *call* raised.

    *handle*: None if the handle was recycled before the call. The report then has an equal new one.
    """
    cdef PyObject *like
    try:
        raised()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        args = () if call.args == NULL else <object>call.args
        if call.count >= 0:
            like = pack(call.arg + 1, call.count)
            args = <object>like
            Py_DECREF(like)
        if handle is None:
            if when_s == NULL:
                like = new_handle(host, call.callback, items(args), len(args), call.context)
            else:
                like = new_timer(host, when_s, call.callback, items(args), len(args),
                                 call.context)
            handle = <Handle>like
            Py_DECREF(like)
        context = {
            "message": f"Exception in callback {describe(host, <object>call.callback, args)}",
            "exception": exc,
            "handle": handle,
        }
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        host.report(context)
    return 0


cdef describe(HandleOwner host, callback, args):
    """The text for the callback in asyncio's messages."""
    if describe_takes_debug:
        return format_callback_source(callback, args, debug=host.debug)
    return format_callback_source(callback, args)



# -- the classes ------------------------------------------------------------------

cdef class HandleOwner:

    cdef int forget_timer(self, TimerHandle timer) except -1:
        return 0

    cdef int report(self, dict context) except -1:
        return 0

    cdef int run_by_hand(self, Handle handle) except -1:
        return handle.run()


cdef inline int drop_args(PyObject *self) noexcept:
    cdef int i, count = (<Handle>self).arg_count
    (<Handle>self).arg_count = 0
    for i in range(1, count + 1):
        drop(&(<Handle>self).arg[i])
    return drop(&(<Handle>self).args)


cdef class Handle:

    cdef int own_context(self) except -1:
        cdef PyObject *own
        if self.shares_context:
            own = unshare(&(<HandleOwner>self.host).contexts, self.context)
            if own == NULL:
                raised()
            self.context = own
            self.shares_context = False
        return 0

    cdef int run(self) except -1:
        """Call the callback, and keep it: run_once() calls this if the handle is still in use."""
        cdef Call call
        cdef PyObject *result
        cdef int i

        self.own_context()
        call.count = self.arg_count
        call.context = self.context
        Py_INCREF(call.context)
        call.callback = self.callback if self.callback != NULL else Py_None
        Py_INCREF(call.callback)
        call.args = self.args
        Py_XINCREF(call.args)
        for i in range(1, call.count + 1):
            call.arg[i] = self.arg[i]
            Py_INCREF(call.arg[i])
        result = invoke(&call)
        if result == NULL:
            try:
                report_failure(self, <HandleOwner>self.host, NULL, &call)
            finally:
                release_call(&call)
                Py_DECREF(call.context)
            return 0
        Py_DECREF(result)
        release_call(&call)
        Py_DECREF(call.context)
        return 0

    def _run(self):
        (<HandleOwner>self.host).run_by_hand(self)

    def cancel(self):
        if self._cancelled:
            return
        self._cancelled = True
        if (<HandleOwner>self.host).debug:
            self._repr = repr(self)
        drop(&self.callback)
        drop_args(<PyObject *>self)

    def cancelled(self):
        return self._cancelled

    def get_context(self):
        self.own_context()
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
        if self.args == NULL and self.arg_count >= 0 and not self._cancelled:
            self.args = pack(self.arg + 1, self.arg_count)
        return value(self.args)

    @_args.setter
    def _args(self, args):
        packed = None if args is None else tuple(args)
        drop_args(<PyObject *>self)
        drop(&self.args)                    # code that drop_args() ran may have set them again
        if packed is not None:
            replace(&self.args, packed)
        self.arg_count = -1

    @property
    def _context(self):
        self.own_context()
        return value(self.context)

    @_context.setter
    def _context(self, context):
        self.shares_context = False
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

    def __reduce_ex__(self, protocol):      # object.__reduce_ex__() would use __class__
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} objects")


cdef class TimerHandle(Handle):

    def cancel(self):
        (<HandleOwner>self.host).forget_timer(self)
        Handle.cancel(self)

    def when(self):
        return value(self.when_s)

    @property
    def _when(self):
        return value(self.when_s)

    @property
    def _scheduled(self):
        return self.timer.position != MIO_TIMER_IDLE

    @_scheduled.setter
    def _scheduled(self, scheduled):
        """A tool that takes a timer out of loop._scheduled sets False, as asyncio does."""
        if not scheduled:
            (<HandleOwner>self.host).forget_timer(self)

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


cdef class ThreadSafeHandle(Handle):
    """When cancel() returns in another thread, the callback is not running.

    It has returned, or it will never run.
    """

    cdef int run(self) except -1:
        if self._cancelled:
            return 0
        self.begin()
        try:
            Handle.run(self)
        finally:
            self.end()
        return 0

    cdef int begin(self) noexcept:
        self.runner = PyThread_get_thread_ident()
        return 0

    cdef int end(self) except -1:
        cdef list gates
        self.runner = 0
        if self.gates != NULL:
            gates = <list>self.gates
            drop(&self.gates)
            for gate in gates:
                gate.release()
        return 0

    cdef int await_callback(self) except -1:
        if self.runner == 0 or self.runner == PyThread_get_thread_ident():
            return 0
        gate = allocate_lock()
        gate.acquire()
        if self.gates == NULL:
            replace(&self.gates, [])
        (<list>self.gates).append(gate)     # this thread has held the GIL since it read `runner`
        gate.acquire()
        return 0

    def cancel(self):
        self.await_callback()
        Handle.cancel(self)

    def cancelled(self):
        self.await_callback()
        return self._cancelled

    @property
    def __class__(self):
        return StdThreadSafeHandle


# -- memory ---------------------------------------------------------------------
#
# A handle that is no longer used is emptied and kept in a free list for the next callback. The list
# owns one reference. The garbage collector does not track the handle meanwhile: otherwise
# gc.freeze() would freeze the handles of the list for ever, with all objects that they refer to
# later. The functions at the end replace the types' functions that Cython made, because Cython does
# not know these references.

cdef enum:
    MAX_FREE = 1024
    MOST_NESTED = 8         # depth of handles freed inside each other: a stack may be small

ctypedef struct free_list:
    PyObject *handle[MAX_FREE]
    Py_ssize_t count

cdef free_list free_handles, free_timers, free_thread_safe


cdef inline int init_handle(PyObject *self, HandleOwner host, PyObject *callback,
                            PyObject *const *args, Py_ssize_t count,
                            PyObject *context) except -1:
    """Set the fields of an empty handle. If this raises, it has dropped the reference *self*."""
    cdef Py_ssize_t i

    if context == NULL or context == Py_None:
        context = share_current(&host.contexts)
        (<Handle>self).shares_context = True
    else:
        Py_INCREF(context)
        (<Handle>self).shares_context = False
    (<Handle>self).context = context
    (<Handle>self).host = <PyObject *>host
    Py_INCREF((<Handle>self).host)
    (<Handle>self).callback = callback
    Py_INCREF(callback)
    if count <= INLINE_ARGS:
        (<Handle>self).arg_count = <int>count
        for i in range(count):
            (<Handle>self).arg[i + 1] = args[i]
            Py_INCREF(args[i])
    else:
        (<Handle>self).arg_count = -1
        (<Handle>self).args = pack_or_null(args, count)
    if context == NULL or (count > INLINE_ARGS and (<Handle>self).args == NULL):
        Py_DECREF(self)
        raised()
    if host.debug:
        remember_source(<Handle>self)
    return 0


cdef int remember_source(Handle handle) except -1:
    try:
        handle._source_traceback = format_helpers.extract_stack(getframe(0))
    except BaseException:
        Py_DECREF(<PyObject *>handle)       # the reference that init_handle() drops if it raises
        raise
    return 0


cdef PyObject *new_handle(HandleOwner host, PyObject *callback,
                          PyObject *const *args, Py_ssize_t count,
                          PyObject *context) except NULL:
    cdef PyObject *self
    if free_handles.count:
        free_handles.count -= 1
        self = free_handles.handle[free_handles.count]
        PyObject_GC_Track(self)
    else:
        self = owned(Handle.__new__(Handle))
    init_handle(self, host, callback, args, count, context)
    return self


cdef PyObject *new_thread_safe(HandleOwner host, PyObject *callback, PyObject *const *args,
                               Py_ssize_t count, PyObject *context) except NULL:
    cdef PyObject *self
    if StdThreadSafeHandle is None:
        return new_handle(host, callback, args, count, context)
    if free_thread_safe.count:
        free_thread_safe.count -= 1
        self = free_thread_safe.handle[free_thread_safe.count]
        PyObject_GC_Track(self)
    else:
        self = owned(ThreadSafeHandle.__new__(ThreadSafeHandle))
    init_handle(self, host, callback, args, count, context)
    return self


cdef PyObject *new_timer(HandleOwner host, PyObject *when, PyObject *callback,
                         PyObject *const *args,
                         Py_ssize_t count, PyObject *context) except NULL:
    cdef PyObject *self
    if free_timers.count:
        free_timers.count -= 1
        self = free_timers.handle[free_timers.count]
        PyObject_GC_Track(self)
    else:
        self = owned(TimerHandle.__new__(TimerHandle))
        (<TimerHandle>self).timer.position = MIO_TIMER_IDLE
        (<TimerHandle>self).timer.owner = <void *>self
    (<TimerHandle>self).when_s = when
    Py_INCREF(when)
    init_handle(self, host, callback, args, count, context)
    return self


cdef inline bint recycle(PyObject *self) noexcept:
    """Put an empty handle into its free list, with the only reference. False: the list is full."""
    cdef free_list *free = &free_handles
    if Py_TYPE(self) == <PyTypeObject *>TimerHandle:
        free = &free_timers
    elif Py_TYPE(self) == <PyTypeObject *>ThreadSafeHandle:
        free = &free_thread_safe
    if free.count == MAX_FREE:
        return False
    (<Handle>self)._cancelled = False
    free.handle[free.count] = self
    free.count += 1
    return True


cdef int clear(PyObject *self) noexcept:
    # No local variable here and below has the type Handle: it would own a new reference to a handle
    # that is being freed.
    drop(&(<Handle>self).callback)
    drop_args(self)
    if (<Handle>self)._source_traceback is not None:
        (<Handle>self)._source_traceback = None
    if (<Handle>self)._repr is not None:
        (<Handle>self)._repr = None
    return 0


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef int i
    cdef int rc = visit_reference((<Handle>self).callback, visit, arg)
    for i in range(1, (<Handle>self).arg_count + 1):
        rc = rc or visit((<Handle>self).arg[i], arg)
    rc = rc or visit_reference((<Handle>self).args, visit, arg)
    rc = rc or visit_reference((<Handle>self).context, visit, arg)
    rc = rc or visit_reference((<Handle>self).host, visit, arg)
    if (<Handle>self)._source_traceback is not None:
        rc = rc or visit(<PyObject *>(<Handle>self)._source_traceback, arg)
    return rc


cdef void free_handle(PyObject *self) noexcept:
    """Free a handle. Handles may own each other: freeing a long chain must not recurse deeply.

    A handle that is freed at the depth MOST_NESTED waits in a list, linked by arg[0].
    """
    cdef mio_freeing *freeing = freeing_now()

    PyObject_GC_UnTrack(self)
    if PyObject_GET_WEAKREFS_LISTPTR(self)[0] != NULL:
        PyObject_ClearWeakRefs(self)
    if freeing.depth == MOST_NESTED:
        (<Handle>self).arg[0] = freeing.waiting
        freeing.waiting = self
        return
    freeing.depth += 1
    free_contents(self)
    while freeing.depth == 1 and freeing.waiting != NULL:
        self = freeing.waiting
        freeing.waiting = (<Handle>self).arg[0]
        (<Handle>self).arg[0] = NULL
        free_contents(self)
    freeing.depth -= 1


cdef int free_contents(PyObject *self) noexcept:
    cdef PyTypeObject *type = Py_TYPE(self)

    clear(self)
    drop(&(<Handle>self).context)
    drop(&(<Handle>self).host)
    if type == <PyTypeObject *>TimerHandle:
        drop(&(<TimerHandle>self).when_s)
    if recycle(self):
        PyObject_Init(self, type)           # with one reference again, which the list owns
    else:
        Py_DECREF(Py_None)                  # the value of _source_traceback
        Py_DECREF(Py_None)                  # the value of _repr
        type.tp_free(self)
    return 0


cdef int install_slots(type handle_type) except -1:
    cdef PyTypeObject *type = <PyTypeObject *>handle_type
    seal(handle_type)                       # only a loop can make handles
    type.tp_dealloc = <destructor>free_handle
    type.tp_traverse = <traverseproc>traverse
    type.tp_clear = <inquiry>clear
    type.tp_flags &= ~Py_TPFLAGS_BASETYPE   # no derived classes: the free lists hold exact types
    return 0


locate_variables()
install_slots(Handle)
install_slots(TimerHandle)
install_slots(ThreadSafeHandle)
