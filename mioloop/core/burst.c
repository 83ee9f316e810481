/* burst.c -- an io_uring that holds nothing between two calls.
 *
 * Every operation carries MSG_DONTWAIT, for which the kernel neither waits nor hands it to a
 * worker: it is done, or has failed with EAGAIN, while io_uring_enter(2) takes it. Completions
 * are then read off the shared ring. What the kernel did not take, for want of memory or because
 * it refuses the call, is made by send(2) or recv(2), so that the caller sees no difference.
 */
#include "burst.h"

#include <errno.h>
#include <stdlib.h>

#include "sysio.h"

static ssize_t one(bool sends, const mio_transfer *transfer)
{
    return sends ? mio_send(transfer->fd, transfer->buf, transfer->len)
                 : mio_recv(transfer->fd, transfer->buf, transfer->len);
}

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <sys/syscall.h>
#endif
#endif

/* Since Linux 5.12 a ring is charged to the memory of its process, and no longer to what that
 * may lock, of which there is often next to nothing. */
#if defined(IORING_FEAT_NATIVE_WORKERS) && defined(SYS_io_uring_enter)

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PENDING (-4095 - 1)     /* no result: errors are at least -4095 */

struct mio_burst {
    int fd;
    void *rings;                /* both of them: IORING_FEAT_SINGLE_MMAP */
    size_t rings_size;
    struct io_uring_sqe *sqes;
    size_t sqes_size;
    /* Into `rings`. The kernel reads the tail of the first and writes that of the second. */
    _Atomic uint32_t *submit_head, *submit_tail;
    _Atomic uint32_t *done_head, *done_tail;
    struct io_uring_cqe *cqes;
    uint32_t submit_mask, done_mask;
};

static void *map(int fd, size_t size, off_t what)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

    return at == MAP_FAILED ? NULL : at;
}

void mio_burst_free(mio_burst *burst)
{
    if (burst == NULL) return;
    if (burst->sqes != NULL) munmap(burst->sqes, burst->sqes_size);
    if (burst->rings != NULL) munmap(burst->rings, burst->rings_size);
    if (burst->fd >= 0) close(burst->fd);
    free(burst);
}

/* The descriptor is close-on-exec. */
static int set_up(mio_burst *burst)
{
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP
                            | IORING_FEAT_NATIVE_WORKERS;
    struct io_uring_params params = {0};
    size_t submit_size, done_size;
    uint32_t *slots;
    char *rings;
    uint32_t i;

    burst->fd = (int)syscall(SYS_io_uring_setup, MIO_BURST_MOST, &params);
    if (burst->fd < 0) return -errno;
    if ((params.features & needed) != needed) return -ENOSYS;

    submit_size = params.sq_off.array + params.sq_entries * sizeof *slots;
    done_size = params.cq_off.cqes + params.cq_entries * sizeof *burst->cqes;
    burst->rings_size = submit_size > done_size ? submit_size : done_size;
    burst->sqes_size = params.sq_entries * sizeof *burst->sqes;
    burst->rings = map(burst->fd, burst->rings_size, IORING_OFF_SQ_RING);
    if (burst->rings == NULL) return -errno;
    burst->sqes = map(burst->fd, burst->sqes_size, IORING_OFF_SQES);
    if (burst->sqes == NULL) return -errno;

    rings = burst->rings;
    burst->submit_head = (void *)(rings + params.sq_off.head);
    burst->submit_tail = (void *)(rings + params.sq_off.tail);
    burst->submit_mask = *(uint32_t *)(void *)(rings + params.sq_off.ring_mask);
    burst->done_head = (void *)(rings + params.cq_off.head);
    burst->done_tail = (void *)(rings + params.cq_off.tail);
    burst->done_mask = *(uint32_t *)(void *)(rings + params.cq_off.ring_mask);
    burst->cqes = (void *)(rings + params.cq_off.cqes);
    slots = (void *)(rings + params.sq_off.array);
    for (i = 0; i < params.sq_entries; i++) slots[i] = i;
    return 0;
}

int mio_burst_new(mio_burst **out)
{
    mio_burst *burst = calloc(1, sizeof *burst);
    int err = burst == NULL ? -ENOMEM : set_up(burst);

    if (err < 0) { mio_burst_free(burst); burst = NULL; }
    *out = burst;
    return err;
}

static void offer(mio_burst *burst, bool sends, mio_transfer *transfers, int count)
{
    uint32_t tail = atomic_load_explicit(burst->submit_tail, memory_order_relaxed);
    int i;

    for (i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = &burst->sqes[tail++ & burst->submit_mask];

        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = sends ? IORING_OP_SEND : IORING_OP_RECV;
        sqe->fd = transfers[i].fd;
        sqe->addr = (uintptr_t)transfers[i].buf;
        sqe->len = (uint32_t)transfers[i].len;
        sqe->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        sqe->user_data = (uint64_t)i;
        transfers[i].result = PENDING;
    }
    atomic_store_explicit(burst->submit_tail, tail, memory_order_release);
}

/* Returns how many were done. */
static int collect(mio_burst *burst, mio_transfer *transfers)
{
    uint32_t head = atomic_load_explicit(burst->done_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(burst->done_tail, memory_order_acquire);
    int count = (int)(tail - head);

    while (head != tail) {
        struct io_uring_cqe *cqe = &burst->cqes[head++ & burst->done_mask];

        transfers[cqe->user_data].result = cqe->res;
    }
    atomic_store_explicit(burst->done_head, head, memory_order_release);
    return count;
}

static int enter(mio_burst *burst, int submitted, int awaited)
{
    int n = (int)syscall(SYS_io_uring_enter, burst->fd, submitted, awaited,
                         awaited > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);

    return n < 0 ? -errno : n;
}

static bool transfer(mio_burst *burst, bool sends, mio_transfer *transfers, int count)
{
    uint32_t head;
    bool alive;
    int done, taken, i;

    offer(burst, sends, transfers, count);
    taken = enter(burst, count, 0);
    alive = taken >= 0 || taken == -EINTR || taken == -EAGAIN || taken == -EBUSY;
    if (taken < 0) taken = 0;
    done = collect(burst, transfers);
    while (done < taken) {      /* not on any kernel we know of; but the buffers are in its hands */
        int err = enter(burst, 0, taken - done);

        done += collect(burst, transfers);
        if (err < 0 && err != -EINTR) break;
    }

    /* What was not taken is not to be taken the next time. */
    head = atomic_load_explicit(burst->submit_head, memory_order_acquire);
    atomic_store_explicit(burst->submit_tail, head, memory_order_release);
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
