# The callback of a handle, taken out of the handle for one call.

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport *

cdef enum:
    INLINE_ARGS = 3                         # a handle holds more arguments in a tuple


cdef inline PyObject *call_with(PyObject *callback, PyObject *args) noexcept:
    if args == NULL:                        # a program has set _args to None
        PyErr_SetString(TypeError, "the arguments of a handle are a tuple, not None")
        return NULL
    return PyObject_Call(callback, args, NULL)


# The callback of a handle and its arguments. The struct owns references, because cancel() may drop
# the references of the handle during the call.
ctypedef struct Call:
    PyObject *callback
    PyObject *context
    PyObject *args                          # the arguments if count is -1
    PyObject *arg[1 + INLINE_ARGS]          # the arguments from 1 on; the callee may overwrite 0
    int count


cdef inline PyObject *invoke(Call *call) noexcept:
    cdef PyObject *result
    if PyContext_Enter(call.context) < 0:
        return NULL                         # not a Context, or a Context that is entered already
    if call.count < 0:
        result = call_with(call.callback, call.args)
    else:
        result = PyObject_Vectorcall(call.callback, call.arg + 1,
                                     call.count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
    PyContext_Exit(call.context)
    return result


cdef inline int release_call(Call *call) noexcept:
    """Drop all references of the call but the one to its context."""
    cdef int i
    for i in range(1, call.count + 1):
        Py_DECREF(call.arg[i])
    Py_XDECREF(call.args)
    Py_DECREF(call.callback)
    return 0
