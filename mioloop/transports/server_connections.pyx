"""The transports of a server, which asyncio's Server counts.

From 3.13 on Server keeps them in a WeakSet, which costs four Python calls and a weak reference for
each connection. A ServerConnections replaces this set, and has the methods that Server calls.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport free, realloc

from mioloop.reactor.python_api cimport Py_DECREF, Py_INCREF
from mioloop.reactor.sealed cimport seal
from mioloop.transports.base cimport BaseTransport

from asyncio import base_events
from weakref import WeakSet

cdef bint server_wants_transport = (
    "transport" in base_events.Server._attach.__code__.co_varnames)


cdef class ServerConnections:

    def __dealloc__(self):
        free(self.transports)               # empty: a listed transport refers to this object

    cdef int join(self, BaseTransport transport) except -1:
        cdef Py_ssize_t room = max(8, 2 * self.room)
        cdef void *more
        if self.count == self.room:
            more = realloc(self.transports, room * sizeof(PyObject *))
            if more == NULL:
                raise MemoryError
            self.transports = <PyObject **>more
            self.room = room
        transport.place = self.count
        transport.connections = <PyObject *>self
        Py_INCREF(transport.connections)
        self.transports[self.count] = <PyObject *>transport
        self.count += 1
        return 0

    def __len__(self):
        return self.count

    def add(self, BaseTransport transport not None):
        if transport.connections == NULL:
            self.join(transport)

    def discard(self, BaseTransport transport not None):
        if transport.connections == <PyObject *>self:
            leave(<PyObject *>transport)

    def copy(self):
        cdef Py_ssize_t i
        return [<object>self.transports[i] for i in range(self.count)]


cdef int leave(PyObject *transport) noexcept:
    """Remove *transport* by moving the last entry into its slot.

    Takes no reference to a transport, because it also runs in __dealloc__.
    """
    cdef PyObject *connections = (<BaseTransport>transport).connections
    cdef PyObject *last
    cdef Py_ssize_t place = (<BaseTransport>transport).place

    if connections == NULL:
        return 0
    (<BaseTransport>transport).connections = NULL
    (<ServerConnections>connections).count -= 1
    last = (<ServerConnections>connections).transports[(<ServerConnections>connections).count]
    (<ServerConnections>connections).transports[place] = last
    (<BaseTransport>last).place = place
    Py_DECREF(connections)
    return 0


cdef int count_natively(object server) except -1:
    if (server_wants_transport and type(server) is base_events.Server
            and type(server._clients) is WeakSet and not server._clients):
        server._clients = ServerConnections.__new__(ServerConnections)
    return 0


cdef int attach(object server, BaseTransport transport) except -1:
    if not server_wants_transport:
        server._attach()
    elif type(server._clients) is ServerConnections and server._sockets is not None:
        (<ServerConnections>server._clients).join(transport)
    else:
        server._attach(transport)
    return 0


cdef int detach(object server, BaseTransport transport) except -1:
    cdef PyObject *connections = transport.connections
    if not server_wants_transport:
        server._detach()
    elif connections != NULL and (
            (<ServerConnections>connections).count > 1 or server._sockets is not None):
        leave(<PyObject *>transport)
    else:
        # After the last client of a closed server this wakes wait_closed().
        server._detach(transport)
    return 0


seal(ServerConnections)
