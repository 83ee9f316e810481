/* waker.h -- a descriptor that mio_waker_wake() makes readable.
 *
 * mio_waker_wake() may be called from any thread and from a signal handler.
 */
#ifndef MIO_WAKER_H
#define MIO_WAKER_H

#if defined(__linux__)
#define MIO_HAVE_EVENTFD 1
#endif

typedef struct {
    int read_fd;
    int write_fd;       /* equal to read_fd for an eventfd */
} mio_waker;

int mio_waker_open(mio_waker *waker);
void mio_waker_close(mio_waker *waker);
int mio_waker_wake(const mio_waker *waker);

/* Makes the descriptor unreadable, after any number of wakes. */
void mio_waker_drain(const mio_waker *waker);

#endif
