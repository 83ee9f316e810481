"""Socket addresses between the system's form and the socket module's, without a name service.

The socket object itself converts all other addresses (names to resolve, scopes, other families), so
that results and errors are its own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset, strlen

from mioloop.reactor.python_api cimport (
    Py_INCREF, Py_XDECREF, PyUnicode_1BYTE_DATA, PyUnicode_AsUTF8AndSize,
    PyUnicode_DecodeFSDefaultAndSize, PyUnicode_New)
from mioloop.reactor.sealed cimport seal

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


cdef enum:
    PEERS = 64                  # a power of two


cdef class AddressCache:

    def __cinit__(self):
        self.slots = <peer *>calloc(PEERS, sizeof(peer))
        if self.slots == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        if self.slots != NULL:
            for i in range(PEERS):
                Py_XDECREF(self.slots[i].name)
            free(self.slots)

    cdef object lookup(self, mio_address *address, socklen_t length):
        """Return to_python() of *address*.

        The result is cached for AF_INET and AF_INET6, until another address needs its slot.
        """
        cdef uint32_t *words = <uint32_t *>address
        cdef uint32_t hashed = 0
        cdef peer *slot
        cdef PyObject *old
        cdef size_t i

        if length == 0 or length > sizeof(sockaddr_in6):
            return to_python(address, length)
        for i in range(length // sizeof(uint32_t)):
            hashed = (hashed ^ words[i]) * <uint32_t>0x9e3779b1U
        slot = &self.slots[(hashed >> 16) & (PEERS - 1)]
        if slot.length != length or memcmp(&slot.address, address, length) != 0:
            name = to_python(address, length)
            Py_INCREF(<PyObject *>name)
            old, slot.name = slot.name, <PyObject *>name
            memcpy(&slot.address, address, length)
            slot.length = length
            Py_XDECREF(old)
        return <object>slot.name


cdef char *write_byte(char *out, uint8_t value) noexcept:
    if value >= 100:
        out[0] = 48 + value // 100
        out += 1
    if value >= 10:
        out[0] = 48 + value // 10 % 10
        out += 1
    out[0] = 48 + value % 10
    return out + 1


cdef str dotted(const uint8_t *address):
    """Format an AF_INET address. inet_ntop() does it by printf(), twenty times slower."""
    cdef char text[16]
    cdef char *end = text
    cdef int i

    for i in range(4):
        end = write_byte(end, address[i])
        end[0] = 46
        end += 1
    end -= 1
    host = PyUnicode_New(end - text, 127)
    memcpy(PyUnicode_1BYTE_DATA(host), text, end - text)
    return host


cdef object to_python(mio_address *address, socklen_t length):
    """Return an address in the socket module's form.

    None if there is no address, or if only the socket module can convert it.
    """
    cdef char text[64]
    cdef size_t path_length

    if length == 0:
        return None
    if address.any.sa_family == AF_INET:
        return dotted(<uint8_t *>&address.in4.sin_addr), ntohs(address.in4.sin_port)
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


cdef bytes packed(mio_address *address, socklen_t length):
    """Return the address in the fewest bytes, for unpacked(); None for an empty address or another
    family."""
    if length == 0 or address.any.sa_family not in (AF_INET, AF_INET6, AF_UNIX):
        return None
    return PyBytes_FromStringAndSize(<char *>address, min(length, <socklen_t>sizeof(mio_address)))


cdef object unpacked(bytes address):
    cdef mio_address whole
    memset(&whole, 0, sizeof(whole))
    memcpy(&whole, PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address))
    return to_python(&whole, <socklen_t>PyBytes_GET_SIZE(address))


cdef long long number(object field, long long most) except? -1:
    """Return *field* if it is an int from 0 to *most*, else -1."""
    return field if PyLong_CheckExact(field) and 0 <= field <= most else -1


cdef bint from_python(object address, int family, mio_address *out, socklen_t *length) except -1:
    """Fill *out* from a numeric (host, port ...). Return False if only a socket object can."""
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


cdef bint is_ipv4_address(object host, object port) except -1:
    """Whether *host* is a numeric IPv4 address in a str, and *port* a number."""
    cdef mio_address address
    cdef socklen_t length
    return from_python((host, port), AF_INET, &address, &length)


cdef AddressCache new_address_cache():
    return AddressCache.__new__(AddressCache)


seal(AddressCache)
