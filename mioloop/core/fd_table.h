/* fd_table.h -- what epoll keeps for each descriptor in the kernel, for the
 * selectors whose kernel keeps less.
 *
 * A table goes by descriptor numbers, and a number may be closed and given to
 * another file behind our back. Each entry therefore remembers which file it
 * was made for, and one whose file has gone counts as unknown, as with epoll.
 * That fails where files share an inode (two eventfds, the ends of a pipe), so
 * it does not replace mio_poll_closing().
 */
#ifndef MIO_FD_TABLE_H
#define MIO_FD_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mio.h"

typedef struct {
    bool known;
    bool armed;                 /* not spent by oneshot, nor silenced */
    uint8_t interest;
    uint8_t opts;
    uint8_t silent;             /* poll(2): reported edges that wait for drained() */
    uint8_t ended;              /* kqueue: directions that have reached their end */
    int position;               /* kqueue: of its event in ... */
    uint64_t batch;             /* ... this batch */
    uint64_t serial;            /* of the last add or modify */
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

/* Both arm the entry and give it the next serial. They answer as epoll_ctl(2)
 * does: add -EBADF, -EPERM, -EEXIST, -ENOMEM; modify -EBADF, -ENOENT. */
int mio_fd_table_add(mio_fd_table *table, int fd, mio_token token,
                     uint32_t interest, uint32_t opts);
int mio_fd_table_modify(mio_fd_table *table, int fd, mio_token token,
                        uint32_t interest, uint32_t opts);
int mio_fd_table_remove(mio_fd_table *table, int fd);       /* -EBADF, -ENOENT */

/* Without asking the system about fd, which may be closed; unknown is fine. */
void mio_fd_table_forget(mio_fd_table *table, int fd);

/* NULL if unknown; until the next add. */
mio_fd_entry *mio_fd_table_get(const mio_fd_table *table, int fd);

#endif
