#include "waker.h"

#ifndef MIO_HAVE_EVENTFD

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int configure(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) return -errno;
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
    return 0;
}

int mio_waker_open(mio_waker *waker)
{
    int ends[2];
    int err;

    if (pipe(ends) < 0) return -errno;
    waker->read_fd = ends[0];
    waker->write_fd = ends[1];
    err = configure(ends[0]);
    if (err == 0) err = configure(ends[1]);
    if (err < 0) mio_waker_close(waker);
    return err;
}

void mio_waker_close(mio_waker *waker)
{
    close(waker->read_fd);
    close(waker->write_fd);
}

int mio_waker_wake(const mio_waker *waker)
{
    while (write(waker->write_fd, "", 1) < 0) {
        if (errno == EAGAIN) break;     /* full: it is readable already */
        if (errno != EINTR) return -errno;
    }
    return 0;
}

void mio_waker_drain(const mio_waker *waker)
{
    char bytes[256];
    ssize_t n;

    do n = read(waker->read_fd, bytes, sizeof bytes);
    while (n == (ssize_t)sizeof bytes || (n < 0 && errno == EINTR));
}

#endif
