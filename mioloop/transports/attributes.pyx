"""Attributes that a program sets on a transport, as libraries do on asyncio's."""

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from cpython.object cimport PyObject, PyObject_GenericSetAttr

from mioloop.reactor.python_api cimport Py_XDECREF, _PyObject_GetDictPtr

from asyncio import transports

from mioloop import stdlib

cdef object StdBaseTransport = transports.BaseTransport
cdef object stdlib_get_extra_info = StdBaseTransport.get_extra_info


cdef int write_unraisable(exc, transport) except -1:
    """Report *exc* as Python reports an exception in __del__.

    For a SystemExit, Cython would end the process instead.
    """
    PyErr_SetObject(type(exc), exc)
    PyErr_WriteUnraisable(transport)
    return 0


# Private methods and attributes of asyncio's transports. A program may replace them there.
cdef frozenset PRIVATE_NAMES = frozenset(
    name
    for kind in (
        stdlib.SelectorSocketTransport,
        stdlib.SelectorDatagramTransport,
        stdlib.UnixReadPipeTransport,
        stdlib.UnixWritePipeTransport,
        stdlib.SSLProtocolTransport,
    )
    for name in dir(kind)
    if name.startswith("_") and not name.startswith("__")
) | {
    "_address", "_buffer", "_buffer_size", "_closed", "_closing", "_conn_lost", "_empty_waiter",
    "_eof", "_fileno", "_header_size", "_paused", "_pipe", "_protocol", "_protocol_connected",
    "_read_ready_cb", "_server", "_sock_fd", "_ssl_protocol", "_write_ready", "max_size",
}


cdef int drop_attributes(object transport) noexcept:
    """Remove the dictionary that Cython makes with the object: most transports never need one."""
    cdef PyObject **attributes = _PyObject_GetDictPtr(<PyObject *>transport)
    cdef PyObject *made = attributes[0]
    attributes[0] = NULL
    Py_XDECREF(made)
    return 0


cdef bint has_attributes(object transport) noexcept:
    """Return whether the program may have replaced a method of *transport*."""
    return _PyObject_GetDictPtr(<PyObject *>transport)[0] != NULL


cdef int set_attribute(object transport, str name, object value) except -1:
    """Set an attribute. Raises AttributeError for a private name of asyncio without effect here."""
    if name in PRIVATE_NAMES and not hasattr(type(transport), name):
        raise AttributeError(
            f"{name!r} of {type(transport).__name__!r} objects cannot be set: "
            "mioloop makes no use of it")
    PyObject_GenericSetAttr(transport, name, value)
    return 0


cdef object extra_info(transport, dict extra, name, default):
    """Return *extra*[*name*], or *default*.

    A program may replace the method of asyncio.BaseTransport, which asyncio's transports inherit.
    mock.patch() does so in tests. Then call the replacement (R99).
    """
    cdef object replacement = StdBaseTransport.get_extra_info

    if replacement is stdlib_get_extra_info:
        return extra.get(name, default)
    bind = getattr(type(replacement), "__get__", None)
    if bind is not None:
        replacement = bind(replacement, transport, type(transport))
    return replacement(name) if default is None else replacement(name, default)
