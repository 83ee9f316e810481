"""Socket addresses between the system's form and the socket module's, without a name service.

What is not covered here (names to resolve, scopes, other families) is left to the socket
object itself, so that it reads, and fails, as it does there.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.tuple cimport PyTuple_CheckExact
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memset, strlen

cdef extern from *:
    const int AF_INET
    const int AF_INET6
    const int AF_UNIX
    const socklen_t offsetof_sun_path "offsetof(struct sockaddr_un, sun_path)"
    const char *inet_ntop(int family, const void *address, char *out, socklen_t size)
    int inet_pton(int family, const char *text, void *out)
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)
    uint32_t htonl(uint32_t)
    uint32_t ntohl(uint32_t)
    size_t strnlen(const char *text, size_t most)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)
    bint PyLong_CheckExact(object)
    bint PyUnicode_CheckExact(object)


cdef object to_python(mio_address *address, socklen_t length):
    """An address as the socket module writes it; None if there is none, or only that can."""
    cdef char text[64]
    cdef size_t path_length

    if length == 0:
        return None
    if address.any.sa_family == AF_INET:
        inet_ntop(AF_INET, &address.in4.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(address.in4.sin_port)
    if address.any.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &address.in6.sin6_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(address.in6.sin6_port),
                ntohl(address.in6.sin6_flowinfo), address.in6.sin6_scope_id)
    if address.any.sa_family == AF_UNIX:
        if length <= offsetof_sun_path:
            return ""                       # the client of a Unix socket has no name, as a rule
        path_length = min(length, <socklen_t>sizeof(mio_address)) - offsetof_sun_path
        if address.un.sun_path[0] == 0:     # Linux: an abstract name, every byte of it
            return PyBytes_FromStringAndSize(address.un.sun_path, path_length)
        return PyUnicode_DecodeFSDefaultAndSize(
            address.un.sun_path, strnlen(address.un.sun_path, path_length))
    return None


cdef long long number(object field, long long most) except? -1:
    """An int in 0 .. most; -1 if *field* is anything else."""
    return field if PyLong_CheckExact(field) and 0 <= field <= most else -1


cdef bint from_python(object address, int family, mio_address *out, socklen_t *length) except -1:
    """Fill *out* from a numeric (host, port ...); False if only a socket object can tell."""
    cdef const char *host
    cdef Py_ssize_t size, fields
    cdef long long port, flowinfo = 0, scope_id = 0

    if not PyTuple_CheckExact(address):
        return False
    fields = len(<tuple>address)
    if not 2 <= fields <= (2 if family == AF_INET else 4):
        return False
    port = number((<tuple>address)[1], 0xffff)
    if fields > 2:
        flowinfo = number((<tuple>address)[2], 0xfffff)
    if fields > 3:
        scope_id = number((<tuple>address)[3], 0xffffffff)
    if port < 0 or flowinfo < 0 or scope_id < 0 or not PyUnicode_CheckExact(address[0]):
        return False
    try:
        host = PyUnicode_AsUTF8AndSize(address[0], &size)
    except UnicodeEncodeError:
        return False
    if <size_t>size != strlen(host):
        return False
    memset(out, 0, sizeof(mio_address))
    out.any.sa_family = family
    if family == AF_INET:
        out.in4.sin_port = htons(<uint16_t>port)
        length[0] = sizeof(sockaddr_in)
        return inet_pton(AF_INET, host, &out.in4.sin_addr) == 1
    if family == AF_INET6:
        out.in6.sin6_port = htons(<uint16_t>port)
        out.in6.sin6_flowinfo = htonl(<uint32_t>flowinfo)
        out.in6.sin6_scope_id = <uint32_t>scope_id
        length[0] = sizeof(sockaddr_in6)
        return inet_pton(AF_INET6, host, &out.in6.sin6_addr) == 1
    return False
