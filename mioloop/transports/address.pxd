from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t

from mioloop.transports.sysio cimport sockaddr, socklen_t

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <stddef.h>
    #include <sys/socket.h>
    #include <sys/un.h>

    typedef union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } mio_address;
    """
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        in_addr sin_addr
        uint16_t sin_port
    struct sockaddr_in6:
        in6_addr sin6_addr
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        uint32_t sin6_scope_id
    struct sockaddr_un:
        char sun_path[1]
    struct any_sockaddr "sockaddr":
        int sa_family
    ctypedef union mio_address:
        any_sockaddr any
        sockaddr_in in4
        sockaddr_in6 in6
        sockaddr_un un

cdef struct peer:
    sockaddr_in6 address                # or a sockaddr_in
    socklen_t length
    PyObject *name                      # owned, or NULL


cdef class AddressCache:
    """A cache of addresses in Python's form: a peer that sends again gets one object again."""
    cdef peer *slots

    cdef object lookup(self, mio_address *address, socklen_t length)


cdef object to_python(mio_address *address, socklen_t length)
cdef bytes packed(mio_address *address, socklen_t length)
cdef object unpacked(bytes address)
cdef bint from_python(object address, int family, mio_address *out, socklen_t *length) except -1
cdef bint is_ipv4_address(object host, object port) except -1

cdef AddressCache new_address_cache()
