/* sysio.h -- the system calls of a transport, as the core counts results: a
 * number of bytes or a descriptor, or -errno. Never EINTR, and never a wait:
 * whoever else has the socket may have made it blocking, and our caller holds
 * the GIL. Inline, so that a layer that is not linked with the core may use them.
 */
#ifndef MIO_SYSIO_H
#define MIO_SYSIO_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0          /* macOS: SO_NOSIGPIPE; CPython ignores SIGPIPE anyway */
#endif

static inline ssize_t mio_recv(int fd, void *buf, size_t len)
{
    ssize_t n;

    do n = recv(fd, buf, len, MSG_DONTWAIT); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static inline ssize_t mio_send(int fd, const void *buf, size_t len)
{
    ssize_t n;

    do n = send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static inline ssize_t mio_sendv(int fd, struct iovec *iov, size_t count)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n;

    do n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* The new descriptor is non-blocking and close-on-exec. */
static inline int mio_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    int conn;

#if defined(__linux__) || defined(__FreeBSD__)
    do conn = accept4(fd, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (conn < 0 && errno == EINTR);
    return conn < 0 ? -errno : conn;
#else
    do conn = accept(fd, addr, len); while (conn < 0 && errno == EINTR);
    if (conn < 0) return -errno;
    if (fcntl(conn, F_SETFL, O_NONBLOCK) < 0 || fcntl(conn, F_SETFD, FD_CLOEXEC) < 0) {
        int err = errno;
        close(conn);
        return -err;
    }
    return conn;
#endif
}

static inline int mio_shutdown_write(int fd)
{
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

#endif
