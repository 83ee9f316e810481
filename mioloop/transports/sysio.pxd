# The Cython mirror of core/sysio.h: system calls that return a count or -errno.

from libc.stdint cimport int64_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    ctypedef unsigned int socklen_t

cdef extern from "<errno.h>" nogil:
    const int EWOULDBLOCK           # EAGAIN on most systems

cdef extern from "sysio.h" nogil:
    Py_ssize_t mio_recv(int fd, void *buf, size_t len)
    Py_ssize_t mio_send(int fd, const void *buf, size_t len)
    Py_ssize_t mio_sendv(int fd, iovec *iov, size_t count)
    Py_ssize_t mio_read(int fd, void *buf, size_t len)
    Py_ssize_t mio_writev(int fd, const iovec *iov, size_t count)

    ctypedef struct mio_datagram:
        void *buf
        size_t len
        sockaddr *peer
        socklen_t peer_len

    enum:
        MIO_DATAGRAM_BATCH
    int mio_recv_datagrams(int fd, mio_datagram *batch, int count)
    Py_ssize_t mio_sendto(int fd, const void *buf, size_t len,
                          const sockaddr *to, socklen_t to_len)
    int mio_accept(int fd, sockaddr *addr, socklen_t *len)
    Py_ssize_t mio_sendfile(int fd, int file, int64_t offset, size_t len)
    int mio_shutdown_write(int fd)
    int mio_reset_at_close(int fd)
