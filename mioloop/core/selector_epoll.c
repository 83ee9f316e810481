#include "selector.h"

#ifdef MIO_HAVE_EPOLL

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "waker.h"

/* The C library's headers may be older than the kernel and lack the number. Calls
 * added since Linux 5.1 have one number on all architectures that count from 0. */
#if !defined(SYS_epoll_pwait2) && defined(__LP64__) \
    && (defined(__x86_64__) || defined(__aarch64__))
#define SYS_epoll_pwait2 441
#endif

struct mio_selector {
    int epfd;
    mio_waker waker;
    bool lacks_pwait2;      /* known only after the first try */
};

/* The kernel's timespec, which is 64 bits wide also where time_t has 32. */
typedef struct {
    int64_t tv_sec;
    long long tv_nsec;
} kernel_timespec;

static void epoll_close(mio_selector *selector)     /* NULL or half-built is fine */
{
    if (selector == NULL) return;
    if (selector->waker.read_fd >= 0) mio_waker_close(&selector->waker);
    if (selector->epfd >= 0) close(selector->epfd);
    free(selector);
}

/* The waker is an eventfd under EPOLLET, and is never drained: every write to it
 * makes a new edge, so that a wake costs one system call, not two. */
static int epoll_open(mio_selector **out)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = MIO_TOKEN_MAX };
    mio_selector *selector;
    int err = 0;

    selector = calloc(1, sizeof *selector);
    if (selector == NULL) { err = -ENOMEM; goto out; }
    selector->waker.read_fd = -1;
    selector->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (selector->epfd < 0) { err = -errno; goto out; }
    err = mio_waker_open(&selector->waker);
    if (err < 0) goto out;
    if (epoll_ctl(selector->epfd, EPOLL_CTL_ADD, selector->waker.read_fd, &event) < 0) {
        err = -errno;
    }

out:
    if (err < 0) { epoll_close(selector); selector = NULL; }
    *out = selector;
    return err;
}

/* There is no lock to renew, and a close in the child changes nothing in the parent. */
static void epoll_forked(mio_selector *selector)
{
    (void)selector;
}

static int epoll_fd(const mio_selector *selector)
{
    return selector->epfd;
}

/* -- interest -------------------------------------------------------------- */

static uint32_t to_epoll(uint32_t interest, uint32_t opts)
{
    uint32_t mask = 0;

    if (interest & MIO_READABLE) mask |= EPOLLIN | EPOLLRDHUP;
    if (interest & MIO_WRITABLE) mask |= EPOLLOUT;
    if (interest & MIO_PRIORITY) mask |= EPOLLPRI;
    if (opts & MIO_EDGE) mask |= EPOLLET;
    if (opts & MIO_ONESHOT) mask |= EPOLLONESHOT;
    return mask;
}

static int epoll_add(mio_selector *selector, int fd, mio_token token,
                     uint32_t interest, uint32_t opts)
{
    struct epoll_event event = { .events = to_epoll(interest, opts), .data.u64 = token };

    return epoll_ctl(selector->epfd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int epoll_modify(mio_selector *selector, int fd, mio_token token,
                        uint32_t interest, uint32_t opts)
{
    struct epoll_event event = { .events = to_epoll(interest, opts), .data.u64 = token };

    return epoll_ctl(selector->epfd, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

static int epoll_remove(mio_selector *selector, int fd)
{
    return epoll_ctl(selector->epfd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

/* The kernel forgets a file with its last descriptor. */
static void epoll_closing(mio_selector *selector, int fd)
{
    (void)selector;
    (void)fd;
}

static void epoll_drained(mio_selector *selector, int fd, uint32_t ready)
{
    (void)selector;
    (void)fd;
    (void)ready;
}

/* -- waiting --------------------------------------------------------------- */

/* RDHUP is no hang-up: the peer sends no more, but may still receive.
 * PRI counts as readable, as in mio, though the read may block. */
static uint32_t from_epoll(uint32_t mask)
{
    uint32_t ready = 0;

    if (mask == EPOLLIN) return MIO_READABLE;       /* most events are this one */
    if (mask & EPOLLIN) ready |= MIO_READABLE;
    if (mask & EPOLLOUT) ready |= MIO_WRITABLE;
    if (mask & EPOLLPRI) ready |= MIO_READABLE | MIO_PRIORITY;
    if (mask & EPOLLRDHUP) ready |= MIO_READABLE | MIO_READ_CLOSED;
    if (mask & EPOLLERR) ready |= MIO_ERROR;
    if (mask & EPOLLHUP) ready |= MIO_HUP;
    return ready;
}

/* Whole milliseconds use epoll_wait(), which every kernel has. epoll_pwait2() came
 * with Linux 5.11, and some sandboxes fail with EPERM for an unknown call. */
static int wait_kernel(mio_selector *selector, struct epoll_event *events, int capacity,
                       int64_t timeout_ns)
{
    int n;

#ifdef SYS_epoll_pwait2
    if (timeout_ns > 0 && timeout_ns % 1000000 != 0 && !selector->lacks_pwait2) {
        kernel_timespec timeout = { timeout_ns / 1000000000, timeout_ns % 1000000000 };

        n = (int)syscall(SYS_epoll_pwait2, selector->epfd, events, capacity, &timeout, NULL, 0);
        if (n >= 0) return n;
        if (errno != ENOSYS && errno != EPERM) return -errno;
        selector->lacks_pwait2 = true;
    }
#endif
    n = epoll_wait(selector->epfd, events, capacity, mio_millis(timeout_ns));
    return n < 0 ? -errno : n;
}

_Static_assert(sizeof(struct epoll_event) <= sizeof(mio_event),
               "the kernel's events are translated in place");

static int epoll_select(mio_selector *selector, mio_event *events, int capacity,
                        int64_t timeout_ns, bool *woken)
{
    const int most = INT_MAX / (int)sizeof(struct epoll_event);     /* the kernel's limit */
    struct epoll_event event;
    char *kernel_events;
    int count = 0;
    int i, n;

    /* The kernel writes into the end of the caller's array. An epoll_event is never
     * longer than a mio_event, so the i-th epoll_event starts at or after the i-th
     * mio_event: translating upward overwrites only events that have been read. */
    if (capacity > most) capacity = most;
    kernel_events = (char *)(events + capacity) - (size_t)capacity * sizeof event;
    n = wait_kernel(selector, (struct epoll_event *)(void *)kernel_events, capacity, timeout_ns);
    *woken = false;
    for (i = 0; i < n; i++) {
        memcpy(&event, kernel_events + (size_t)i * sizeof event, sizeof event);
        if (event.data.u64 == MIO_TOKEN_MAX) {
            *woken = true;
            continue;
        }
        events[count].token = event.data.u64;
        events[count].ready = from_epoll(event.events);
        events[count].unused = 0;
        count++;
    }
    return n < 0 ? n : count;
}

static int epoll_wake(mio_selector *selector)
{
    return mio_waker_wake(&selector->waker);
}

const mio_selector_ops mio_selector_epoll = {
    .name = "epoll",
    .emulates_edges = false,
    .open = epoll_open,
    .close = epoll_close,
    .forked = epoll_forked,
    .fd = epoll_fd,
    .add = epoll_add,
    .modify = epoll_modify,
    .remove = epoll_remove,
    .closing = epoll_closing,
    .drained = epoll_drained,
    .wait = epoll_select,
    .wake = epoll_wake,
};

#endif
