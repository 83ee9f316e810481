/* fd_table.h -- the registration of each descriptor, for kqueue and poll(2): their
 * kernels keep less of it than epoll does.
 *
 * The key is a descriptor number, and the program may close a number and get it
 * again for another file. Each entry therefore remembers its file by device and
 * inode. An entry for another file than the number now has counts as unknown, as
 * with epoll. Files that share an inode (two eventfds, the ends of a pipe) cannot
 * be told apart, so this does not replace mio_poll_closing().
 */
#ifndef MIO_FD_TABLE_H
#define MIO_FD_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mio.h"

typedef struct {
    bool known;
    bool armed;                 /* false: spent by oneshot, or parked by poll(2) */
    uint8_t interest;
    uint8_t opts;
    uint8_t silent;             /* poll(2): reported edges, silent until drained() */
    uint8_t ended;              /* kqueue: directions that have reached their end */
    int position;               /* kqueue: the index of its event in the batch below */
    uint64_t batch;             /* kqueue: the batch of its last event */
    uint64_t serial;            /* number of the last add or modify */
    mio_token token;
    dev_t device;
    ino_t inode;
} mio_fd_entry;

typedef struct {
    mio_fd_entry *entries;
    int capacity;               /* descriptors 0 .. capacity - 1 */
    uint64_t serial;
} mio_fd_table;

void mio_fd_table_init(mio_fd_table *table);
void mio_fd_table_free(mio_fd_table *table);

/* Both arm the entry and give it the next serial. The errors are epoll_ctl(2)'s:
 * add -EBADF, -EPERM, -EEXIST, -ENOMEM; modify -EBADF, -ENOENT. */
int mio_fd_table_add(mio_fd_table *table, int fd, mio_token token,
                     uint32_t interest, uint32_t opts);
int mio_fd_table_modify(mio_fd_table *table, int fd, mio_token token,
                        uint32_t interest, uint32_t opts);
int mio_fd_table_remove(mio_fd_table *table, int fd);       /* -EBADF, -ENOENT */

/* Makes no system call: fd may be closed already. An unknown fd is fine. */
void mio_fd_table_forget(mio_fd_table *table, int fd);

/* The entry, valid until the next add; NULL if fd is unknown. */
mio_fd_entry *mio_fd_table_get(const mio_fd_table *table, int fd);

#endif
