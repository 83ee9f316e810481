"""The socket objects of a program, as sock_*() calls them: a derived class may define methods."""

from libc.errno cimport EAGAIN

import os
import socket as socket_module

from mioloop import stdlib

cdef extern from "<errno.h>" nogil:
    const int EWOULDBLOCK           # EAGAIN on most systems

cdef object check_ssl_socket = stdlib.check_ssl_socket
cdef object Socket = socket_module.socket


cdef bint is_would_block(Py_ssize_t error) noexcept:
    return error == -EAGAIN or error == -EWOULDBLOCK


cdef bint would_block(Py_ssize_t error) except -1:
    if is_would_block(error):
        return False
    raise OSError(-error, os.strerror(-error))


cdef bint is_plain(object sock) noexcept:
    return type(sock) is Socket


cdef int fileno(object sock) except? -2:
    """sock.fileno(), or -1 if that is no number.

    A mock of a socket may return such a value, and its operations may never have to wait.
    """
    fd = sock.fileno()
    return fd if isinstance(fd, int) else -1


cdef int check_socket(object sock, bint debug) except -1:
    if type(sock) is not Socket:
        check_ssl_socket(sock)
    if debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    return 0


cdef object call_method(object sock, Operation operation, object argument, object argument2):
    """Call the method of *sock* for *operation*, and return its result."""
    if operation == RECV:
        return sock.recv(argument)
    if operation == RECV_INTO:
        return sock.recv_into(argument)
    if operation == RECVFROM:
        return sock.recvfrom(argument)
    if operation == RECVFROM_INTO:
        return sock.recvfrom_into(argument, argument2 if argument2 else len(argument))
    if operation == ACCEPT:
        accepted = sock.accept()
        accepted[0].setblocking(False)
        return accepted
    return sock.sendto(argument, argument2)
