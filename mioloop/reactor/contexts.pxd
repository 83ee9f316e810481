# The contexts of callbacks that were scheduled without `context=`.
#
# Each such callback runs in a context of its own: a copy of the context that was current when it
# was scheduled. Copies of one state are equal, so a copy need not be made before the callback
# runs. Until then the handles share one copy, the snapshot, which no code enters or sees. A handle
# whose context the program asks for, or which the program keeps, gets a copy of its own
# (Handle.own_context).
#
# After a callback, its context can serve the next one if nothing refers to it and if it has the
# variables of the snapshot. Two contexts have equal variables if they refer to one mapping,
# because that mapping is immutable.

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport *
from mioloop.reactor.references cimport visit_reference

cdef extern from *:
    """
    static Py_ssize_t mio_variables_at;     /* where a context refers to its mapping; 0: unknown */

    static int mio_visit_variables(PyObject *found, void *mapping)
    {
        /* A context refers to its mapping, and to the context outside of it while entered. */
        if (!PyContext_CheckExact(found))
            *(PyObject **)mapping = found;
        return 0;
    }

    static PyObject *mio_find_variables(PyObject *context)
    {
        PyObject *mapping = NULL;

        Py_TYPE(context)->tp_traverse(context, mio_visit_variables, &mapping);
        return mapping;
    }

    /* Each callback asks twice, and tp_traverse takes four calls: find out once where it looks. */
    static int mio_locate_variables(void)
    {
        PyObject *context = PyContext_New();
        Py_ssize_t at = sizeof(PyObject), last;
        PyObject *mapping;

        if (context == NULL)
            return -1;
        mapping = mio_find_variables(context);
        last = Py_TYPE(context)->tp_basicsize - (Py_ssize_t)sizeof(PyObject *);
        while (at <= last && *(PyObject **)((char *)context + at) != mapping)
            at += sizeof(PyObject *);
        mio_variables_at = mapping != NULL && at <= last ? at : 0;
        Py_DECREF(context);
        return 0;
    }

    /* A borrowed reference. */
    static inline PyObject *mio_variables(PyObject *context)
    {
        if (mio_variables_at == 0)
            return mio_find_variables(context);
        return *(PyObject **)((char *)context + mio_variables_at);
    }

    /* A borrowed reference, or NULL: the thread has used no context yet. */
    static inline PyObject *mio_current_context(void)
    {
        return PyThreadState_Get()->context;
    }
    """
    int locate_variables "mio_locate_variables"() except -1     # before the first use of a module
    PyObject *variables "mio_variables"(PyObject *context) noexcept
    PyObject *current_context "mio_current_context"() noexcept


ctypedef struct Contexts:
    PyObject *snapshot                  # an owned reference, or NULL
    PyObject *snapshot_variables        # borrowed from the snapshot
    PyObject *spare                     # a context for the next callback, or NULL
    PyObject *spare_variables           # borrowed from the spare


cdef inline PyObject *share_current(Contexts *self) noexcept:
    """A new reference to a snapshot of the current context. NULL: an exception is set."""
    cdef PyObject *current = current_context()
    cdef PyObject *made
    cdef PyObject *old

    if (self.snapshot == NULL or current == NULL or self.snapshot_variables == NULL
            or variables(current) != self.snapshot_variables):
        made = PyContext_CopyCurrent()
        if made == NULL:
            return NULL
        old = self.snapshot
        self.snapshot = made
        self.snapshot_variables = variables(made)
        Py_INCREF(made)
        Py_XDECREF(old)                 # this may run any code
        return made
    Py_INCREF(self.snapshot)
    return self.snapshot


cdef inline PyObject *unshare(Contexts *self, PyObject *shared) noexcept:
    """Return a context for one handle, which is equal to the snapshot *shared*.

    Takes the reference *shared* over. NULL: an exception is set, and the reference remains the
    caller's.
    """
    cdef PyObject *made

    if shared == self.snapshot:
        if self.spare != NULL and self.spare_variables == self.snapshot_variables:
            made = self.spare
            self.spare = NULL
            Py_DECREF(shared)
            return made
        if Py_REFCNT(shared) == 2:      # no other handle has it
            self.snapshot = NULL
            Py_DECREF(shared)
            return shared
    elif Py_REFCNT(shared) == 1:
        return shared
    made = PyContext_Copy(shared)
    if made != NULL:
        Py_DECREF(shared)
    return made


cdef inline int retire(Contexts *self, PyObject *context) noexcept:
    """Keep the context of a callback that has returned, or drop it. Takes the reference over."""
    cdef PyObject *mapping
    if self.spare == NULL and Py_REFCNT(context) == 1:
        mapping = variables(context)
        if mapping == self.snapshot_variables:
            self.spare = context
            self.spare_variables = mapping
            return 0
    Py_DECREF(context)
    return 0


cdef inline int drop_contexts(Contexts *self) noexcept:
    """Give up both contexts. This may run any code."""
    cdef PyObject *snapshot = self.snapshot
    cdef PyObject *spare = self.spare
    self.snapshot = self.spare = NULL
    Py_XDECREF(snapshot)
    Py_XDECREF(spare)
    return 0


cdef inline int drop_unused_contexts(Contexts *self) noexcept:
    """Called at the end of a turn, so that the loop keeps no value of a variable alive."""
    if self.snapshot == NULL:
        if self.spare != NULL:
            drop_contexts(self)
    elif Py_REFCNT(self.snapshot) == 1:
        drop_contexts(self)
    return 0


cdef inline int visit_contexts(Contexts *self, visitproc visit, void *arg) noexcept:
    return visit_reference(self.snapshot, visit, arg) or visit_reference(self.spare, visit, arg)
