/* uring.c -- setting up an io_uring, and the one call that enters it. */
#include "uring.h"

#ifdef MIO_HAVE_URING

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static void *map(int fd, size_t size, off_t what)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

    return at == MAP_FAILED ? NULL : at;
}

int mio_uring_open(mio_uring *uring, unsigned entries)
{
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP
                            | IORING_FEAT_NATIVE_WORKERS;
    struct io_uring_params params = {0};
    size_t submit_size, done_size;
    uint32_t *slots;
    char *rings;
    uint32_t i;

    uring->rings = NULL;
    uring->sqes = NULL;
    uring->fd = (int)syscall(SYS_io_uring_setup, entries, &params);
    if (uring->fd < 0) return -errno;
    if ((params.features & needed) != needed) return -ENOSYS;

    submit_size = params.sq_off.array + params.sq_entries * sizeof *slots;
    done_size = params.cq_off.cqes + params.cq_entries * sizeof *uring->cqes;
    uring->rings_size = submit_size > done_size ? submit_size : done_size;
    uring->sqes_size = params.sq_entries * sizeof *uring->sqes;
    uring->rings = map(uring->fd, uring->rings_size, IORING_OFF_SQ_RING);
    if (uring->rings == NULL) return -errno;
    uring->sqes = map(uring->fd, uring->sqes_size, IORING_OFF_SQES);
    if (uring->sqes == NULL) return -errno;

    rings = uring->rings;
    uring->submit_head = (void *)(rings + params.sq_off.head);
    uring->submit_tail = (void *)(rings + params.sq_off.tail);
    uring->submit_mask = *(uint32_t *)(void *)(rings + params.sq_off.ring_mask);
    uring->done_head = (void *)(rings + params.cq_off.head);
    uring->done_tail = (void *)(rings + params.cq_off.tail);
    uring->done_mask = *(uint32_t *)(void *)(rings + params.cq_off.ring_mask);
    uring->cqes = (void *)(rings + params.cq_off.cqes);
    slots = (void *)(rings + params.sq_off.array);
    for (i = 0; i < params.sq_entries; i++) slots[i] = i;
    return 0;
}

void mio_uring_close(mio_uring *uring)
{
    if (uring->sqes != NULL) munmap(uring->sqes, uring->sqes_size);
    if (uring->rings != NULL) munmap(uring->rings, uring->rings_size);
    if (uring->fd >= 0) close(uring->fd);
    uring->sqes = NULL;
    uring->rings = NULL;
    uring->fd = -1;
}

int mio_uring_enter(mio_uring *uring, unsigned submitted, unsigned awaited)
{
    int n = (int)syscall(SYS_io_uring_enter, uring->fd, submitted, awaited,
                         awaited > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);

    return n < 0 ? -errno : n;
}

#else

/* ISO C requires a declaration in every file. */
typedef int mio_uring_is_missing;

#endif
