/* kqueue, raised to the rules of epoll.
 *
 * A kqueue has no descriptors, only filters: one for reading and one for
 * writing, each with its own event and its own oneshot. The table makes one
 * registration of the two. A change deletes both filters and adds the wanted
 * ones, because adding a filter again would keep its old EV_CLEAR, and
 * because a new one fires if its condition is true already.
 *
 * Each filter carries the serial of the registration that added it, so that an
 * event fetched before a change is recognised afterwards and left out.
 */
#include "selector.h"

#ifdef MIO_HAVE_KQUEUE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>
#include <unistd.h>

#include "fd_table.h"
#include "monitor.h"

#define WAKER 0                 /* the waker's ident; EVFILT_USER shares none with descriptors */
#define CHANGES 4               /* at most, for one descriptor */

struct mio_selector {
    int kq;

    pthread_mutex_t lock;       /* for the table */
    mio_fd_table table;

    /* Only the poller uses these fields. */
    struct kevent *found;
    int capacity;
    uint64_t batch;
};

static void kqueue_close(mio_selector *selector)    /* NULL or half-built is fine */
{
    if (selector == NULL) return;
    if (selector->kq >= 0) {
        close(selector->kq);
        pthread_mutex_destroy(&selector->lock);
    }
    mio_fd_table_free(&selector->table);
    free(selector->found);
    free(selector);
}

/* A child inherits no kqueue, and the number may be another file's by now. The arrays
 * are not freed: a thread of the parent may have been in the middle of moving them. */
static void kqueue_forked(mio_selector *selector)
{
    selector->kq = -1;
    selector->found = NULL;
    selector->capacity = 0;
    if (mio_lock_forked(&selector->lock)) mio_fd_table_init(&selector->table);
}

