# The handles of a thread that are being freed inside each other: see free_handle() of handle.pyx.

from cpython.object cimport PyObject

cdef extern from *:
    """
    /* Handles of this thread that are being freed inside each other, and those that wait. */
    typedef struct {
        int depth;
        PyObject *waiting;
    } mio_freeing;

    static mio_freeing *mio_freeing_now(void)
    {
        static _Thread_local mio_freeing now;

        return &now;
    }
    """
    ctypedef struct mio_freeing:
        int depth
        PyObject *waiting
    mio_freeing *freeing_now "mio_freeing_now"() noexcept
