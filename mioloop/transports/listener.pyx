"""Listener: accepts connections in bounded batches, and gives each a protocol and a transport.

The listening socket belongs to asyncio's Server, which stops the listener before it closes the
socket.
"""

from libc.errno cimport (EAGAIN, ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EMFILE, ENETDOWN,
                         ENETUNREACH, ENFILE, ENOBUFS, ENOMEM, ENOPROTOOPT, EPROTO)
from libc.stdint cimport uint32_t
from libc.string cimport memset
from posix.unistd cimport close as close_descriptor

from mioloop.reactor.core cimport *
from mioloop.reactor.python_api cimport copy_of_context, copy_of_current_context
from mioloop.reactor.reactor cimport EDGE, LEVEL, ONESHOT, Reactor, Source
from mioloop.reactor.source cimport SourceFigures
from mioloop.transports.address cimport mio_address, packed, unpacked
from mioloop.transports.server_connections cimport count_natively
from mioloop.transports.new_stream cimport new_accepted, set_nodelay
from mioloop.transports.protocol_calls cimport enter_context, leave_context
from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import os
import socket as socket_module
from asyncio import constants, trsock

cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int fd, sockaddr *addr, socklen_t *length)

cdef enum:
    MOST_ACCEPTS = 64           # in a turn: many new connections must not delay existing ones

cdef object SOL_SOCKET = socket_module.SOL_SOCKET
cdef object SO_PROTOCOL = getattr(socket_module, "SO_PROTOCOL", 38)     # Linux names it always
cdef int RETRY_S = constants.ACCEPT_RETRY_DELAY

# Errors of accept(2) that concern one connection only. The listener may have further connections.
cdef tuple OF_THE_CONNECTION = (ECONNABORTED, EPROTO, ENETDOWN, ENETUNREACH, EHOSTDOWN,
                                EHOSTUNREACH, ENOPROTOOPT)


