from cpython.object cimport PyObject

from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.prefetch cimport Prefetch
from mioloop.transports.sendfile cimport FileSending


cdef enum Reach:
    """The code that can use the descriptor beside the transport."""
    REACH_LOOP          # none: the loop accepted it, and has not given it away
    REACH_MAKER         # the holders of `sock`, which the transport did not make
    REACH_PROGRAM       # the program, which has asked for it


cdef class SocketTransport(WritingTransport):
    # the descriptor: owned by `sock` if there is one, else by the transport
    cdef object sock                    # socket.socket, or None: made when the program asks for it
    cdef tuple sock_kind                # (family, type, proto) of `sock`
    cdef Reach reach
    cdef bint sock_is_wrapped           # a SharedSocket refers to `sock`, too
    cdef object server                  # asyncio's Server, which counts this transport, or None
    # Addresses of an accepted connection, until `extra` is made from them at its first use.
    cdef bytes peer_address
    cdef bytes local_address

    # received before the transport's turn, so no longer in the socket
    cdef Prefetch ahead

    # sendfile
    cdef object empty_waiter            # future of a sendfile() that waits for an empty buffer
    cdef FileSending file               # the file that sendfile() then sends, or None

    cdef dict info(self)
    cdef int remember_addresses(self) except -1
    cdef object socket_object(self)
    cdef int share_socket(self) except -1
    cdef int send_file_part(self) except -1
    cdef int file_failed(self, exc) except -1
    cdef int end_file(self) except -1
    cdef int leave_server(self) except -1
