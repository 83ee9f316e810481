/* poll.c -- a selector, a queue of user-space readiness, and the rule that one
 * thread polls at a time.
 *
 * The queue's lock also guards the turns of the pollers: a poll without contention
 * takes one lock twice, once before the wait and once after it. A poll that does not
 * wait holds the lock throughout: nothing that a selector does then needs it.
 *
 * No wake-up is lost. With the lock held, the poller either finds a node, and
 * does not wait, or sets `sleeping`. A producer, with the lock held, appends its
 * node and, if it finds `sleeping` set, clears it and wakes the selector.
 *
 * Closing: every function except poll() increments `users` while it runs, and tests
 * `closed` after the increment. close() sets `closed` first and then waits until
 * `users` is 0. That wait is short, because none of these functions blocks. They
 * take no lock for it, so that wake() may run in a signal handler.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "mio.h"
#include "readiness.h"
#include "selector.h"

struct mio_poll {
    const mio_selector_ops *ops;
    mio_selector *selector;
    mio_ready_queue *queue;
    pid_t pid;                  /* of the process that made the poll */
    atomic_uint users;
    atomic_bool closed;

    /* Under the queue's lock. */
    bool polling;
    unsigned waiting;           /* threads that wait for their turn */
};

/* -- polling --------------------------------------------------------------- */

static int64_t deadline_after(int64_t timeout_ns)
{
    int64_t now_ns = mio_clock_now();

    return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}

