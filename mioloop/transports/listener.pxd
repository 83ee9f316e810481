from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source


cdef class Listener(Source):
    """A listening socket; each connection becomes a StreamTransport with a protocol."""
    cdef Reactor reactor
    cdef readonly object sock               # owned and closed by the server
    cdef readonly object protocol_factory
    cdef readonly object server
    cdef readonly object accept_tls         # callable(socket, extra, context) for TLS, or None
    cdef int batch
    cdef bint paused                        # out of descriptors: accepting resumes by a timer
    cdef object context                     # of the server: each connection gets a copy (R38, R58)
    cdef tuple sock_kind                    # (family, type, proto) of `sock`
    cdef bytes address                      # local one of all connections; None: getsockname()

    cdef int start(self) except -1
    cdef int stop(self) except -1
    cdef bint accept_one(self) except -1
    cdef bint accept_failed(self, int error) except -1
    cdef int connected(self, int fd, bytes peer, bytes local) except -1
    cdef int rearm(self) except -1
    cdef int go_on_polling(self) except -1
    cdef int look_away(self) except -1


cdef Listener new_listener(Reactor reactor, int fd, object sock, object protocol_factory,
                           object server, int backlog, object accept_tls, object context)
