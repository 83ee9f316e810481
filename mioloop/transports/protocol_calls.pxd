"""How a transport calls its protocol: the methods, and the context that they run in."""

from cpython.object cimport PyObject

cdef extern from "Python.h":
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *PyObject_CallOneArg(PyObject *callable, PyObject *arg)
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **arguments, size_t count,
                                  PyObject *names)
    bint PyMethod_Check(object)
    PyObject *PyMethod_GET_FUNCTION(object)
    PyObject *PyMethod_GET_SELF(object)
    int PyContext_Enter(object context)
    int PyContext_Exit(object context) except -1
    void PyErr_Clear()


cdef inline bint enter_context(object context) noexcept:
    """Enter *context*. Return False if a callback that has not returned yet is running in it.

    Such a callback has called another callback of its protocol, or runs a nested turn.
    """
    if PyContext_Enter(context) == 0:
        return True
    PyErr_Clear()
    return False


cdef inline int leave_context(object context) except -1:
    return PyContext_Exit(context)


cdef inline PyObject *call_with_one(object method, object arg) noexcept:
    """Return a new reference to method(arg), or NULL with the exception set."""
    cdef PyObject *arguments[3]

    if not PyMethod_Check(method):
        return PyObject_CallOneArg(<PyObject *>method, <PyObject *>arg)
    arguments[1] = PyMethod_GET_SELF(method)    # a method's own call would copy the arguments
    arguments[2] = <PyObject *>arg
    return PyObject_Vectorcall(PyMethod_GET_FUNCTION(method), &arguments[1],
                               2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef object method_of(object protocol, str name)
cdef object buffer_of(get_buffer, Py_buffer *view)
cdef int raised() except -1
