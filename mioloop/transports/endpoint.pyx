"""Endpoint: the base of all transports, with one registration, pausing, and one end.

The reactor's trigger is edge, level or oneshot; a protocol sees no difference. The reactor's slab
owns a reference to a transport from start() until connection_lost() has been called, except while
the transport is paused and idle.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.reactor cimport EDGE, LEVEL, ONESHOT, Reactor, Source, Trigger
from mioloop.reactor.read_buffers cimport READ_SIZE
from mioloop.reactor.sealed cimport seal

import functools
import warnings
from asyncio import constants
from asyncio.log import logger

from mioloop import stdlib

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context)
    int PyContext_Exit(object context) except -1
    PyObject **_PyObject_GetDictPtr(object)
    int PyObject_GenericSetAttr(object transport, object name, object value) except -1
    void Py_XDECREF(PyObject *)
    void PyErr_Clear()
    void PyErr_SetObject(object type, object exc)
    void PyErr_WriteUnraisable(object where)

cdef object set_result_unless_cancelled = stdlib.set_result_unless_cancelled
cdef int WRITES_BEFORE_WARNING = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


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
    cdef PyObject **attributes = _PyObject_GetDictPtr(transport)
    cdef PyObject *made = attributes[0]
    attributes[0] = NULL
    Py_XDECREF(made)
    return 0


cdef bint has_attributes(object transport) noexcept:
    """Return whether the program may have replaced a method of *transport*."""
    return _PyObject_GetDictPtr(transport)[0] != NULL


cdef int set_attribute(object transport, str name, object value) except -1:
    """Set an attribute. Raises AttributeError for a private name of asyncio without effect here."""
    if name in PRIVATE_NAMES and not hasattr(type(transport), name):
        raise AttributeError(
            f"{name!r} of {type(transport).__name__!r} objects cannot be set: "
            "mioloop makes no use of it")
    PyObject_GenericSetAttr(transport, name, value)
    return 0


cdef class Endpoint(Source):

    def __cinit__(self, *args, **kwargs):
        drop_attributes(self)

    def __setattr__(self, str name, value):
        set_attribute(self, name, value)

    _lost_write_text = "socket.send() raised exception."

    # -- hot path: ready -> receive -> protocol ------------------------------

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.trigger == ONESHOT:
            self.armed = 0              # the registration is spent
            try:
                self.serve(ready)
            finally:
                self.go_on_polling()
            return 0
        return self.serve(ready)

    cdef int serve(self, uint32_t ready) except -1:
        if wakes_reader(ready):
            self.read(ready)
        return 0

    cdef bint reading(self) noexcept:
        return self.started and not (self.paused or self.closing)

    cdef int read(self, uint32_t ready) except -1:
        cdef Py_ssize_t n
        cdef bint returned = False
        cdef object context = self.context      # resume_reading() in a callback may replace it
        cdef bint entered

        if not self.reading():
            self.deferred_readiness |= ready    # no second edge comes: resume_reading() serves it
            return 0
        entered = enter_context(context)
        try:                            # no `except` clause: entering one costs time on each read
            n = self.receive()
            returned = True
        finally:
            if entered:
                PyContext_Exit(context)
            if not returned:            # KeyboardInterrupt: the loop may be run again
                self.reactor.defer(self, ready)
        if n <= 0 or self.trigger != EDGE:
            return 0
        if (n < READ_SIZE and self.short_read_means_drained
                and not ready & (MIO_READ_CLOSED | MIO_HUP | MIO_ERROR | MIO_PRIORITY)):
            self.reactor.drained(self, MIO_READABLE)
        elif self.reading():
            self.reactor.defer(self, ready & ~MIO_WRITABLE)
        else:
            self.deferred_readiness |= ready
        return 0

    cdef Py_ssize_t receive(self) except? -2:
        """Read once and call the protocol.

        Returns READ_SIZE if there may be more data, and a smaller positive count if there is none.
        Returns <= 0 at the end of the stream, after an error, and when there was nothing to read
        and the reactor's drained() was called.
        """
        return 0

    # -- the registration -------------------------------------------------------

    cdef int start(self, Reactor reactor, int fd, protocol, waiter) except -1:
        """Attach to the reactor, which owns a reference from now on. Schedules connection_made().

        *waiter*, if not None, is a future that is set when reading has begun.
        """
        self.reactor = reactor
        self.trigger = self.choose_trigger()
        self.set_protocol(protocol)
        if self.context is None:
            self.context = PyContext_CopyCurrent()
        reactor.attach(self, fd)
        try:
            reactor.post(protocol.connection_made, (self,), self.callback_context())
            # Without the context: during a nested turn in connection_made() it is already entered.
            reactor.post(self._start, (waiter,), None)
        except BaseException:           # the caller keeps the descriptor
            reactor.detach(self, False)
            self.fd = -1
            raise
        return 0

    def _start(self, waiter):
        """Begin to read after connection_made(), then set *waiter* (R45: order of callbacks)."""
        self.started = True
        try:
            if not self._conn_lost:
                self.update_interest()  # the loop reports EPERM: the file cannot be polled
        finally:
            if waiter is not None:
                set_result_unless_cancelled(waiter, None)

    cdef object callback_context(self):
        """Return the context for a callback scheduled now. None: a copy of the current context."""
        return self.context if self.keeps_context else None

    cdef Trigger choose_trigger(self) noexcept:
        return self.reactor.trigger_mode

    cdef bint idle(self) noexcept:
        """Return whether nothing happens to the transport until the program calls it."""
        return self.paused and not self.closing

    cdef int update_interest(self) except -1:
        """Register the wanted interest with the poll, if another one is registered.

        Edge: readable always, and writable from the first time that the kernel was full. After
        that the selector is not called again. Level and oneshot: exactly the interest of now.
        """
        cdef uint32_t want

        if not self.attached:
            return 0
        if self.idle():
            self.reactor.drop_reference(self)   # if forgotten now, it warns (ResourceWarning)
        else:
            self.reactor.keep_alive(self)
        if self.trigger == EDGE:
            want = self.armed
            if self.started:
                want |= MIO_READABLE | MIO_PRIORITY     # urgent data cuts a read short
            if self.blocked:
                want |= MIO_WRITABLE
        else:
            want = MIO_READABLE if self.reading() else 0
            if self.blocked:
                want |= MIO_WRITABLE
        if want == self.armed:
            return 0
        self.armed = 0                      # in case registering fails
        if want == 0:
            return self.reactor.unregister(self)
        self.reactor.register(
            self, want,
            MIO_EDGE if self.trigger == EDGE
            else MIO_LEVEL if self.trigger == LEVEL
            else MIO_LEVEL | MIO_ONESHOT)
        self.armed = want
        return 0

    cdef int go_on_polling(self) except -1:
        """Call update_interest(). An OSError ends the transport: no caller could handle it."""
        try:
            self.update_interest()
        except OSError as exc:
            self.blocked = True             # fatal() must not send
            self.discard()
            self.fatal(exc, "Fatal error: the descriptor cannot be polled")
        return 0

    cdef int block(self) except -1:
        self.blocked = True
        self.reactor.drained(self, MIO_WRITABLE)
        return self.go_on_polling()

    def pause_reading(self):
        if self.closing or self.paused:
            return
        self.paused = True
        self.update_interest()

    def resume_reading(self):
        if self.closing or not self.paused:
            return
        self.paused = False
        if not self.keeps_context:
            self.context = PyContext_CopyCurrent()
        self.update_interest()
        if self.deferred_readiness:
            self.reactor.defer(self, self.deferred_readiness)
            self.deferred_readiness = 0

    def is_reading(self):
        return not self.closing and not self.paused

    # -- cold path: failures and the end ------------------------------------------

    cdef int report(self, str message, exc) except -1:
        return self.reactor.report({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self._protocol,
        })

    cdef int callback_failed(self, str name, exc) except -1:
        """Report an exception of a protocol's callback (R13). The transport goes on."""
        return self.report(f"Exception in callback protocol.{name}()", exc)

    cdef bint is_expected(self, exc) except -1:
        """Return whether only connection_lost() gets *exc*, and no report is made (R46).

        An OSError is caused by the peer or the network.
        """
        return isinstance(exc, OSError)

    cdef int fatal(self, exc, str message) except -1:
        """End the transport because of *exc*."""
        if not self.is_expected(exc):
            self.report(message, exc)
        elif self.reactor.debug:
            logger.debug("%r: %s", self, message, exc_info=exc)
        self._force_close(exc)
        return 0

    def _force_close(self, exc):
        if self._conn_lost:
            return
        self.discard()
        self.blocked = False
        self.closing = True
        self.schedule_connection_lost(exc)

    cdef int discard(self) except -1:
        """Drop all data that waits to be sent."""
        return 0

    def close(self):
        """Stop receiving, and call connection_lost() soon."""
        if not self.closing:
            self.closing = True
            self.schedule_connection_lost(None)

    def is_closing(self):
        return self.closing

    cdef int schedule_connection_lost(self, exc) except -1:
        """Schedule connection_lost() once. It never runs inside the call that caused it."""
        if self._conn_lost == 0:
            self._conn_lost = 1
            self.reactor.post(self._call_connection_lost, (exc,), None)
            try:
                self.update_interest()
            except OSError:             # no matter: the descriptor is closed soon
                pass
        return 0

    cdef int count_lost_write(self) except -1:
        if self._conn_lost >= WRITES_BEFORE_WARNING:
            logger.warning(self._lost_write_text)
        self._conn_lost += 1
        return 0

    def _call_connection_lost(self, exc):
        cdef object context = self.context
        cdef bint entered = self.keeps_context and enter_context(context)

        try:
            self._protocol.connection_lost(exc)
        finally:
            try:
                self.ended()
            finally:
                if entered:
                    leave_context(context)

    cdef int ended(self) except -1:
        """Drop all references and close the descriptor, after connection_lost()."""
        self.discard()
        self._protocol = self.context = None
        return self.close_fd()

    cdef int close_fd(self) except -1:
        """Leave the reactor and close the descriptor. Once: `fd` is -1 afterwards."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        try:
            # Closing alone is not enough: a duplicate of the descriptor keeps it registered.
            self.reactor.detach(self, False)
        finally:
            self.fd = -1
            self.close_files(fd)
        return 0

    cdef int close_files(self, int fd) except -1:
        if self.duplicated:
            close_descriptor(fd)
        if self.owner is not None:
            self.owner.close()
        return 0

    cdef int forgotten(self) except -1:
        """The program dropped the transport without close(). connection_lost() is not called."""
        return self.close_fd()

    def __del__(self):
        if self.fd < 0:
            return
        try:
            text = f"unclosed transport {self!r}"
            try:
                self.forgotten()
            finally:
                # Warn last: a filter may turn the warning into an exception, and a hook may do
                # anything, also use this transport.
                warnings.warn(text, ResourceWarning, source=self)
        except BaseException as exc:
            write_unraisable(exc, self)

    def __reduce_ex__(self, protocol):      # object.__reduce_ex__() would use __class__
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} objects")

    def set_protocol(self, protocol):
        self._protocol = protocol

    def get_protocol(self):
        return self._protocol

    def get_extra_info(self, name, default=None):
        return self.extra.get(name, default)

    @property
    def _loop(self):
        return None if self._protocol is None else self.reactor

    @property
    def _paused(self):
        return self.paused

    @property
    def _closing(self):
        return self.closing

    @property
    def _extra(self):
        return self.extra

    @property
    def _context(self):
        return self.callback_context()


cdef bint enter_context(object context) noexcept:
    """Enter *context*. Return False if a callback that has not returned yet is running in it.

    Such a callback has called another callback of its protocol, or runs a nested turn.
    """
    if PyContext_Enter(context) == 0:
        return True
    PyErr_Clear()
    return False


cdef int leave_context(object context) except -1:
    return PyContext_Exit(context)


cdef object method_of(object protocol, str name):
    """Return the method *name* of *protocol*, to be kept and called many times.

    If the attribute cannot be read, return a callable that reads it at each call. The call then
    raises asyncio's error: the AttributeError that names the class and the method (R97).
    """
    try:
        return getattr(protocol, name)
    except Exception:
        return functools.partial(call_by_name, protocol, name)


def call_by_name(protocol, name, *args):
    return getattr(protocol, name)(*args)


seal(Endpoint)
