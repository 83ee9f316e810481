# The functions of Python.h that Cython's own cpython package lacks, or declares otherwise.
#
# No other file declares a function of Python.h. A borrowed or owned reference is a `PyObject *`, and
# no function raises by itself: a caller that gets NULL or -1 calls raised(), or returns NULL or -1
# as well. Functions with `object` in their signature return a new object, or raise.

from cpython.object cimport PyObject


cdef extern from "Python.h":
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct PyTypeObject:
        destructor tp_dealloc
        traverseproc tp_traverse
        inquiry tp_clear
        void (*tp_free)(void *) noexcept
        unsigned long tp_flags
    const unsigned long Py_TPFLAGS_BASETYPE

    # References
    PyObject *Py_None
    PyTypeObject *Py_TYPE(PyObject *)
    Py_ssize_t Py_REFCNT(PyObject *)            # the call itself adds no reference
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void Py_XINCREF(PyObject *)
    void Py_XDECREF(PyObject *)
    PyObject *PyObject_Init(PyObject *, PyTypeObject *)
    void PyObject_GC_Track(PyObject *)
    void PyObject_GC_UnTrack(PyObject *)
    void PyObject_ClearWeakRefs(PyObject *)
    PyObject **PyObject_GET_WEAKREFS_LISTPTR(PyObject *)

    # Attributes
    PyObject **_PyObject_GetDictPtr(PyObject *)         # does not create the dictionary
    int PyObject_GenericSetAttr(PyObject *, PyObject *name, PyObject *value)
    int PyObject_TypeCheck(PyObject *, PyTypeObject *)  # ignores `__class__`

    # Calls
    int Py_AddPendingCall(int (*function)(void *) except -1, void *argument) noexcept
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *kwargs)
    PyObject *PyObject_CallOneArg(PyObject *callable, PyObject *arg)
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t nargsf,
                                  PyObject *kwnames)
    ctypedef struct PyMethodDef:
        const char *ml_name
        void *ml_meth
        int ml_flags
        const char *ml_doc
    int METH_FASTCALL, METH_KEYWORDS, METH_NOARGS
    PyObject *PyDescr_NewMethod(PyTypeObject *, PyMethodDef *)
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    PyObject *PyObject_VectorcallMethod(PyObject *name, PyObject **args, size_t nargsf,
                                        PyObject *kwnames)

    # Buffers, bytes and text
    int get_buffer_of "PyObject_GetBuffer"(PyObject *exporter, Py_buffer *view, int flags)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *) noexcept
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *) noexcept
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    char *PyUnicode_1BYTE_DATA(object text)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)

    # Classes derived from list: Cython's own list operations need an exact list.
    object PyList_GetSlice(object, Py_ssize_t low, Py_ssize_t high)
    int PyList_SetSlice(object, Py_ssize_t low, Py_ssize_t high, object) except -1
    const Py_ssize_t PY_SSIZE_T_MAX

    # Contexts
    PyObject *PyContext_Copy(PyObject *context)
    PyObject *PyContext_CopyCurrent()
    object copy_of_context "PyContext_Copy"(object context)
    object copy_of_current_context "PyContext_CopyCurrent"()
    bint PyContext_CheckExact(PyObject *)
    int PyContext_Enter(PyObject *context)
    int PyContext_Exit(PyObject *context)

    # Exceptions
    PyObject *PyExc_StopIteration
    void PyErr_SetObject(PyObject *type, PyObject *value)
    void PyErr_SetString(object type, const char *message)
    void PyErr_Clear()

    unsigned long PyThread_get_thread_ident()


cdef inline int raised() except -1:
    """Raise the exception that a function of the C API has set."""
    return -1


cdef inline object owned_object(PyObject *reference):
    """The object of a new reference, which this function takes over. NULL: raise its exception."""
    if reference == NULL:
        raised()
    result = <object>reference
    Py_DECREF(reference)
    return result
