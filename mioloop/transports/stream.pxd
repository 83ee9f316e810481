from cpython.object cimport PyObject

from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.flow cimport ByteFlow
from mioloop.transports.prefetch cimport Prefetch
from mioloop.transports.sendfile cimport FileSending


cdef enum Reach:
    """The code that can use the descriptor beside the transport."""
    REACH_LOOP          # none: the loop accepted it, and has not given it away
    REACH_MAKER         # the holders of `sock`, which the transport did not make
    REACH_PROGRAM       # the program, which has asked for it


cdef class StreamFilter:
    """A protocol in native code. It gets received data in the loop's buffer, without a copy."""
    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1


cdef class StreamTransport(ByteFlow):
    # the descriptor: owned by `sock` if there is one, else by the transport
    cdef object sock                    # socket.socket, or None: made when the program asks for it
    cdef tuple sock_kind                # (family, type, proto) of `sock`
    cdef Reach reach
    cdef bint sock_is_wrapped           # a SharedSocket refers to `sock`, too
    cdef object server                  # asyncio's Server, which counts this transport, or None
    # Addresses of an accepted connection, until `extra` is made from them at its first use.
    cdef bytes peer_address
    cdef bytes local_address

    # reading
    cdef object data_received           # bound once, not looked up per read
    cdef StreamFilter filter            # the protocol, if it is one
    cdef object get_buffer              # of a BufferedProtocol, bound once
    cdef object buffer_updated
    cdef bint buffered_protocol
    cdef bint eof_seen
    cdef Prefetch ahead                 # received before the transport's turn
    cdef bint reads_much                # the last read was too large to be prefetched
    cdef bint keeps_data                # the protocol keeps references to received data

    # writing
    cdef bint eof_written
    cdef object empty_waiter            # future of a sendfile() that waits for an empty buffer
    cdef FileSending file               # the file that sendfile() then sends, or None

    cdef bint prefetch_allowed(self) noexcept
    cdef Py_ssize_t receive_ahead(self) except? -2
    cdef int copy_into_protocol(self, bytes data) except -1
    cdef int feed_filter(self, const char *data, Py_ssize_t size) except -1
    cdef int find_buffer_methods(self) except -1
    cdef Py_ssize_t read_bytes(self) except? -2
    cdef Py_ssize_t read_into_protocol(self) except? -2
    cdef Py_ssize_t read_into_filter(self) except? -2
    cdef int send(self, bytes data) except -1
    cdef bint view_buffer(self, Py_buffer *view) except -1
    cdef int buffer_refused(self, buffer) except -1
    cdef int read_ended(self, Py_ssize_t n) except -1
    cdef int on_eof(self) except -1
    cdef int protocol_failed(self, str name) except -1
    cdef int call_protocol(self, str name, object method, object arg) except -1
    cdef dict info(self)
    cdef int remember_addresses(self) except -1
    cdef int file_failed(self, exc) except -1
    cdef int end_file(self) except -1
    cdef int leave_server(self) except -1
    cdef object socket_object(self)
    cdef int share_socket(self) except -1


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server,
                                object context)

cdef StreamTransport new_accepted(Reactor reactor, int fd, tuple sock_kind, object protocol,
                                  object server, bytes peer_address, bytes local_address,
                                  object context)

cdef int set_nodelay(object sock, object protocol) except -1
