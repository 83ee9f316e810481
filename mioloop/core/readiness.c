#include "readiness.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct mio_registration {
    pthread_mutex_t lock;
    atomic_uint references;     /* a queued node holds one */
    mio_registration *next;     /* under the queue's lock */

    /* Under the node's lock. */
    mio_ready_queue *queue;     /* bound for life; holds a reference */
    mio_token token;
    uint32_t readiness;
    uint32_t interest;
    uint32_t opts;
    bool queued;                /* in the queue, or just taken out by the poller */
    bool dropped;
};

/* -- the queue ------------------------------------------------------------- */

int mio_ready_queue_new(const mio_selector_ops *ops, mio_selector *selector,
                        mio_ready_queue **out)
{
    mio_ready_queue *queue;
    int err = 0;

    queue = calloc(1, sizeof *queue);
    if (queue == NULL) { err = -ENOMEM; goto out; }
    err = mio_monitor_init(&queue->monitor);
    if (err < 0) { free(queue); queue = NULL; goto out; }
    atomic_init(&queue->references, 1);
    queue->pid = getpid();
    queue->ops = ops;
    queue->selector = selector;

out:
    *out = queue;
    return err;
}

void mio_ready_queue_unref(mio_ready_queue *queue)
{
    if (queue == NULL || atomic_fetch_sub(&queue->references, 1) > 1) return;
    assert(queue->first == NULL);       /* a queued node holds a reference */
    mio_monitor_destroy(&queue->monitor);
    free(queue);
}

/* The result is ignored: waking fails only if the program has closed the waker's
 * descriptor. The nodes are in the queue, and the next poll looks there first. */
void mio_ready_queue_wake(mio_ready_queue *queue)
{
    queue->sleeping = false;
    queue->ops->wake(queue->selector);
}

/* Another thread's fork may copy the memory between two of these lines. The list
 * that starts at `first` is complete at each of them. */
static void append(mio_ready_queue *queue, mio_registration *node)
{
    node->next = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    if (queue->last == NULL) queue->first = node;
    else queue->last->next = node;
    queue->last = node;
    queue->length++;
}

static mio_registration *take_first(mio_ready_queue *queue)
{
    mio_registration *node = queue->first;

    assert(node != NULL);
    queue->first = node->next;
    if (queue->first == NULL) queue->last = NULL;
    queue->length--;
    return node;
}

/* With the node's lock held. The queue's lock is held for the wake, too: without
 * it, another thread could close the poll and free its selector. */
static void enqueue(mio_registration *node)
{
    mio_ready_queue *queue = node->queue;

    if (queue == NULL || node->queued) return;
    pthread_mutex_lock(&queue->monitor.lock);
    if (queue->selector != NULL) {
        mio_registration_ref(node);
        node->queued = true;
        append(queue, node);
        if (queue->sleeping || (queue->nested && queue->length == 1)) mio_ready_queue_wake(queue);
    }
    pthread_mutex_unlock(&queue->monitor.lock);
}

static void enqueue_if_ready(mio_registration *node)
{
    if (node->readiness & node->interest) enqueue(node);
}

void mio_ready_queue_close(mio_ready_queue *queue)
{
    mio_registration *node, *next;

    pthread_mutex_lock(&queue->monitor.lock);
    node = queue->first;
    queue->first = NULL;
    queue->last = NULL;
    queue->length = 0;
    queue->selector = NULL;
    pthread_mutex_unlock(&queue->monitor.lock);

    /* No other thread uses these links: a node that counts as queued is not queued again. */
    for (; node != NULL; node = next) {
        next = node->next;
        pthread_mutex_lock(&node->lock);
        node->queued = false;
        pthread_mutex_unlock(&node->lock);
        mio_registration_unref(node);
    }
}

/* Clears `sleeping` and `nested`, because a wake would go to the parent's poll: no
 * wake is asked for until a poll of the child has begun to wait. */
void mio_ready_queue_forked(mio_ready_queue *queue)
{
    mio_registration *node;
    pid_t pid = getpid();

    if (queue->pid == pid) return;
    queue->pid = pid;
    mio_monitor_forked(&queue->monitor);
    queue->sleeping = false;
    queue->nested = false;
    queue->last = NULL;
    queue->length = 0;
    for (node = queue->first; node != NULL; node = node->next) {
        mio_lock_forked(&node->lock);
        queue->last = node;
        queue->length++;
    }
}

/* Between take_first() and the node's lock the node counts as queued: a setter then
 * does not queue it, and this function sees the new readiness. The number of turns
 * is fixed first: a level node goes to the tail, and waits there for the next poll. */
