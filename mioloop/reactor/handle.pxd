from cpython.object cimport PyObject

from mioloop.reactor.callback cimport INLINE_ARGS
from mioloop.reactor.contexts cimport Contexts
from mioloop.reactor.core cimport mio_timer
from mioloop.reactor.python_api cimport Py_DECREF


cdef class HandleOwner:
    """The part of a loop that its handles call; the loop overrides these methods."""
    cdef int forget_timer(self, TimerHandle timer) except -1
    cdef int report(self, dict context) except -1       # reports an exception of user code
    cdef int run_by_hand(self, Handle handle) except -1     # a tool calls handle._run()
    cdef bint debug
    cdef Contexts contexts


cdef class Handle:
    # Owned references, or NULL. They are not declared as `object`: to set each of them to None
    # first and last took a third of the time of a handle.
    cdef PyObject *callback                 # NULL once cancelled
    cdef PyObject *context                  # see own_context()
    cdef PyObject *arg[1 + INLINE_ARGS]     # up to INLINE_ARGS arguments, from 1 on; for 0 see
                                            # free_handle()
    cdef PyObject *args                     # a tuple: more arguments, or a program read _args
    cdef PyObject *host                     # a HandleOwner
    cdef short arg_count                    # number of arguments in arg; -1: they are in args
    cdef char shares_context                # `context` is the snapshot of the host's Contexts
    cdef public bint _cancelled
    cdef public object _source_traceback    # None, or a list in debug mode
    cdef readonly object _repr              # kept by cancel() in debug mode
    cdef object __weakref__

    cdef int own_context(self) except -1    # makes `context` the handle's own
    cdef int run(self) except -1


cdef class TimerHandle(Handle):
    cdef PyObject *when_s                   # the deadline in seconds, on the clock of loop.time()
    cdef mio_timer timer                    # idle unless it is in the host's heap


cdef class ThreadSafeHandle(Handle):
    """The result of call_soon_threadsafe() where asyncio has a separate class for it (3.14)."""
    cdef unsigned long runner               # the thread that runs the callback now, or 0
    cdef PyObject *gates                    # a lock for each thread that waits for it, or NULL

    cdef int await_callback(self) except -1     # wait until the callback has returned
    cdef int begin(self) noexcept               # the callback is about to run
    cdef int end(self) except -1                # the callback has returned


# Returns a new reference. If *context* is NULL or None, the handle gets a copy of the current one.
cdef PyObject *new_handle(HandleOwner host, PyObject *callback,
                          PyObject *const *args, Py_ssize_t count,
                          PyObject *context) except NULL
# Returns a ThreadSafeHandle, or a plain Handle before 3.14.
cdef PyObject *new_thread_safe(HandleOwner host, PyObject *callback, PyObject *const *args,
                               Py_ssize_t count, PyObject *context) except NULL
cdef PyObject *new_timer(HandleOwner host, PyObject *when, PyObject *callback,
                         PyObject *const *args,
                         Py_ssize_t count, PyObject *context) except NULL

# Runs a handle for the last time. Takes the caller's reference over.
cdef int run_once(PyObject *handle) except -1


cdef extern from *:
    """
    static inline PyObject *const *mio_tuple_items(PyObject *tuple)
    {
        return &PyTuple_GET_ITEM(tuple, 0);
    }
    """
    PyObject *const *items "mio_tuple_items"(tuple args)


cdef inline Handle handle_of(HandleOwner host, object callback, tuple args, object context):
    cdef PyObject *made = new_handle(host, <PyObject *>callback, items(args), len(args),
                                     <PyObject *>context)
    handle = <Handle>made
    Py_DECREF(made)
    return handle
