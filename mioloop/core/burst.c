/* burst.c -- an io_uring that is empty between two calls.
 *
 * Every operation carries MSG_DONTWAIT. The kernel then neither waits nor hands the operation to
 * a worker: it is done, or has failed with EAGAIN, while io_uring_enter(2) takes it. Completions
 * are then read from the shared ring. An operation that the kernel did not take, for want of
 * memory or because it refuses the call, is made by send(2) or recv(2), so that the caller sees
 * no difference.
 */
#include "burst.h"

#include <errno.h>
#include <stdlib.h>

#include "sysio.h"
#include "uring.h"

static ssize_t one(bool sends, const mio_transfer *transfer)
{
    return sends ? mio_send(transfer->fd, transfer->buf, transfer->len)
                 : mio_recv(transfer->fd, transfer->buf, transfer->len);
}

#ifdef MIO_HAVE_URING

#include <string.h>

#define PENDING (-4095 - 1)     /* no result: errors are at least -4095 */

struct mio_burst { mio_uring uring; };

void mio_burst_free(mio_burst *burst)
{
    if (burst == NULL) return;
    mio_uring_close(&burst->uring);
    free(burst);
}

int mio_burst_new(mio_burst **out)
{
    mio_burst *burst = calloc(1, sizeof *burst);
    int err = burst == NULL ? -ENOMEM : mio_uring_open(&burst->uring, MIO_BURST_MOST);

    if (err < 0) { mio_burst_free(burst); burst = NULL; }
    *out = burst;
    return err;
}

static void offer(mio_uring *uring, bool sends, mio_transfer *transfers, int count)
{
    uint32_t tail = atomic_load_explicit(uring->submit_tail, memory_order_relaxed);
    int i;

    for (i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = &uring->sqes[tail++ & uring->submit_mask];

        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = sends ? IORING_OP_SEND : IORING_OP_RECV;
        sqe->fd = transfers[i].fd;
        sqe->addr = (uintptr_t)transfers[i].buf;
        sqe->len = (uint32_t)transfers[i].len;
        sqe->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        sqe->user_data = (uint64_t)i;
        transfers[i].result = PENDING;
    }
    atomic_store_explicit(uring->submit_tail, tail, memory_order_release);
}

/* Returns the number of completions. */
static int collect(mio_uring *uring, mio_transfer *transfers)
{
    uint32_t head = atomic_load_explicit(uring->done_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(uring->done_tail, memory_order_acquire);
    int count = (int)(tail - head);

    while (head != tail) {
        struct io_uring_cqe *cqe = &uring->cqes[head++ & uring->done_mask];

        transfers[cqe->user_data].result = cqe->res;
    }
    atomic_store_explicit(uring->done_head, head, memory_order_release);
    return count;
}

static bool transfer(mio_burst *burst, bool sends, mio_transfer *transfers, int count)
{
    mio_uring *uring = &burst->uring;
    uint32_t head;
    bool alive;
    int done, taken, i;

    offer(uring, sends, transfers, count);
    taken = mio_uring_enter(uring, (unsigned)count, 0);
    alive = taken >= 0 || taken == -EINTR || taken == -EAGAIN || taken == -EBUSY;
    if (taken < 0) taken = 0;
    done = collect(uring, transfers);
    /* No known kernel comes here. If one does, it may still be using the buffers: wait for it. */
    while (done < taken) {
        int err = mio_uring_enter(uring, 0, (unsigned)(taken - done));

        done += collect(uring, transfers);
        if (err < 0 && err != -EINTR) break;
    }

    /* Withdraw the requests that the kernel did not take: the loop below makes them by send() or
     * recv(). */
    head = atomic_load_explicit(uring->submit_head, memory_order_acquire);
    atomic_store_explicit(uring->submit_tail, head, memory_order_release);
    for (i = 0; i < count; i++) {
        ssize_t result = transfers[i].result;

        if (result == PENDING || result == -EINTR || result == -ECANCELED) {
            transfers[i].result = one(sends, &transfers[i]);
        }
    }
    return alive;
}

#else

struct mio_burst { char unused; };

int mio_burst_new(mio_burst **out)
{
    *out = NULL;
    return -ENOSYS;
}

void mio_burst_free(mio_burst *burst)
{
    (void)burst;
}

static bool transfer(mio_burst *burst, bool sends, mio_transfer *transfers, int count)
{
    int i;

    (void)burst;
    for (i = 0; i < count; i++) transfers[i].result = one(sends, &transfers[i]);
    return true;
}

#endif

bool mio_burst_send(mio_burst *burst, mio_transfer *transfers, int count)
{
    return transfer(burst, true, transfers, count);
}

bool mio_burst_recv(mio_burst *burst, mio_transfer *transfers, int count)
{
    return transfer(burst, false, transfers, count);
}
