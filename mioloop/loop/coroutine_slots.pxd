# set_resume(type, next, send): how a task, and `await`, continue an object of *type*.

from cpython.object cimport PyObject

from mioloop.reactor.python_api cimport PySendResult, PyTypeObject, PYGEN_ERROR

cdef extern from *:
    """
    /* Cython has no way yet to say am_send in a class, and its __next__ can end only by
     * an exception that is raised, with a traceback. */
    static void mio_set_resume(PyTypeObject *type, PyObject *(*next)(PyObject *),
                               PySendResult (*send)(PyObject *, PyObject *, PyObject **))
    {
        type->tp_iternext = next;
        type->tp_as_async->am_send = send;
        PyType_Modified(type);
    }
    """
    void set_resume "mio_set_resume"(
        PyTypeObject *type, PyObject *(*next)(PyObject *) except? NULL,
        PySendResult (*send)(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR)
