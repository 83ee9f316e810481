"""The methods of a protocol, and the context that they run in."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release

from mioloop.reactor.python_api cimport Py_DECREF, Py_XDECREF, get_buffer_of, raised

import functools

cdef object ANY_SIZE = -1               # the argument of get_buffer()

cdef object method_of(object protocol, str name):
    """Return the method *name* of *protocol*, to be called later.

    If the attribute cannot be read, return a callable that reads it again. The call then raises
    asyncio's error: the AttributeError that names the class and the method (R97).
    """
    try:
        return getattr(protocol, name)
    except Exception:
        return functools.partial(call_by_name, protocol, name)


def call_by_name(protocol, name, *args):
    return getattr(protocol, name)(*args)


cdef object buffer_of(object protocol, Py_buffer *view):
    """Fill *view* with the buffer that get_buffer() of a BufferedProtocol returns.

    Returns None; or, if there is no usable buffer, the exception that tells why.
    """
    cdef PyObject *buffer = call_method(protocol, "get_buffer", ANY_SIZE)

    if buffer != NULL and get_buffer_of(buffer, view, PyBUF_WRITABLE) == 0:
        if view.len > 0:
            Py_DECREF(buffer)               # the view holds it
            return None
        PyBuffer_Release(view)
    try:
        if buffer == NULL:
            raised()
        refuse(<object>buffer)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        return exc
    finally:
        Py_XDECREF(buffer)


cdef int refuse(buffer) except -1:
    """Raise the exception that tells why *buffer* is unusable: it is empty or read-only."""
    cdef Py_buffer view

    PyErr_Clear()
    if not len(buffer):
        raise RuntimeError("get_buffer() returned an empty buffer")
    if get_buffer_of(<PyObject *>buffer, &view, PyBUF_WRITABLE) < 0:
        raised()
    PyBuffer_Release(&view)
    raise BufferError(f"get_buffer() returned {buffer!r}, which has no room")
