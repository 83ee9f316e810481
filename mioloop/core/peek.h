/* peek.h -- whether a selector has events, without a system call.
 *
 * A poll request for the selector's descriptor waits in an io_uring (io_uring(7),
 * IORING_OP_POLL_ADD). While its completion is not in the shared ring, no event
 * can be fetched: an epoll descriptor is readable as soon as one of its
 * descriptors is ready, and stays so while a level-triggered one is.
 *
 * The kernel posts the completion before the system call that made a descriptor
 * ready returns, if the thread that armed the request made that call: the
 * completion is task work of that thread, which runs on the way back from the
 * kernel. After a change made by another thread or process, the task work
 * interrupts the thread. A peek is therefore valid only in the thread that made
 * it, and in no forked child.
 */
#ifndef MIO_PEEK_H
#define MIO_PEEK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct mio_peek mio_peek;

/* The head of a mio_peek, for mio_peek_is_quiet(). */
typedef struct {
    _Atomic uint32_t *completed;    /* the ring's count of completions */
    uint32_t seen;                  /* that count when the request was armed */
} mio_peek_view;

/* poll_fd is the selector's descriptor, which the caller keeps open. Makes a
 * trial first: -ENOTSUP if completions do not show as described; -ENOSYS, -EPERM,
 * -ENOMEM and other errors of io_uring_setup(2). */
int mio_peek_new(int poll_fd, mio_peek **out);
void mio_peek_free(mio_peek *peek);         /* NULL is fine; also in a forked child */

/* Submit the request; the previous one must have completed. False: not possible. */
bool mio_peek_arm(mio_peek *peek);

/* Whether the armed request has not completed: a poll would find nothing. */
static inline bool mio_peek_is_quiet(const mio_peek *peek)
{
    const mio_peek_view *view = (const mio_peek_view *)(const void *)peek;

    return atomic_load_explicit(view->completed, memory_order_acquire) == view->seen;
}

#endif
