/* readiness.h -- readiness that the program sets, and not the kernel.
 *
 * A node (mio_registration) has its own lock. A node with an event to report is in
 * the queue of the poll that it is bound to. The node's lock is taken before the
 * queue's, and neither is held while a selector waits.
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

/* Outlives its poll while a node is bound to it: a later poll has another queue,
 * even at the old address, and so the node recognises its own poll. */
typedef struct {
    mio_monitor monitor;        /* also guards the turns of the pollers (poll.c) */
    atomic_uint references;
    pid_t pid;                  /* the lock is good in this process */

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

/* Forgets the selector and drops the reference to every queued node. */
void mio_ready_queue_close(mio_ready_queue *queue);

/* In a forked child: see mio_poll_forked(). */
void mio_ready_queue_forked(mio_ready_queue *queue);

/* Wake the selector, with the lock held. */
void mio_ready_queue_wake(mio_ready_queue *queue);

/* The events of at most `room` nodes, each node at most once. The caller has the
 * turn to poll, and does not hold the lock. */
int mio_ready_queue_take(mio_ready_queue *queue, mio_event *events, int room);

/* mio_registration_update() and mio_registration_deregister() for the poll of this
 * queue. The caller has checked token, interest and opts. */
int mio_ready_queue_update(mio_ready_queue *queue, mio_registration *reg,
                           mio_token token, uint32_t interest, uint32_t opts);
int mio_ready_queue_remove(mio_ready_queue *queue, mio_registration *reg);

#endif
