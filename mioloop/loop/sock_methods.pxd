cdef enum Operation:
    RECV
    RECV_INTO
    RECVFROM
    RECVFROM_INTO
    ACCEPT
    SENDALL             # this operation and the following ones wait until writable
    SENDTO
    CONNECT             # to CONNECTING once connect() has returned EINPROGRESS
    SENDFILE
    CONNECTING          # SO_ERROR has the result when the socket is writable


# Whether *error*, a negative errno, says that a call would block
cdef bint is_would_block(Py_ssize_t error) noexcept
# False if it would block. Raises OSError for another *error*.
cdef bint would_block(Py_ssize_t error) except -1
# Whether *sock* is exactly a socket.socket, not of a derived class: its methods need not be called.
cdef bint is_plain(object sock) noexcept
cdef int fileno(object sock) except? -2
cdef int check_socket(object sock, bint debug) except -1
cdef object call_method(object sock, Operation operation, object argument, object argument2)