int mio_ready_queue_take(mio_ready_queue *queue, mio_event *events, int room)
{
    mio_registration *node;
    size_t turns;
    uint32_t ready;
    int count = 0;

    pthread_mutex_lock(&queue->monitor.lock);
    turns = queue->length;
    pthread_mutex_unlock(&queue->monitor.lock);

    for (; turns > 0 && count < room; turns--) {
        pthread_mutex_lock(&queue->monitor.lock);
        node = take_first(queue);
        pthread_mutex_unlock(&queue->monitor.lock);

        pthread_mutex_lock(&node->lock);
        ready = node->dropped ? 0 : node->readiness & node->interest;
        node->queued = ready != 0 && !(node->opts & (MIO_EDGE | MIO_ONESHOT));
        if (ready != 0) {
            events[count].token = node->token;
            events[count].ready = ready;
            events[count].unused = 0;
            count++;
            if (node->opts & MIO_ONESHOT) node->interest = 0;
        }
        if (node->queued) {
            pthread_mutex_lock(&queue->monitor.lock);
            append(queue, node);
            pthread_mutex_unlock(&queue->monitor.lock);
            pthread_mutex_unlock(&node->lock);
        } else {
            pthread_mutex_unlock(&node->lock);
            mio_registration_unref(node);
        }
    }
    return count;
}

/* -- registration: interest ------------------------------------------------ */

int mio_registration_new(mio_registration **out)
{
    mio_registration *node;
    int err = 0;

    node = calloc(1, sizeof *node);
    if (node == NULL) { err = -ENOMEM; goto out; }
    err = -pthread_mutex_init(&node->lock, NULL);
    if (err < 0) { free(node); node = NULL; goto out; }
    atomic_init(&node->references, 1);

out:
    *out = node;
    return err;
}

void mio_registration_ref(mio_registration *reg)
{
    atomic_fetch_add(&reg->references, 1);
}

void mio_registration_unref(mio_registration *reg)
{
    if (reg == NULL || atomic_fetch_sub(&reg->references, 1) > 1) return;
    pthread_mutex_destroy(&reg->lock);
    mio_ready_queue_unref(reg->queue);
    free(reg);
}

/* With the node's lock held: may this node be changed through this queue? */
static int check_binding(mio_registration *node, mio_ready_queue *queue)
{
    bool closed;

    if (node->queue != NULL && node->queue != queue) return -MIO_EWRONGPOLL;
    pthread_mutex_lock(&queue->monitor.lock);
    closed = queue->selector == NULL;
    pthread_mutex_unlock(&queue->monitor.lock);
    if (closed) return -EBADF;
    return node->dropped ? -EINVAL : 0;
}

int mio_ready_queue_update(mio_ready_queue *queue, mio_registration *reg,
                           mio_token token, uint32_t interest, uint32_t opts)
{
    int err;

    pthread_mutex_lock(&reg->lock);
    err = check_binding(reg, queue);
    if (err < 0) goto out;
    if (reg->queue == NULL) {
        atomic_fetch_add(&queue->references, 1);
        reg->queue = queue;
    }
    reg->token = token;
    reg->interest = interest;
    reg->opts = opts;
    enqueue_if_ready(reg);

out:
    pthread_mutex_unlock(&reg->lock);
    return err;
}

/* A queued node stays in the queue: the poll will find no event in it. */
int mio_ready_queue_remove(mio_ready_queue *queue, mio_registration *reg)
{
    int err;

    pthread_mutex_lock(&reg->lock);
    err = check_binding(reg, queue);
    if (err == 0) {
        reg->token = 0;
        reg->interest = 0;
        reg->opts = 0;
    }
    pthread_mutex_unlock(&reg->lock);
    return err;
}

/* Queues the node, although it has no event: this wakes a poll that waits, as in
 * mio, so that a loop which waited for this registration can look again. */
void mio_registration_drop(mio_registration *reg)
{
    pthread_mutex_lock(&reg->lock);
    if (!reg->dropped) {
        reg->dropped = true;
        enqueue(reg);
    }
    pthread_mutex_unlock(&reg->lock);
}

static bool is_in_queue(const mio_registration *node)
{
    const mio_registration *other = node->queue == NULL ? NULL : node->queue->first;

    while (other != NULL && other != node) other = other->next;
    return other == node;
}

/* A poller of the parent may have taken the node out of the queue and not put it
 * back. `queued` is then set anew, and the queue's reference is leaked. */
void mio_registration_forked(mio_registration *reg)
{
    mio_lock_forked(&reg->lock);
    if (reg->queue != NULL) mio_ready_queue_forked(reg->queue);
    reg->queued = is_in_queue(reg);
    if (!reg->dropped) enqueue_if_ready(reg);
}

/* -- registration: readiness ----------------------------------------------- */

int mio_readiness_set(mio_registration *reg, uint32_t ready)
{
    if (ready & ~(uint32_t)MIO_READY_ALL) return -EINVAL;
    pthread_mutex_lock(&reg->lock);
    if (!reg->dropped) {
        reg->readiness = ready;
        enqueue_if_ready(reg);
    }
    pthread_mutex_unlock(&reg->lock);
    return 0;
}

uint32_t mio_readiness_get(mio_registration *reg)
{
    uint32_t ready;

    pthread_mutex_lock(&reg->lock);
    ready = reg->readiness;
    pthread_mutex_unlock(&reg->lock);
    return ready;
}
