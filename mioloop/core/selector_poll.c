/* poll(2): works everywhere, at a cost that grows with the descriptors.
 *
 * The poller copies the table into the array that poll(2) takes, and copies it
 * again after a change. Another thread may change the table during the wait: it
 * then wakes the poller, which copies the table. Each event is checked against
 * the table.
 *
 * poll(2) knows no edges. A reported edge is not asked for again until
 * drained() or modify(). Errors and hang-ups cannot be left out in this way: they
 * park the descriptor, that is, it is not handed to poll(2) at all.
 */
#include "selector.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fd_table.h"
#include "monitor.h"
#include "waker.h"

struct mio_selector {
    mio_waker waker;            /* for wake(), and for changes during a wait */
    atomic_bool woken;          /* by wake() */

    pthread_mutex_t lock;       /* for `table`, `changed` and `waiting` */
    mio_fd_table table;
    bool changed;               /* since the copy was made */
    bool waiting;

    /* Only the poller uses these fields. fds[0] is the waker. */
    struct pollfd *fds;
    size_t count;
    size_t capacity;
    size_t next;                /* where the next scan starts, for fairness */
    uint64_t serial;            /* of the table when the copy was made */
};

static int poll_open(mio_selector **out)
{
    mio_selector *selector;
    int err = 0;

    selector = calloc(1, sizeof *selector);
    if (selector == NULL) { err = -ENOMEM; goto out; }
    err = mio_waker_open(&selector->waker);
    if (err < 0) goto out;
    err = -pthread_mutex_init(&selector->lock, NULL);
    if (err < 0) { mio_waker_close(&selector->waker); goto out; }
    atomic_init(&selector->woken, false);
    mio_fd_table_init(&selector->table);
    selector->changed = true;

out:
    if (err < 0) { free(selector); selector = NULL; }
    *out = selector;
    return err;
}

static void poll_close(mio_selector *selector)
{
    mio_fd_table_free(&selector->table);
    free(selector->fds);
    pthread_mutex_destroy(&selector->lock);
    mio_waker_close(&selector->waker);
    free(selector);
}

/* If a thread of the parent held the lock, it may have been in the middle of moving the
 * arrays: they are not freed. */
static void poll_forked(mio_selector *selector)
{
    if (!mio_lock_forked(&selector->lock)) return;
    mio_fd_table_init(&selector->table);
    selector->fds = NULL;
    selector->count = selector->capacity = 0;
}

static int poll_fd(const mio_selector *selector)
{
    (void)selector;
    return -ENOTSUP;
}

/* -- interest -------------------------------------------------------------- */

/* With the lock held. The result of the wake is ignored: without it the poller sees
 * the change late, but it does see it, since the change is in the table already. */
static void set_changed(mio_selector *selector)
{
    selector->changed = true;
    if (selector->waiting) mio_waker_wake(&selector->waker);
}

static int poll_add(mio_selector *selector, int fd, mio_token token,
                    uint32_t interest, uint32_t opts)
{
    int err;

    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_add(&selector->table, fd, token, interest, opts);
    set_changed(selector);
    pthread_mutex_unlock(&selector->lock);
    return err;
}

static int poll_modify(mio_selector *selector, int fd, mio_token token,
                       uint32_t interest, uint32_t opts)
{
    int err;

    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_modify(&selector->table, fd, token, interest, opts);
    set_changed(selector);
    pthread_mutex_unlock(&selector->lock);
    return err;
}

static int poll_remove(mio_selector *selector, int fd)
{
    int err;

    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_remove(&selector->table, fd);
    set_changed(selector);
    pthread_mutex_unlock(&selector->lock);
    return err;
}

/* A poll(2) that waits keeps the file open: without the wake, the peer would not
 * learn of the close until poll(2) returns. */
static void poll_closing(mio_selector *selector, int fd)
{
    pthread_mutex_lock(&selector->lock);
    if (mio_fd_table_get(&selector->table, fd) != NULL) {
        mio_fd_table_forget(&selector->table, fd);
        set_changed(selector);
    }
    pthread_mutex_unlock(&selector->lock);
}

/* Does not arm a spent oneshot again. */
static void poll_drained(mio_selector *selector, int fd, uint32_t ready)
{
    mio_fd_entry *entry;

    pthread_mutex_lock(&selector->lock);
    entry = mio_fd_table_get(&selector->table, fd);
    if (entry != NULL && !(entry->opts & MIO_ONESHOT)
        && (!entry->armed || (entry->silent & ready))) {
        entry->silent &= (uint8_t)~ready;
        entry->armed = true;
        set_changed(selector);
    }
    pthread_mutex_unlock(&selector->lock);
}

/* -- waiting --------------------------------------------------------------- */

static short to_poll(uint32_t interest)
{
    short mask = 0;

    if (interest & MIO_READABLE) mask |= POLLIN;
#ifdef POLLRDHUP
    if (interest & MIO_READABLE) mask |= POLLRDHUP;
#endif
    if (interest & MIO_WRITABLE) mask |= POLLOUT;
    if (interest & MIO_PRIORITY) mask |= POLLPRI;
    return mask;
}

