/* peek.c -- a poll request for the selector that completes in shared memory. */
#include "peek.h"

#include <errno.h>
#include <stdlib.h>

#include "uring.h"

#ifdef MIO_HAVE_URING

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mio_peek {
    mio_peek_view view;         /* first: mio_peek_is_quiet() reads it */
    mio_uring uring;
    int poll_fd;
};

static bool arm(mio_peek *peek, int fd)
{
    mio_uring *uring = &peek->uring;
    uint32_t tail = atomic_load_explicit(uring->submit_tail, memory_order_relaxed);
    struct io_uring_sqe *sqe = &uring->sqes[tail & uring->submit_mask];
    int taken;

    /* The caller has acted on the completions of earlier requests. */
    peek->view.seen = atomic_load_explicit(uring->done_tail, memory_order_acquire);
    atomic_store_explicit(uring->done_head, peek->view.seen, memory_order_release);

    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
    sqe->poll_events = POLLIN;
    atomic_store_explicit(uring->submit_tail, tail + 1, memory_order_release);
    taken = mio_uring_enter(uring, 1, 0);
    if (taken == 1) return true;
    atomic_store_explicit(uring->submit_tail, tail, memory_order_release);
    return false;
}

/* Whether a completion shows when the call that caused it returns. */
static int make_trial(mio_peek *peek)
{
    struct epoll_event event = { .events = EPOLLIN };
    uint64_t one = 1;
    int err = -ENOTSUP;
    int source = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int selector = epoll_create1(EPOLL_CLOEXEC);

    if (source < 0 || selector < 0
        || epoll_ctl(selector, EPOLL_CTL_ADD, source, &event) < 0) {
        err = -errno;
    } else if (arm(peek, selector) && mio_peek_is_quiet(peek)
               && write(source, &one, sizeof one) == sizeof one && !mio_peek_is_quiet(peek)) {
        err = 0;
    }
    if (selector >= 0) close(selector);
    if (source >= 0) close(source);
    return err;
}

int mio_peek_new(int poll_fd, mio_peek **out)
{
    mio_peek *peek = calloc(1, sizeof *peek);
    int err = -ENOMEM;

    if (peek == NULL) goto out;
    peek->poll_fd = poll_fd;
    err = mio_uring_open(&peek->uring, 1);
    if (err < 0) goto out;
    peek->view.completed = peek->uring.done_tail;
    err = make_trial(peek);

out:
    if (err < 0) { mio_peek_free(peek); peek = NULL; }
    *out = peek;
    return err;
}

void mio_peek_free(mio_peek *peek)
{
    if (peek == NULL) return;
    mio_uring_close(&peek->uring);
    free(peek);
}

bool mio_peek_arm(mio_peek *peek)
{
    return arm(peek, peek->poll_fd);
}

#else

int mio_peek_new(int poll_fd, mio_peek **out)
{
    (void)poll_fd;
    *out = NULL;
    return -ENOSYS;
}

void mio_peek_free(mio_peek *peek)
{
    (void)peek;
}

bool mio_peek_arm(mio_peek *peek)
{
    (void)peek;
    return false;
}

#endif