static int kqueue_open(mio_selector **out)
{
    struct kevent waker;
    mio_selector *selector;
    int err = 0;

    selector = calloc(1, sizeof *selector);
    if (selector == NULL) { err = -ENOMEM; goto out; }
    selector->kq = -1;
    mio_fd_table_init(&selector->table);
    err = -pthread_mutex_init(&selector->lock, NULL);
    if (err < 0) goto out;
    selector->kq = kqueue();
    if (selector->kq < 0) {
        err = -errno;
        pthread_mutex_destroy(&selector->lock);
        goto out;
    }
    if (fcntl(selector->kq, F_SETFD, FD_CLOEXEC) < 0) { err = -errno; goto out; }
    EV_SET(&waker, WAKER, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    if (kevent(selector->kq, &waker, 1, NULL, 0, NULL) < 0) err = -errno;

out:
    if (err < 0) { kqueue_close(selector); selector = NULL; }
    *out = selector;
    return err;
}

static int kqueue_fd(const mio_selector *selector)
{
    return selector->kq;
}

/* -- filters --------------------------------------------------------------- */

/* ENOENT of a delete means that there was no filter to delete. EPIPE comes from
 * old macOS for the write end of a pipe without a reader, and the filter has been
 * added nevertheless. */
static int receipt_error(const struct kevent *change, const struct kevent *receipt)
{
    int error = receipt->flags & EV_ERROR ? (int)receipt->data : 0;

    if (error == ENOENT && change->flags & EV_DELETE) return 0;
    if (error == EPIPE && change->filter == EVFILT_WRITE) return 0;
    return -error;
}

/* EV_RECEIPT makes the kernel carry out all changes, and report on each. The
 * first real failure is the result. */
static int apply(const mio_selector *selector, const struct kevent *changes, int count)
{
    struct kevent receipts[CHANGES];
    int i, n, err;
    int result = 0;

    do n = kevent(selector->kq, changes, count, receipts, count, NULL);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    for (i = 0; i < n; i++) {
        err = receipt_error(&changes[i], &receipts[i]);
        if (result == 0) result = err;
    }
    return result;
}

static void *to_udata(uint64_t serial)
{
    return (void *)(uintptr_t)serial;
}

static int delete_filters(struct kevent *changes, int fd)
{
    EV_SET(&changes[0], fd, EVFILT_READ, EV_DELETE | EV_RECEIPT, 0, 0, NULL);
    EV_SET(&changes[1], fd, EVFILT_WRITE, EV_DELETE | EV_RECEIPT, 0, 0, NULL);
    return 2;
}

static int add_filters(struct kevent *changes, int fd, const mio_fd_entry *entry)
{
    unsigned short flags = EV_ADD | EV_RECEIPT;
    void *udata = to_udata(entry->serial);
    int count = 0;

    if (entry->opts & MIO_EDGE) flags |= EV_CLEAR;
    if (entry->opts & MIO_ONESHOT) flags |= EV_ONESHOT;
    if (entry->interest & MIO_READABLE) {
        EV_SET(&changes[count++], fd, EVFILT_READ, flags, 0, 0, udata);
    }
    if (entry->interest & MIO_WRITABLE) {
        EV_SET(&changes[count++], fd, EVFILT_WRITE, flags, 0, 0, udata);
    }
    return count;
}

/* With the lock held, after the table has changed. Leaves no filter if it fails. */
static int set_filters(mio_selector *selector, int fd)
{
    struct kevent changes[CHANGES];
    int count, err;

    count = delete_filters(changes, fd);
    count += add_filters(changes + count, fd, mio_fd_table_get(&selector->table, fd));
    err = apply(selector, changes, count);
    if (err < 0) {
        apply(selector, changes, delete_filters(changes, fd));  /* one may have been added */
        mio_fd_table_forget(&selector->table, fd);
    }
    return err;
}

static int kqueue_add(mio_selector *selector, int fd, mio_token token,
                      uint32_t interest, uint32_t opts)
{
    int err;

    if (fd == selector->kq) return -EINVAL;
    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_add(&selector->table, fd, token, interest, opts);
    if (err == 0) err = set_filters(selector, fd);
    pthread_mutex_unlock(&selector->lock);
    return err;
}

static int kqueue_modify(mio_selector *selector, int fd, mio_token token,
                         uint32_t interest, uint32_t opts)
{
    int err;

    if (fd == selector->kq) return -EINVAL;
    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_modify(&selector->table, fd, token, interest, opts);
    if (err == 0) err = set_filters(selector, fd);
    pthread_mutex_unlock(&selector->lock);
    return err;
}

/* The table tells whether fd was registered. The filters do not: whether one is left
 * depends on the interest and on oneshot. */
static int kqueue_remove(mio_selector *selector, int fd)
{
    struct kevent changes[CHANGES];
    int err;

    if (fd == selector->kq) return -EINVAL;
    pthread_mutex_lock(&selector->lock);
    err = mio_fd_table_remove(&selector->table, fd);
    if (err == 0) err = apply(selector, changes, delete_filters(changes, fd));
    pthread_mutex_unlock(&selector->lock);
    return err;
}

/* The kernel drops the filters with the descriptor. */
static void kqueue_closing(mio_selector *selector, int fd)
{
    pthread_mutex_lock(&selector->lock);
    mio_fd_table_forget(&selector->table, fd);
    pthread_mutex_unlock(&selector->lock);
}

static void kqueue_drained(mio_selector *selector, int fd, uint32_t ready)
{
    (void)selector;
    (void)fd;
    (void)ready;
}

/* -- waiting --------------------------------------------------------------- */

/* The end of one direction is no hang-up; the end of both is, as on Linux. */
static uint32_t from_kqueue(mio_fd_entry *entry, const struct kevent *found)
{
    bool ended = found->flags & EV_EOF;
    uint32_t ready = 0;

    if (found->filter == EVFILT_READ) ready |= MIO_READABLE;
    if (found->filter == EVFILT_WRITE) ready |= MIO_WRITABLE;
    if (ended) {
        entry->ended |= (uint8_t)ready;
        if (ready & MIO_READABLE) ready |= MIO_READ_CLOSED;
        if (found->fflags != 0) ready |= MIO_ERROR;     /* the socket's error */
        if (entry->ended == (MIO_READABLE | MIO_WRITABLE)) ready |= MIO_HUP;
    }
    if (found->flags & EV_ERROR) ready |= MIO_ERROR;
    return ready;
}

/* With the lock held. An event of a oneshot registration spends both directions; the
 * kernel deletes only the filter that fired. */
static void disarm(mio_selector *selector, int fd, mio_fd_entry *entry)
{
    struct kevent changes[CHANGES];

    entry->armed = false;
    if ((entry->interest & MIO_READABLE) && (entry->interest & MIO_WRITABLE)) {
        /* If this fails, a later event finds the entry disarmed and is left out. */
        apply(selector, changes, delete_filters(changes, fd));
    }
}

/* With the lock held. Merges into the event that this batch already has for
 * the descriptor, or writes events[count]; returns how many were written. */
static int harvest_fd(mio_selector *selector, const struct kevent *found,
                      mio_event *events, int count)
{
    int fd = (int)found->ident;
    mio_fd_entry *entry = mio_fd_table_get(&selector->table, fd);
    bool merge;

    if (entry == NULL || found->udata != to_udata(entry->serial)) return 0;
    merge = entry->batch == selector->batch;
    if (!entry->armed && !merge) return 0;
    if (!merge) {
        entry->batch = selector->batch;
        entry->position = count;
        events[count] = (mio_event){ .token = entry->token };
    }
    events[entry->position].ready |= from_kqueue(entry, found);
    if (entry->armed && (entry->opts & MIO_ONESHOT)) disarm(selector, fd, entry);
    return !merge;
}

static int harvest(mio_selector *selector, const struct kevent *found,
                   mio_event *events, int count, bool *woken)
{
    switch (found->filter) {
    case EVFILT_USER:
        *woken = true;
        return 0;
    case EVFILT_READ:
    case EVFILT_WRITE:
        return harvest_fd(selector, found, events, count);
#ifdef EVFILT_AIO
    case EVFILT_AIO:    /* the aio request itself asks for the event, and carries the token */
        events[count] = (mio_event){
            .token = (uintptr_t)found->udata, .ready = MIO_AIO,
        };
        return 1;
#endif
#ifdef EVFILT_LIO
    case EVFILT_LIO:
        events[count] = (mio_event){
            .token = (uintptr_t)found->udata, .ready = MIO_LIO,
        };
        return 1;
#endif
    default:
        return 0;
    }
}

static int grow(mio_selector *selector, int capacity)
{
    struct kevent *found;

    if (capacity <= selector->capacity) return 0;
    found = realloc(selector->found, (size_t)capacity * sizeof *found);
    if (found == NULL) return -ENOMEM;
    selector->found = found;
    selector->capacity = capacity;
    return 0;
}

/* Waits again if every event was out of date. */
static int kqueue_wait(mio_selector *selector, mio_event *events, int capacity,
                       int64_t timeout_ns, bool *woken)
{
    int64_t deadline_ns = timeout_ns > 0 ? mio_clock_now() + timeout_ns : 0;
    struct timespec timeout;
    int count = 0;
    int i, n, err;

    *woken = false;
    err = grow(selector, capacity);
    if (err < 0) return err;
    for (;;) {
        timeout.tv_sec = (time_t)(timeout_ns / 1000000000);
        timeout.tv_nsec = (long)(timeout_ns % 1000000000);
        n = kevent(selector->kq, NULL, 0, selector->found, capacity,
                   timeout_ns < 0 ? NULL : &timeout);
        if (n < 0) return -errno;

        pthread_mutex_lock(&selector->lock);
        selector->batch++;
        for (i = 0; i < n; i++) {
            count += harvest(selector, &selector->found[i], events, count, woken);
        }
        pthread_mutex_unlock(&selector->lock);
        if (count > 0 || *woken || timeout_ns == 0) return count;
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - mio_clock_now();
            if (timeout_ns <= 0) return 0;
        }
    }
}

static int kqueue_wake(mio_selector *selector)
{
    struct kevent trigger;

    EV_SET(&trigger, WAKER, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    return kevent(selector->kq, &trigger, 1, NULL, 0, NULL) < 0 ? -errno : 0;
}

const mio_selector_ops mio_selector_kqueue = {
    .name = "kqueue",
    .emulates_edges = false,
    .open = kqueue_open,
    .close = kqueue_close,
    .forked = kqueue_forked,
    .fd = kqueue_fd,
    .add = kqueue_add,
    .modify = kqueue_modify,
    .remove = kqueue_remove,
    .closing = kqueue_closing,
    .drained = kqueue_drained,
    .wait = kqueue_wait,
    .wake = kqueue_wake,
};

#endif