static uint32_t from_poll(short mask)
{
    uint32_t ready = 0;

    if (mask & POLLIN) ready |= MIO_READABLE;
    if (mask & POLLOUT) ready |= MIO_WRITABLE;
    if (mask & POLLPRI) ready |= MIO_READABLE | MIO_PRIORITY;
#ifdef POLLRDHUP
    if (mask & POLLRDHUP) ready |= MIO_READABLE | MIO_READ_CLOSED;
#endif
    if (mask & POLLERR) ready |= MIO_ERROR;
    if (mask & POLLHUP) ready |= MIO_HUP;
    return ready;
}

static int grow(mio_selector *selector, size_t needed)
{
    struct pollfd *fds;
    size_t capacity = selector->capacity > 0 ? selector->capacity : 64;

    if (needed <= selector->capacity) return 0;
    while (capacity < needed) capacity *= 2;
    fds = realloc(selector->fds, capacity * sizeof *fds);
    if (fds == NULL) return -ENOMEM;
    selector->fds = fds;
    selector->capacity = capacity;
    return 0;
}

/* With the lock held. */
static int copy_table(mio_selector *selector)
{
    const mio_fd_table *table = &selector->table;
    const mio_fd_entry *entry;
    size_t count = 1;
    int fd, err;

    if (!selector->changed) return 0;
    for (fd = 0; fd < table->capacity; fd++) {
        entry = &table->entries[fd];
        count += entry->known && entry->armed;
    }
    err = grow(selector, count);
    if (err < 0) return err;

    selector->fds[0] = (struct pollfd){ .fd = selector->waker.read_fd, .events = POLLIN };
    selector->count = 1;
    for (fd = 0; fd < table->capacity; fd++) {
        entry = &table->entries[fd];
        if (!entry->known || !entry->armed) continue;
        selector->fds[selector->count++] = (struct pollfd){
            .fd = fd, .events = to_poll(entry->interest & ~(uint32_t)entry->silent),
        };
    }
    selector->serial = table->serial;
    selector->changed = false;
    return 0;
}

/* With the lock held. Writes *event and returns 1, or returns 0 if there is none. */
static int harvest(mio_selector *selector, const struct pollfd *found, mio_event *event)
{
    mio_fd_entry *entry = mio_fd_table_get(&selector->table, found->fd);
    uint32_t ready;

    if (entry == NULL || entry->serial > selector->serial) return 0;    /* changed meanwhile */
    if (found->revents & POLLNVAL) {
        mio_fd_table_forget(&selector->table, found->fd);
        selector->changed = true;
        return 0;
    }
    ready = from_poll(found->revents);
    event->token = entry->token;
    event->ready = ready;
    event->unused = 0;
    if (entry->opts & MIO_EDGE) {
        entry->silent |= (uint8_t)ready;
        if (ready & (MIO_ERROR | MIO_HUP)) entry->armed = false;
        selector->changed = true;
    }
    if (entry->opts & MIO_ONESHOT) {
        entry->armed = false;
        selector->changed = true;
    }
    return 1;
}

/* With the lock held. `found` is the number of descriptors that have events. */
static int harvest_all(mio_selector *selector, int found, mio_event *events, int capacity)
{
    const size_t others = selector->count - 1;
    size_t start = selector->next;
    size_t i, k;
    int count = 0;

    for (k = 0; k < others && found > 0 && count < capacity; k++) {
        i = 1 + (start + k) % others;
        if (selector->fds[i].revents == 0) continue;
        found--;
        count += harvest(selector, &selector->fds[i], &events[count]);
        selector->next = i % others;
    }
    return count;
}

/* wake() sets `woken` before it writes. When the write is seen here, `woken` is
 * therefore set, unless the previous wait has cleared it already. */
static bool take_woken(mio_selector *selector)
{
    mio_waker_drain(&selector->waker);
    return atomic_exchange(&selector->woken, false);
}

static int poll_wait(mio_selector *selector, mio_event *events, int capacity,
                     int64_t timeout_ns, bool *woken)
{
    int64_t deadline_ns = timeout_ns > 0 ? mio_clock_now() + timeout_ns : 0;
    int found, error;
    int result = 0;

    *woken = false;
    pthread_mutex_lock(&selector->lock);
    for (;;) {
        result = copy_table(selector);
        if (result < 0) break;
        selector->waiting = timeout_ns != 0;
        pthread_mutex_unlock(&selector->lock);
        found = poll(selector->fds, (nfds_t)selector->count, mio_millis(timeout_ns));
        error = errno;
        pthread_mutex_lock(&selector->lock);
        selector->waiting = false;

        if (found < 0) { result = -error; break; }
        if (found > 0 && selector->fds[0].revents != 0) {
            *woken = take_woken(selector);
            found--;
        }
        result = harvest_all(selector, found, events, capacity);
        if (result > 0 || *woken || timeout_ns == 0) break;
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - mio_clock_now();
            if (timeout_ns < 0) timeout_ns = 0;
            if (timeout_ns == 0 && !selector->changed) break;
        }
    }
    pthread_mutex_unlock(&selector->lock);
    return result;
}

static int poll_wake(mio_selector *selector)
{
    atomic_store(&selector->woken, true);
    return mio_waker_wake(&selector->waker);
}

const mio_selector_ops mio_selector_poll = {
    .name = "poll",
    .emulates_edges = true,
    .open = poll_open,
    .close = poll_close,
    .forked = poll_forked,
    .fd = poll_fd,
    .add = poll_add,
    .modify = poll_modify,
    .remove = poll_remove,
    .closing = poll_closing,
    .drained = poll_drained,
    .wait = poll_wait,
    .wake = poll_wake,
};