cdef class Listener(Source):

    # -- hot path: ready -> accept -> protocol ---------------------------------

    cdef int on_ready(self, uint32_t ready) except -1:
        cdef int i
        cdef bint more = True
        try:
            for i in range(self.batch):
                more = self.accept_one()
                if not more or not self.attached:   # a factory may have stopped the listener
                    break
        finally:                                    # also if an exception leaves the loop
            if self.attached and not self.paused:
                if self.reactor.trigger_mode == ONESHOT:
                    self.go_on_polling()
                elif more and self.reactor.trigger_mode == EDGE:
                    self.reactor.defer(self, ready)
        return 0

    cdef bint accept_one(self) except -1:
        """Accept one connection. Return whether there may be more."""
        cdef mio_address address
        cdef socklen_t length = sizeof(address)
        cdef int fd

        memset(&address, 0, sizeof(address))
        fd = mio_accept(self.fd, <sockaddr *>&address, &length)
        if fd < 0:
            return self.accept_failed(-fd)
        self.reactor.traffic.accepted += 1
        peer = packed(&address, length)
        local = self.address
        if local is None:
            length = sizeof(address)
            if getsockname(fd, <sockaddr *>&address, &length) == 0:
                local = packed(&address, length)
        self.connected(fd, peer, local)
        return True

    cdef int connected(self, int fd, bytes peer, bytes local) except -1:
        """Make protocol and transport in a copy of the server's context (R38, R58).

        If the protocol factory fails, only its connection is lost (R37).
        """
        cdef bint owned = False, entered = False
        context = copy_of_context(self.context)
        protocol = None
        try:
            if self.accept_tls is not None:
                sock = socket_module.socket(*self.sock_kind, fileno=fd)
                owned = True
                sock.setblocking(False)
                self.accept_tls(sock, {name: unpacked(address) for name, address in
                                       (("peername", peer), ("sockname", local))
                                       if address is not None}, context)
            else:
                entered = enter_context(context)
                protocol = self.protocol_factory()
                new_accepted(self.reactor, fd, self.sock_kind, protocol, self.server, peer, local,
                             context)
                owned = True
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.reactor.traffic.refused += 1
            if self.reactor.debug:
                report = {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
                if protocol is not None:
                    report["protocol"] = protocol
                self.reactor.report(report)
        finally:
            if not owned:
                close_descriptor(fd)
            if entered:
                leave_context(context)
        return 0

    # -- cold path ---------------------------------------------------------------

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.listeners += 1
        return 0

    cdef bint accept_failed(self, int error) except -1:
        if error == EAGAIN:
            self.reactor.drained(self, MIO_READABLE)
            return False
        self.reactor.traffic.refused += 1
        if error in OF_THE_CONNECTION:
            return True
        # The backlog stays and would be reported without end. So stop polling for a while (R35:
        # out of descriptors), and then register again, which reports the waiting connections.
        out_of_resources = error in (EMFILE, ENFILE, ENOBUFS, ENOMEM)
        self.reactor.report({
            "message": ("socket.accept() out of system resource" if out_of_resources
                        else "socket.accept() failed"),
            "exception": OSError(error, os.strerror(error)),
            "socket": trsock.TransportSocket(self.sock),
        })
        self.look_away()
        return False

    cdef int look_away(self) except -1:
        if self.attached:
            self.paused = True
            self.reactor.unregister(self)
            self.reactor.call_after(RETRY_S, self._resume)
        return 0

    def _resume(self):
        self.paused = False
        if self.attached:
            self.go_on_polling()

    cdef int go_on_polling(self) except -1:
        """Call rearm(). If the poll refuses, report it and try again later."""
        try:
            self.rearm()
        except OSError as exc:
            self.reactor.report({
                "message": "the listening socket cannot be polled",
                "exception": exc,
                "socket": trsock.TransportSocket(self.sock),
            })
            self.look_away()
        return 0

    cdef int rearm(self) except -1:
        return self.reactor.register(
            self, MIO_READABLE,
            MIO_EDGE if self.reactor.trigger_mode == EDGE
            else MIO_LEVEL if self.reactor.trigger_mode == LEVEL
            else MIO_LEVEL | MIO_ONESHOT)

    cdef int start(self) except -1:
        self.reactor.attach(self, self.fd)
        try:
            self.rearm()
        except BaseException:
            self.reactor.detach(self, False)
            raise
        return 0

    cdef int stop(self) except -1:
        return self.reactor.detach(self, False)

    def __repr__(self):
        return f"<Listener fd={self.fd} sock={self.sock!r}>"


cdef Listener new_listener(Reactor reactor, int fd, object sock, object protocol_factory,
                           object server, int backlog, object accept_tls, object context):
    """Return a listener on *sock*, which is listening and non-blocking, with descriptor *fd*.

    start() begins to accept. Each connection gets a copy of *context*, or of the current context
    if that is None.
    """
    cdef Listener self = Listener.__new__(Listener)
    cdef mio_address address
    cdef socklen_t length
    self.reactor = reactor
    self.fd = fd
    self.sock = sock
    self.protocol_factory = protocol_factory
    self.server = server
    count_natively(server)
    self.accept_tls = accept_tls
    self.batch = max(1, min(backlog, MOST_ACCEPTS))
    self.context = copy_of_current_context() if context is None else context
    self.sock_kind = (sock.family, sock.type, sock.proto)
    # On Linux the connections inherit TCP_NODELAY. asyncio looks at sock.proto, which is 0 in most
    # listeners that programs make; without the option, a response in two writes then waits 40 ms
    # for the peer's delayed acknowledgement of the first write. So the system is asked.
    family, kind, proto = self.sock_kind
    set_nodelay(sock, (family, kind, proto or sock.getsockopt(SOL_SOCKET, SO_PROTOCOL)))
    length = sizeof(address)
    memset(&address, 0, sizeof(address))
    if (getsockname(fd, <sockaddr *>&address, &length) == 0
            and (sock.family == socket_module.AF_UNIX
                 or sock.getsockname()[0] not in ("0.0.0.0", "::"))):
        self.address = packed(&address, length)
    return self


seal(Listener)
