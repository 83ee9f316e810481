# The Cython mirror of core/sysio.h: system calls that answer a count or -errno.

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    ctypedef unsigned int socklen_t

cdef extern from "sysio.h" nogil:
    Py_ssize_t mio_recv(int fd, void *buf, size_t len)
    Py_ssize_t mio_send(int fd, const void *buf, size_t len)
    Py_ssize_t mio_sendv(int fd, iovec *iov, size_t count)
    int mio_accept(int fd, sockaddr *addr, socklen_t *len)
    int mio_shutdown_write(int fd)
