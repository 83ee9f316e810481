# seal(type): only mioloop makes objects of *type*.
#
# Such an object is useless before a function of mioloop has filled it, and its methods rely on
# that. So type(x)(), type(x).__new__() and classes derived from the type raise TypeError. Cython's
# own X.__new__(X) bypasses the type's slot within the module that defines X. A native class that is
# derived from the type is not sealed with it, and needs a seal() call too.

cdef extern from *:
    """
    #define MIO_MOST_SEALED 8           /* in one module */

    static struct {
        PyTypeObject *type;
        newfunc make;
    } mio_sealed[MIO_MOST_SEALED];
    static int mio_sealed_count;

    static PyObject *mio_make_sealed(int i, PyTypeObject *type, PyObject *args, PyObject *kwargs)
    {
        if (type == mio_sealed[i].type || (type->tp_flags & Py_TPFLAGS_HEAPTYPE))
            return PyErr_Format(PyExc_TypeError, "cannot create '%.100s' instances: mioloop makes them",
                                type->tp_name);
        return mio_sealed[i].make(type, args, kwargs);
    }

    #define MIO_SEALED(i) \\
        static PyObject *mio_make_sealed_##i(PyTypeObject *type, PyObject *args, PyObject *kwargs) \\
        { return mio_make_sealed(i, type, args, kwargs); }
    MIO_SEALED(0) MIO_SEALED(1) MIO_SEALED(2) MIO_SEALED(3)
    MIO_SEALED(4) MIO_SEALED(5) MIO_SEALED(6) MIO_SEALED(7)

    static int mio_seal(void *type)     /* a PyTypeObject, which Cython passes as such or not */
    {
        static const newfunc make[MIO_MOST_SEALED] = {
            mio_make_sealed_0, mio_make_sealed_1, mio_make_sealed_2, mio_make_sealed_3,
            mio_make_sealed_4, mio_make_sealed_5, mio_make_sealed_6, mio_make_sealed_7,
        };
        PyTypeObject *native = (PyTypeObject *)type;

        if (mio_sealed_count == MIO_MOST_SEALED) {
            PyErr_SetString(PyExc_SystemError, "MIO_MOST_SEALED is too small");
            return -1;
        }
        mio_sealed[mio_sealed_count].type = native;
        mio_sealed[mio_sealed_count].make = native->tp_new;
        native->tp_new = make[mio_sealed_count++];
        native->tp_vectorcall = NULL;   /* Cython's calls its own tp_new */
        return 0;
    }
    """
    int seal "mio_seal"(type native) except -1
