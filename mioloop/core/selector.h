/* selector.h -- the functions that an operating system must provide for a mio_poll.
 *
 * One file per system, selector_<name>.c, defines its own struct mio_selector
 * and one const table of these functions; selector.c lists the tables. To port
 * the core is to add a file and a line.
 */
#ifndef MIO_SELECTOR_H
#define MIO_SELECTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "mio.h"

#if defined(__linux__)
#define MIO_HAVE_EPOLL 1
#endif

/* The kqueues that have EVFILT_USER and EV_RECEIPT in every release still in
 * use; other systems take poll(2). MIO_FORCE_KQUEUE is for the tests: they run
 * selector_kqueue.c on Linux, over a <sys/event.h> of their own. */
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__DragonFly__) \
    || defined(MIO_FORCE_KQUEUE)
#define MIO_HAVE_KQUEUE 1
#endif

/* A longer wait is made of several: kernels disagree on the longest timeout. */
#define MIO_LONGEST_WAIT_NS (INT64_C(1000) * 1000000000)

typedef struct mio_selector mio_selector;

/* Only one thread at a time calls wait(). Any thread may call the other functions,
 * also during a wait(), and they take effect at once. The caller has checked token,
 * interest and opts, but not fd. */
typedef struct {
    const char *name;
    bool emulates_edges;

    int (*open)(mio_selector **out);
    void (*close)(mio_selector *selector);
    /* In a forked child, before anything else: new locks; close() follows. */
    void (*forked)(mio_selector *selector);
    int (*fd)(const mio_selector *selector);            /* or -ENOTSUP */

    int (*add)(mio_selector *selector, int fd, mio_token token,
               uint32_t interest, uint32_t opts);
    int (*modify)(mio_selector *selector, int fd, mio_token token,
                  uint32_t interest, uint32_t opts);
    int (*remove)(mio_selector *selector, int fd);
    void (*closing)(mio_selector *selector, int fd);
    void (*drained)(mio_selector *selector, int fd, uint32_t ready);

    /* timeout_ns is -1, or 0 to MIO_LONGEST_WAIT_NS, and never cut short.
     * *woken is set to whether wake() was called. A wake is no event, but may take
     * the room of one. -EINTR if a signal came; no event is lost by that. */
    int (*wait)(mio_selector *selector, mio_event *events, int capacity,
                int64_t timeout_ns, bool *woken);
    int (*wake)(mio_selector *selector);                /* signal-safe */
} mio_selector_ops;

#ifdef MIO_HAVE_EPOLL
extern const mio_selector_ops mio_selector_epoll;
#endif
#ifdef MIO_HAVE_KQUEUE
extern const mio_selector_ops mio_selector_kqueue;
#endif
extern const mio_selector_ops mio_selector_poll;

/* NULL stands for the default; returns NULL if there is none of that name. */
const mio_selector_ops *mio_selector_find(const char *name);

/* For systems that count whole milliseconds. Rounds up: rounding a 200 us timer
 * down would spin on a zero timeout until the timer is due. */
static inline int mio_millis(int64_t timeout_ns)
{
    int64_t ms;

    if (timeout_ns < 0) return -1;
    ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

#endif
