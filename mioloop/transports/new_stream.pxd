from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.stream cimport StreamTransport

cdef tuple BYTE_PROTOCOLS           # protocols of stream sockets that carry bytes, not records


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server,
                                object context)

cdef bint read_addresses(StreamTransport self) except -1

cdef StreamTransport new_accepted(Reactor reactor, int fd, tuple sock_kind, object protocol,
                                  object server, bytes peer_address, bytes local_address,
                                  object context)

cdef tuple kind_of(object sock)

cdef int set_nodelay(object sock, tuple sock_kind) except -1
