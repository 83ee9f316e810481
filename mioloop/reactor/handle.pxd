from cpython.object cimport PyObject

from mioloop.reactor.core cimport mio_timer


cdef class Host:
    """What a handle needs of the loop it was made by; the loop overrides it."""
    cdef int forget_timer(self, TimerHandle timer) except -1
    cdef int report(self, dict context) except -1       # an exception of user code
    cdef int run_by_hand(self, Handle handle) except -1     # a tool calls handle._run()
    cdef bint debug


cdef enum:
    INLINE_ARGS = 3


cdef class Handle:
    # Owned references, or NULL. Not `object`: a None in each of them, at the beginning and at
    # the end, was a third of what a handle costs.
    cdef PyObject *callback                 # NULL once cancelled
    cdef PyObject *context
    cdef PyObject *arg[1 + INLINE_ARGS]     # from 1 on, if they are few; 0: see free_handle()
    cdef PyObject *args                     # all in a tuple, if they are more or somebody looked
    cdef PyObject *host                     # a Host
    cdef int arg_count                      # in arg; -1: args has them
    cdef public bint _cancelled
    cdef public object _source_traceback    # None, or a list in debug mode
    cdef readonly object _repr              # kept by cancel() in debug mode
    cdef object __weakref__

    cdef int run(self) except -1


cdef class TimerHandle(Handle):
    cdef PyObject *when_s                   # as loop.time() counts
    cdef mio_timer timer                    # idle unless it is in the host's heap


cdef class ThreadSafeHandle(Handle):
    """What call_soon_threadsafe() returns where asyncio has a class of its own for it (3.14)."""
    cdef unsigned long runner               # the thread that runs the callback now, or 0
    cdef PyObject *gates                    # locks of those who wait until it returns, or NULL

    cdef int await_callback(self) except -1
    cdef int begin(self) noexcept           # the callback runs from now on,
    cdef int end(self) except -1            # and until now


# A new reference. *context* NULL or None: a copy of the current one.
cdef PyObject *new_handle(Host host, PyObject *callback, PyObject *const *args, Py_ssize_t count,
                          PyObject *context) except NULL
# A ThreadSafeHandle, or a plain one before 3.14.
cdef PyObject *new_thread_safe(Host host, PyObject *callback, PyObject *const *args,
                               Py_ssize_t count, PyObject *context) except NULL
cdef PyObject *new_timer(Host host, PyObject *when, PyObject *callback, PyObject *const *args,
                         Py_ssize_t count, PyObject *context) except NULL

# Runs a handle for the last time, and takes the reference over.
cdef int run_and_let_go(PyObject *handle) except -1


cdef extern from *:
    """
    static inline PyObject *const *mio_tuple_items(PyObject *tuple)
    {
        return &PyTuple_GET_ITEM(tuple, 0);
    }
    """
    PyObject *const *items "mio_tuple_items"(tuple args)
    void Py_DECREF(PyObject *)


cdef inline Handle handle_of(Host host, object callback, tuple args, object context):
    cdef PyObject *made = new_handle(host, <PyObject *>callback, items(args), len(args),
                                     <PyObject *>context)
    handle = <Handle>made
    Py_DECREF(made)
    return handle
