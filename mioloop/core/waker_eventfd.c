#include "waker.h"

#ifdef MIO_HAVE_EVENTFD

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mio_waker_open(mio_waker *waker)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (fd < 0) return -errno;
    waker->read_fd = fd;
    waker->write_fd = fd;
    return 0;
}

void mio_waker_close(mio_waker *waker)
{
    close(waker->read_fd);
}

int mio_waker_wake(const mio_waker *waker)
{
    uint64_t one = 1;

    while (write(waker->write_fd, &one, sizeof one) < 0) {
        if (errno == EAGAIN) mio_waker_drain(waker);    /* the counter is full */
        else if (errno != EINTR) return -errno;
    }
    return 0;
}

void mio_waker_drain(const mio_waker *waker)
{
    uint64_t count;
    ssize_t n;

    do n = read(waker->read_fd, &count, sizeof count);
    while (n < 0 && errno == EINTR);    /* EAGAIN: drained already */
}

#endif
