/* sysio.h -- the system calls of a transport. Each returns a number of bytes or a
 * descriptor, or -errno, as in the rest of the core.
 *
 * They never return -EINTR, and never wait for the peer: the program may have made the
 * socket blocking, and the caller of these functions holds the GIL. They are inline, so
 * that a layer that is not linked with the core may use them.
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
#ifdef __linux__
#include <sys/sendfile.h>
#endif

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

/* mio_read() and mio_writev() are for a descriptor that need not be a socket. They wait
 * if the descriptor is blocking. */
static inline ssize_t mio_read(int fd, void *buf, size_t len)
{
    ssize_t n;

    do n = read(fd, buf, len); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static inline ssize_t mio_writev(int fd, const struct iovec *iov, size_t count)
{
    ssize_t n;

    do n = writev(fd, iov, (int)count); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

typedef struct mio_datagram {
    void *buf;
    size_t len;                 /* the size of buf, then of the datagram in it */
    struct sockaddr *peer;      /* sender or receiver; NULL: the connected peer */
    socklen_t peer_len;         /* the size of peer, then of its address; 0: no address */
} mio_datagram;

/* If mio_recv_datagrams() returns fewer datagrams than were asked for, no more are waiting.
 * Without recvmmsg() only one may be asked for, so that this holds there too. */
#ifdef __linux__
#define MIO_DATAGRAM_BATCH 4
#else
#define MIO_DATAGRAM_BATCH 1
#endif

#ifdef __linux__
static inline void mio_datagram_messages(const mio_datagram *batch, int count,
                                         struct mmsghdr *msgs, struct iovec *iov)
{
    int i;

    for (i = 0; i < count; i++) {
        iov[i].iov_base = batch[i].buf;
        iov[i].iov_len = batch[i].len;
        msgs[i].msg_hdr = (struct msghdr){
            .msg_name = batch[i].peer, .msg_namelen = batch[i].peer_len,
            .msg_iov = &iov[i], .msg_iovlen = 1,
        };
    }
}
#endif

/* Receive up to `count` datagrams, which is at most MIO_DATAGRAM_BATCH. Returns the number
 * received, or -errno if there is none. */
static inline int mio_recv_datagrams(int fd, mio_datagram *batch, int count)
{
#ifdef __linux__
    struct mmsghdr msgs[MIO_DATAGRAM_BATCH];
    struct iovec iov[MIO_DATAGRAM_BATCH];
    int i, n;

    mio_datagram_messages(batch, count, msgs, iov);
    do n = recvmmsg(fd, msgs, (unsigned)count, MSG_DONTWAIT, NULL);
    while (n < 0 && errno == EINTR);
    for (i = 0; i < n; i++) {
        batch[i].len = msgs[i].msg_len;
        batch[i].peer_len = msgs[i].msg_hdr.msg_namelen;
    }
    return n < 0 ? -errno : n;
#else
    ssize_t n;

    (void)count;
    do n = recvfrom(fd, batch->buf, batch->len, MSG_DONTWAIT, batch->peer, &batch->peer_len);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    batch->len = (size_t)n;
    return 1;
#endif
}

/* To the connected peer if `to` is NULL. */
static inline ssize_t mio_sendto(int fd, const void *buf, size_t len,
                                 const struct sockaddr *to, socklen_t to_len)
{
    ssize_t n;

    do n = sendto(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL, to, to_len);
    while (n < 0 && errno == EINTR);
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

/* Sends from `offset` of the file, and leaves the file's own position as it is. Returns 0 at
 * the end of the file; may block on the disk. On a system without this call os.sendfile() is
 * missing too, and so the function is not called. */
static inline ssize_t mio_sendfile(int fd, int file, off_t offset, size_t len)
{
#if defined(__linux__)
    ssize_t n;

    do n = sendfile(fd, file, &offset, len); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
#elif defined(__APPLE__)
    off_t n;
    int rc;

    do {
        n = (off_t)len;
        rc = sendfile(file, fd, offset, &n, NULL, 0);
    } while (rc < 0 && errno == EINTR && n == 0);
    return rc < 0 && n == 0 ? -errno : n;       /* with EAGAIN, n counts the bytes sent */
#elif defined(__FreeBSD__)
    off_t n = 0;
    int rc;

    do rc = sendfile(file, fd, offset, len, NULL, &n, 0);
    while (rc < 0 && errno == EINTR && n == 0);
    return rc < 0 && n == 0 ? -errno : n;
#else
    (void)fd, (void)file, (void)offset, (void)len;
    return -ENOSYS;
#endif
}

static inline int mio_shutdown_write(int fd)
{
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

/* For TCP: makes close() reset the connection. */
static inline int mio_reset_at_close(int fd)
{
    struct linger linger = {.l_onoff = 1};

    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ? -errno : 0;
}

#endif
