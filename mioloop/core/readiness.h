/* readiness.h -- readiness that a program states, rather than the kernel.
 *
 * A node (mio_registration) has its own lock; a node with something to tell
 * stands in the queue of the poll it is bound to. Locks are taken node first,
 * queue second, and neither is held while a selector waits.
 */
#ifndef MIO_READINESS_H
#define MIO_READINESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "mio.h"
#include "monitor.h"
#include "selector.h"

/* Outlives its poll while a node is bound to it, so that no later poll can be
 * mistaken for the one that has gone, not even at the same address. */
typedef struct {
    mio_monitor monitor;        /* the poll takes its turns by it, too */
    atomic_uint references;
    pid_t pid;                  /* of the process whose threads use the lock */

    /* Under the lock. */
    mio_registration *first;
    mio_registration *last;
    size_t length;
    bool sleeping;              /* the poller waits, and must be woken */
    bool nested;                /* the selector is readable while length > 0 */
    const mio_selector_ops *ops;
    mio_selector *selector;     /* NULL once the poll is closed */
} mio_ready_queue;

int mio_ready_queue_new(const mio_selector_ops *ops, mio_selector *selector,
                        mio_ready_queue **out);
void mio_ready_queue_unref(mio_ready_queue *queue);

/* Forgets the selector and lets every node go. */
void mio_ready_queue_close(mio_ready_queue *queue);

/* In a forked child: see mio_poll_forked(). */
void mio_ready_queue_forked(mio_ready_queue *queue);

/* Wake the selector, with the lock held. */
void mio_ready_queue_wake(mio_ready_queue *queue);

/* The events of at most `room` nodes, each node at most once; called by the
 * thread whose turn it is to poll, without the lock. */
int mio_ready_queue_take(mio_ready_queue *queue, mio_event *events, int room);

/* 0, or what is wrong: -MIO_ETOKEN, -EINVAL. */
int mio_check_request(mio_token token, uint32_t interest, uint32_t opts);

/* poll.c */
mio_ready_queue *mio_poll_queue(const mio_poll *poll);

#endif
