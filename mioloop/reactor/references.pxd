# Fields of type `PyObject *`, each an owned reference or NULL, which Cython does not manage.

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport *


cdef extern from *:
    """
    static inline PyObject *mio_pack(PyObject *const *args, Py_ssize_t count)
    {
        PyObject *packed = PyTuple_New(count);
        Py_ssize_t i;

        for (i = 0; packed != NULL && i < count; i++) {
            PyTuple_SET_ITEM(packed, i, Py_NewRef(args[i]));
        }
        return packed;
    }
    """
    PyObject *pack "mio_pack"(PyObject *const *args, Py_ssize_t count) except NULL
    PyObject *pack_or_null "mio_pack"(PyObject *const *args, Py_ssize_t count)


cdef inline object value(PyObject *reference):
    return None if reference == NULL else <object>reference


cdef inline int drop(PyObject **reference) noexcept:
    """Py_CLEAR: freeing the object may run any code, and that code finds NULL already."""
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


cdef inline PyObject *owned(object handle) noexcept:
    Py_INCREF(<PyObject *>handle)
    return <PyObject *>handle


cdef inline int visit_reference(PyObject *reference, visitproc visit, void *arg) noexcept:
    return visit(reference, arg) if reference != NULL else 0
