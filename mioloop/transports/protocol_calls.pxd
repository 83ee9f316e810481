"""How a transport calls its protocol: the methods, and the context that they run in."""

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport (
    PY_VECTORCALL_ARGUMENTS_OFFSET, PyContext_Enter, PyContext_Exit, PyErr_Clear,
    PyObject_VectorcallMethod)


cdef inline bint enter_context(object context) noexcept:
    """Enter *context*. Return False if a callback that has not returned yet is running in it.

    Such a callback has called another callback of its protocol, or runs a nested turn.
    """
    if PyContext_Enter(<PyObject *>context) == 0:
        return True
    PyErr_Clear()
    return False


cdef inline int leave_context(object context) except -1:
    return PyContext_Exit(<PyObject *>context)


cdef inline PyObject *call_method(object protocol, str name, object arg) noexcept:
    """Return a new reference to protocol.name(arg), or NULL with the exception set.

    The method is looked up at each call: the program may replace it at any time (R99).
    """
    cdef PyObject *arguments[3]

    arguments[1] = <PyObject *>protocol
    arguments[2] = <PyObject *>arg
    return PyObject_VectorcallMethod(<PyObject *>name, &arguments[1],
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef inline PyObject *call_method_with_two(object protocol, str name, object arg,
                                           object second) noexcept:
    cdef PyObject *arguments[4]

    arguments[1] = <PyObject *>protocol
    arguments[2] = <PyObject *>arg
    arguments[3] = <PyObject *>second
    return PyObject_VectorcallMethod(<PyObject *>name, &arguments[1],
                                     3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef object method_of(object protocol, str name)
cdef object buffer_of(object protocol, Py_buffer *view)
