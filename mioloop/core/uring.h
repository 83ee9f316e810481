/* uring.h -- an io_uring (io_uring(7)): two rings of requests and completions
 * that are shared with the kernel. For the core's own files: burst.c and peek.c.
 *
 * A mio_uring belongs to one thread at a time, and to the process that made it.
 */
#ifndef MIO_URING_H
#define MIO_URING_H

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <sys/syscall.h>
#endif
#endif

/* Since Linux 5.12 a ring is charged to the memory of its process. Earlier kernels
 * charge it to the memory that a process may lock, and that limit is often very low. */
#if defined(IORING_FEAT_NATIVE_WORKERS) && defined(SYS_io_uring_enter)
#define MIO_HAVE_URING 1

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int fd;
    void *rings;                /* both of them: IORING_FEAT_SINGLE_MMAP */
    size_t rings_size;
    struct io_uring_sqe *sqes;
    size_t sqes_size;
    /* Pointers into `rings`. The kernel reads submit_tail and writes done_tail. */
    _Atomic uint32_t *submit_head, *submit_tail;
    _Atomic uint32_t *done_head, *done_tail;
    struct io_uring_cqe *cqes;
    uint32_t submit_mask, done_mask;
} mio_uring;

/* Room for `entries` requests, a power of two. 0, or -errno; after a failure
 * mio_uring_close() is still due. The descriptor is close-on-exec. */
int mio_uring_open(mio_uring *uring, unsigned entries);
void mio_uring_close(mio_uring *uring);         /* a half-open one is fine */

/* The number of requests that the kernel took, or -errno. */
int mio_uring_enter(mio_uring *uring, unsigned submitted, unsigned awaited);

#endif
#endif
