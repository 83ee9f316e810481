/* burst.h -- one operation on many sockets, in one system call if the system can.
 *
 * Linux takes the operations through an io_uring (io_uring(7)): 64 sends of 1 KiB then cost a
 * sixth less, for the way into the kernel and back is a good part of a small send. No operation
 * waits, and every operation has ended when the function returns: the caller may then change or
 * free the buffers, and close the descriptors, as after send(2).
 *
 * A mio_burst belongs to one thread at a time, and to the process that made it.
 */
#ifndef MIO_BURST_H
#define MIO_BURST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MIO_BURST_MOST 64       /* transfers in one call */

typedef struct {
    void *buf;
    size_t len;
    ssize_t result;             /* bytes, or -errno as mio_send() and mio_recv() have it */
    int fd;
} mio_transfer;

typedef struct mio_burst mio_burst;

/* -ENOSYS, -EPERM, -ENOMEM and other errors of io_uring_setup(2). */
int mio_burst_new(mio_burst **out);
void mio_burst_free(mio_burst *burst);      /* NULL is fine; also in a forked child */

/* Carry out at most MIO_BURST_MOST transfers, in order. Each has its result afterwards, also
 * where the common call failed: the transfers are then made one by one. Returns false if the
 * common call will fail again, so that no further burst should be made. */
bool mio_burst_send(mio_burst *burst, mio_transfer *transfers, int count);
bool mio_burst_recv(mio_burst *burst, mio_transfer *transfers, int count);

#endif