static int64_t remaining_until(int64_t deadline_ns)
{
    int64_t now_ns = mio_clock_now();

    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

/* With the lock held. Returns 1 when this thread may poll, and leaves the rest of
 * the timeout in *timeout_ns; 0 if the time passed first. A thread that runs out of
 * time just as the turn becomes free takes it: the signal may have been for it. */
static int wait_for_turn(mio_poll *poll, int64_t *timeout_ns)
{
    int64_t deadline_ns = *timeout_ns > 0 ? deadline_after(*timeout_ns) : -1;

    poll->waiting++;
    while (poll->polling && *timeout_ns != 0 && !atomic_load(&poll->closed)) {
        mio_monitor_wait(&poll->queue->monitor, deadline_ns);
        if (deadline_ns >= 0) *timeout_ns = remaining_until(deadline_ns);
    }
    poll->waiting--;
    return !poll->polling;
}

/* With the lock held. close() waits for this condition too, so that a signal, which
 * wakes one thread, could wake a poller in its place: hence the broadcast. */
static void pass_turn(mio_poll *poll)
{
    poll->polling = false;
    if (atomic_load(&poll->closed)) pthread_cond_broadcast(&poll->queue->monitor.changed);
    else if (poll->waiting > 0) pthread_cond_signal(&poll->queue->monitor.changed);
}

static int wait_selector(mio_poll *poll, mio_event *events, int capacity, int64_t timeout_ns)
{
    int64_t deadline_ns = timeout_ns > MIO_LONGEST_WAIT_NS ? deadline_after(timeout_ns) : -1;
    bool in_parts = timeout_ns < 0 || timeout_ns > MIO_LONGEST_WAIT_NS;
    bool woken;
    int n;

    do {
        if (deadline_ns >= 0) timeout_ns = remaining_until(deadline_ns);
        n = poll->ops->wait(poll->selector, events, capacity,
                            timeout_ns > MIO_LONGEST_WAIT_NS ? MIO_LONGEST_WAIT_NS : timeout_ns,
                            &woken);
    } while (in_parts && n == 0 && !woken && timeout_ns != 0);
    return n;
}

int mio_poll_poll(mio_poll *poll, mio_event *events, int capacity,
                  int64_t timeout_ns)
{
    mio_ready_queue *queue = poll->queue;
    bool reserve, waits;
    int count;

    if (capacity < 1 || timeout_ns < -1) return -EINVAL;

    pthread_mutex_lock(&queue->monitor.lock);
    if (poll->polling && !wait_for_turn(poll, &timeout_ns)) { count = 0; goto out; }
    if (atomic_load(&poll->closed)) { count = 0; goto out; }
    poll->polling = true;
    if (queue->length > 0) timeout_ns = 0;
    queue->sleeping = waits = timeout_ns != 0;
    reserve = queue->length > 0 && capacity > 1;
    if (waits) pthread_mutex_unlock(&queue->monitor.lock);

    count = wait_selector(poll, events, capacity - reserve, timeout_ns);

    if (waits) pthread_mutex_lock(&queue->monitor.lock);
    queue->sleeping = false;
    if (queue->length > 0 && count >= 0 && count < capacity) {
        pthread_mutex_unlock(&queue->monitor.lock);
        count += mio_ready_queue_take(queue, events + count, capacity - count);
        pthread_mutex_lock(&queue->monitor.lock);
    }
    if (queue->nested && queue->length > 0) mio_ready_queue_wake(queue);
    pass_turn(poll);

out:
    if (atomic_load(&poll->closed)) {
        /* The close() waits until this thread has left. */
        pthread_cond_broadcast(&queue->monitor.changed);
        count = -EBADF;
    }
    pthread_mutex_unlock(&queue->monitor.lock);
    return count;
}

/* -- descriptors ----------------------------------------------------------- */

static int enter(mio_poll *poll)
{
    atomic_fetch_add(&poll->users, 1);
    if (!atomic_load(&poll->closed)) return 0;
    atomic_fetch_sub(&poll->users, 1);
    return -EBADF;
}

static void leave(mio_poll *poll)
{
    atomic_fetch_sub(&poll->users, 1);
}

/* Checks the arguments of a registration: 0, -MIO_ETOKEN or -EINVAL. */
static int check_request(mio_token token, uint32_t interest, uint32_t opts)
{
    if (token == MIO_TOKEN_MAX) return -MIO_ETOKEN;
    if (interest & ~(uint32_t)MIO_READY_ALL) return -EINVAL;
    if (opts & ~(uint32_t)(MIO_EDGE | MIO_LEVEL | MIO_ONESHOT)) return -EINVAL;
    if ((opts & MIO_EDGE) && (opts & MIO_LEVEL)) return -EINVAL;
    return 0;
}

/* op: the selector's add() or modify(). */
static int change(mio_poll *poll,
                  int (*op)(mio_selector *, int, mio_token, uint32_t, uint32_t),
                  int fd, mio_token token, uint32_t interest, uint32_t opts)
{
    int err;

    err = check_request(token, interest, opts);
    if (err < 0) return err;
    err = enter(poll);
    if (err < 0) return err;
    err = op(poll->selector, fd, token, interest, opts);
    leave(poll);
    return err;
}

int mio_poll_register(mio_poll *poll, int fd, mio_token token,
                      uint32_t interest, uint32_t opts)
{
    return change(poll, poll->ops->add, fd, token, interest, opts);
}

int mio_poll_reregister(mio_poll *poll, int fd, mio_token token,
                        uint32_t interest, uint32_t opts)
{
    return change(poll, poll->ops->modify, fd, token, interest, opts);
}

int mio_poll_deregister(mio_poll *poll, int fd)
{
    int err;

    err = enter(poll);
    if (err < 0) return err;
    err = poll->ops->remove(poll->selector, fd);
    leave(poll);
    return err;
}

void mio_poll_closing(mio_poll *poll, int fd)
{
    if (enter(poll) < 0) return;
    poll->ops->closing(poll->selector, fd);
    leave(poll);
}

int mio_poll_emulates_edges(const mio_poll *poll)
{
    return poll->ops->emulates_edges;
}

void mio_poll_drained(mio_poll *poll, int fd, uint32_t ready)
{
    if (enter(poll) < 0) return;
    poll->ops->drained(poll->selector, fd, ready);
    leave(poll);
}

/* -- user-space registrations ---------------------------------------------- */

int mio_registration_update(mio_registration *reg, mio_poll *poll,
                            mio_token token, uint32_t interest, uint32_t opts)
{
    int err = check_request(token, interest, opts);

    return err < 0 ? err : mio_ready_queue_update(poll->queue, reg, token, interest, opts);
}

int mio_registration_deregister(mio_registration *reg, mio_poll *poll)
{
    return mio_ready_queue_remove(poll->queue, reg);
}

/* -- the poll itself ------------------------------------------------------- */

int mio_poll_new(const char *selector, mio_poll **out)
{
    const mio_selector_ops *ops = mio_selector_find(selector);
    mio_poll *poll = NULL;
    int err = 0;

    if (ops == NULL) { err = -EINVAL; goto out; }
    poll = calloc(1, sizeof *poll);
    if (poll == NULL) { err = -ENOMEM; goto out; }
    atomic_init(&poll->users, 0);
    atomic_init(&poll->closed, false);
    poll->pid = getpid();
    poll->ops = ops;
    err = ops->open(&poll->selector);
    if (err < 0) goto out;
    err = mio_ready_queue_new(ops, poll->selector, &poll->queue);
    if (err < 0) ops->close(poll->selector);

out:
    if (err < 0) { free(poll); poll = NULL; }
    *out = poll;
    return err;
}

/* After fork() the pollers are in the parent: the child has none to wait for. */
void mio_poll_forked(mio_poll *poll)
{
    pid_t pid = getpid();

    if (poll->pid == pid) return;
    poll->pid = pid;
    poll->polling = false;
    poll->waiting = 0;
    atomic_store(&poll->users, 0);
    mio_ready_queue_forked(poll->queue);
    /* If the parent was closing the poll, its selector may be freed already. */
    if (!atomic_load(&poll->closed)) poll->ops->forked(poll->selector);
}

int mio_poll_renew(mio_poll *poll)
{
    mio_ready_queue *queue = poll->queue;
    mio_selector *old = poll->selector;
    mio_selector *selector;
    int err;

    mio_poll_forked(poll);
    if (atomic_load(&poll->closed)) return -EBADF;
    err = poll->ops->open(&selector);
    if (err < 0) return err;
    pthread_mutex_lock(&queue->monitor.lock);
    poll->selector = selector;
    queue->selector = selector;
    pthread_mutex_unlock(&queue->monitor.lock);
    poll->ops->close(old);
    return 0;
}

/* If another call is closing the poll, returns at once, before the poll is closed. */
void mio_poll_close(mio_poll *poll)
{
    mio_ready_queue *queue = poll->queue;

    mio_poll_forked(poll);      /* in case the child has not called it yet */
    if (atomic_exchange(&poll->closed, true)) return;

    pthread_mutex_lock(&queue->monitor.lock);
    if (poll->polling) mio_ready_queue_wake(queue);
    pthread_cond_broadcast(&queue->monitor.changed);
    while (poll->polling || poll->waiting > 0) mio_monitor_wait(&queue->monitor, -1);
    pthread_mutex_unlock(&queue->monitor.lock);

    while (atomic_load(&poll->users) > 0) sched_yield();
    mio_ready_queue_close(queue);
    poll->ops->close(poll->selector);
}

void mio_poll_free(mio_poll *poll)
{
    if (poll == NULL) return;
    mio_poll_close(poll);
    mio_ready_queue_unref(poll->queue);
    free(poll);
}

const char *mio_poll_selector(const mio_poll *poll)
{
    return poll->ops->name;
}

int mio_poll_fd(mio_poll *poll)
{
    mio_ready_queue *queue = poll->queue;
    int fd;

    fd = enter(poll);
    if (fd < 0) return fd;
    fd = poll->ops->fd(poll->selector);
    if (fd >= 0) {
        pthread_mutex_lock(&queue->monitor.lock);
        if (!queue->nested && queue->length > 0) mio_ready_queue_wake(queue);
        queue->nested = true;
        pthread_mutex_unlock(&queue->monitor.lock);
    }
    leave(poll);
    return fd;
}

int mio_poll_wake(mio_poll *poll)
{
    int interrupted = errno;    /* this may be a signal handler, which must keep errno */
    int err;

    err = enter(poll);
    if (err == 0) {
        err = poll->ops->wake(poll->selector);
        leave(poll);
    }
    errno = interrupted;
    return err;
}
