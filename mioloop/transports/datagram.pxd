cimport cython
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.address cimport AddressCache, mio_address
from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.sysio cimport mio_datagram, sockaddr, socklen_t


@cython.final
cdef class DatagramTransport(WritingTransport):
    cdef int family
    cdef object address                 # the only one that sendto() accepts, or None
    cdef bint connected                 # the socket has a peer
    cdef bint named_peer                # the peer has a name: sendto() always sends to the peer
    cdef bint retrying                  # a timer will call flush()
    cdef object unsent                  # deque of (bytes, address)

    # datagrams that are received but not delivered yet
    cdef bint asked                     # the program has asked for the socket
    cdef list held                      # data and packed sender of each, in turn: bytes objects

    # the last sender, and the last addressee that is not the last sender
    cdef object sender
    cdef mio_address sender_address
    cdef socklen_t sender_length        # 0: none
    cdef AddressCache peers                    # cache of senders, from the second sender on
    cdef object addressee
    cdef mio_address addressee_address
    cdef socklen_t addressee_length

    cdef int read(self, uint32_t ready) except -1
    cdef Py_ssize_t receive(self) except? -2
    cdef Py_ssize_t deliver_held(self) except? -2
    cdef Py_ssize_t receive_by_socket(self) except? -2
    cdef Py_ssize_t receive_failed(self, exc) except? -2
    cdef bytes data_of(self, mio_datagram *datagram)
    cdef object sender_of(self, mio_address *address, socklen_t length)
    cdef int deliver(self, object data, object address) except -1
    cdef int delivery_failed(self) except -1
    cdef int sending_failed(self, exc) except -1
    cdef int flush_in_context(self) except -1
    cdef int all_sent(self) except -1
    cdef int wait_for_room(self) except -1
    cdef bint find(self, address, const sockaddr **to, socklen_t *length) except -1
    cdef bint program_has_socket(self) noexcept
    cdef int share_socket(self) except -1
    cdef Py_ssize_t send(self, data, address) except? -2
    cdef Py_ssize_t send_by_socket(self, data, address) except? -2


cdef DatagramTransport new_datagram(Reactor reactor, object sock, object protocol, object address,
                                    object waiter, dict extra)
