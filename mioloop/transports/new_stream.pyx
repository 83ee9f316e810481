"""How a stream transport begins: on a connected socket, or on a descriptor from accept(2)."""

from libc.string cimport memset

from mioloop.reactor.python_api cimport copy_of_current_context
from mioloop.transports.address cimport mio_address, packed
from mioloop.transports.server_connections cimport attach
from mioloop.transports.socket_transport cimport REACH_MAKER
from mioloop.transports.stream cimport bare_stream
from mioloop.transports.sysio cimport sockaddr, socklen_t

import socket as socket_module

cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int fd, sockaddr *addr, socklen_t *length)
    int getpeername(int fd, sockaddr *addr, socklen_t *length)

cdef object AF_INET = socket_module.AF_INET
cdef object AF_INET6 = socket_module.AF_INET6
cdef object SOCK_STREAM = socket_module.SOCK_STREAM
cdef object Socket = socket_module.socket
cdef object family_of = socket_module.SocketType.family.__get__
cdef object type_of = socket_module.SocketType.type.__get__
cdef object IPPROTO_TCP = socket_module.IPPROTO_TCP
BYTE_PROTOCOLS = (0, IPPROTO_TCP, 262)  # 262 is MPTCP; SCTP is missing, it keeps records


cdef tuple kind_of(object sock):
    """Family, type and protocol of *sock*.

    The properties of socket.socket make an enum of each number, which takes longer than a system
    call. The properties of its base class do not.
    """
    if type(sock) is Socket:
        return family_of(sock), type_of(sock), sock.proto
    return sock.family, sock.type, sock.proto


cdef int set_nodelay(object sock, tuple sock_kind) except -1:
    """Set TCP_NODELAY on *sock* if it is a TCP socket by *sock_kind* (R34).

    A mocked socket's protocol may be no number. It is then not that of TCP, as on asyncio.
    """
    family, kind, protocol = sock_kind
    if protocol == IPPROTO_TCP and kind == SOCK_STREAM and family in (AF_INET, AF_INET6):
        sock.setsockopt(IPPROTO_TCP, socket_module.TCP_NODELAY, 1)
    return 0


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server,
                                object context):
    """Return a transport on a connected, non-blocking socket. Schedules connection_made().

    *waiter*, if not None, is a future that is set when reading has begun. The protocol's
    callbacks run in *context*. If that is None, they run in a copy of the current context.
    """
    cdef StreamTransport self = bare_stream()
    self.sock = sock
    self.reach = REACH_MAKER
    self.sock_kind = sock_kind
    self.extra = extra
    start_serving(self, reactor, fd, protocol, waiter, server, context)
    return self


cdef bint read_addresses(StreamTransport self) except -1:
    """Read both addresses of an IPv4 socket, in the system's form. Return whether that was possible.

    They are converted at their first use, as those of an accepted connection are.
    """
    cdef mio_address local, peer
    cdef socklen_t local_length = sizeof(local), peer_length = sizeof(peer)

    if self.extra is not None or type(self.sock) is not Socket or self.sock_kind[0] != AF_INET:
        return False
    memset(&local, 0, sizeof(local))
    memset(&peer, 0, sizeof(peer))
    if (getsockname(self.fd, <sockaddr *>&local, &local_length) != 0
            or getpeername(self.fd, <sockaddr *>&peer, &peer_length) != 0):
        return False
    self.local_address = packed(&local, local_length)
    self.peer_address = packed(&peer, peer_length)
    return True


cdef StreamTransport new_accepted(Reactor reactor, int fd, tuple sock_kind, object protocol,
                                  object server, bytes peer_address, bytes local_address,
                                  object context):
    """Return a transport on *fd* from accept(2). Schedules connection_made().

    The transport then owns *fd*. The addresses may be None. A socket object of *sock_kind* is
    made when the program asks for it.
    """
    cdef StreamTransport self = bare_stream()
    self.sock_kind = sock_kind
    self.peer_address = peer_address
    self.local_address = local_address
    start_serving(self, reactor, fd, protocol, None, server, context)
    return self


cdef int start_serving(StreamTransport self, Reactor reactor, int fd, object protocol,
                       object waiter, object server, object context) except -1:
    # A read of a Unix socket ends at a message that passes descriptors, even if more data follows.
    self.short_read_means_drained = (self.sock_kind[0] in (AF_INET, AF_INET6)
                         and self.sock_kind[2] in BYTE_PROTOCOLS)
    self.keeps_records = self.sock_kind[2] not in BYTE_PROTOCOLS
    self.set_protocol(protocol)
    self.context = copy_of_current_context() if context is None else context
    self.keeps_context = True
    if server is not None:
        attach(server, self)
        self.server = server
    try:
        self.start(reactor, fd, reactor.trigger_mode, waiter)
    except BaseException:
        self.leave_server()
        raise
    return 0
