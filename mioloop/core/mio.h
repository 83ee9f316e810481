/* mio.h -- everything that the rest of mioloop may know about the core.
 *
 * A mio_poll watches file descriptors and user-space registrations and reports
 * which are ready, with mio 0.6 semantics: the caller picks a token per source
 * and every event carries that token back.
 *
 * Results  0 or a count on success, a negative number on failure: -errno, or
 *          one of the two MIO_E... codes below. errno itself is unspecified.
 * Time     int64_t nanoseconds, CLOCK_MONOTONIC; a timeout of -1 never expires.
 * Threads  every mio_poll_*, mio_registration_* and mio_readiness_* function may
 *          be called from any thread, also while another thread polls. One
 *          thread polls at a time; other threads that want to poll queue.
 *          Slabs and timers belong to one thread.
 * Memory   the caller owns its arguments; the core keeps no pointer to them,
 *          except to timers while they are scheduled.
 * Globals  none that can be written: the core may be linked into several
 *          modules, and a pointer made by one copy is valid in every other copy.
 */
#ifndef MIO_H
#define MIO_H

#include <stddef.h>
#include <stdint.h>

/* cdef-begin: the cffi binding reads these lines, so they stay plain C. */

typedef struct mio_poll mio_poll;
typedef struct mio_registration mio_registration;
typedef uint64_t mio_token;

/* Reserved for the core's own waker: a program may hold it, but not register it. */
#define MIO_TOKEN_MAX 0xFFFFFFFFFFFFFFFFULL

/* Readiness, as mio 0.6 numbers it. READ_CLOSED is an addition (mio 0.7's
 * is_read_closed): it is reported beside READABLE when the peer will send
 * nothing more. It cannot be asked for, and is not part of a mio Ready. */
#define MIO_READABLE    0x01
#define MIO_WRITABLE    0x02
#define MIO_ERROR       0x04
#define MIO_HUP         0x08
#define MIO_AIO         0x10
#define MIO_LIO         0x20
#define MIO_PRIORITY    0x40
#define MIO_READY_ALL   0x7F
#define MIO_READ_CLOSED 0x80

/* Poll options. Neither EDGE nor LEVEL means level; both together are refused
 * with -EINVAL, because the selectors disagree on the meaning of the pair. */
#define MIO_EDGE    0x01
#define MIO_LEVEL   0x02
#define MIO_ONESHOT 0x04

/* The two failures that have no errno. */
#define MIO_ETOKEN     10001    /* the token is MIO_TOKEN_MAX */
#define MIO_EWRONGPOLL 10002    /* bound to another mio_poll for life */

typedef struct {
    mio_token token;    /* as given when it was registered */
    uint32_t ready;     /* set of MIO_READABLE ... MIO_READ_CLOSED */
    uint32_t unused;
} mio_event;

/* -- poll: waiting for readiness ----------------------------------------- */

/* The name of the i-th selector of this build; the default is the first. NULL
 * past the last one. */
const char *mio_selector_name(int i);

/* selector: one of these names, or NULL for the default.
 * -EINVAL for an unknown name; else the error of the system (-EMFILE ...). */
int mio_poll_new(const char *selector, mio_poll **out);

/* Closes the poll and frees it. Registrations bound to it live on and report
 * nothing more. No other thread may be using the poll. NULL is fine. */
void mio_poll_free(mio_poll *poll);

/* Wakes the threads inside mio_poll_poll(), waits until they have left, and
 * closes the descriptors. From the call on every function returns -EBADF. */
void mio_poll_close(mio_poll *poll);

const char *mio_poll_selector(const mio_poll *poll);

/* The selector's descriptor, for nesting in another selector; from this call on
 * a user-space event makes it readable too. -ENOTSUP where there is none. */
int mio_poll_fd(mio_poll *poll);

/* -EEXIST, -ENOENT, -EBADF, -EPERM (a regular file), -EINVAL, -ELOOP as
 * epoll_ctl(2) gives them, on every selector; -MIO_ETOKEN. */
int mio_poll_register(mio_poll *poll, int fd, mio_token token,
                      uint32_t interest, uint32_t opts);
int mio_poll_reregister(mio_poll *poll, int fd, mio_token token,
                        uint32_t interest, uint32_t opts);
int mio_poll_deregister(mio_poll *poll, int fd);

/* To be called before a registered fd is closed without mio_poll_deregister().
 * Does nothing where the kernel forgets a closed descriptor by itself. */
void mio_poll_closing(mio_poll *poll, int fd);

/* Nonzero if edges are emulated (poll(2)): a reported bit is then not reported
 * again until mio_poll_drained() or mio_poll_reregister(). */
int mio_poll_emulates_edges(const mio_poll *poll);

/* To be called when an operation on fd would have blocked, with its direction in
 * `ready`: an emulated edge is reported again from then on. */
void mio_poll_drained(mio_poll *poll, int fd, uint32_t ready);

/* Wait until a source is ready, and fill events[0..capacity). Waits for the whole
 * of timeout_ns if there is no event. Returns the number of events: 0 if the time
 * passed or the poll was woken. -EINTR if a signal came first (the caller retries
 * with the rest of its time), but not while the call queues behind another poller;
 * -EINVAL if capacity < 1 or timeout_ns < -1. System events come first, then user
 * events; while user events wait they get at least one slot, if capacity > 1.
 * With timeout_ns 0 the call never blocks, not even for other pollers. */
int mio_poll_poll(mio_poll *poll, mio_event *events, int capacity,
                  int64_t timeout_ns);

/* Ends a mio_poll_poll() that blocks now, else the next one; safe in a signal
 * handler. Several calls before that poll returns count as one. */
int mio_poll_wake(mio_poll *poll);

/* -- user-space readiness ------------------------------------------------ */

/* A registration and its readiness share one node, which starts with one
 * reference; the node is freed by the last mio_registration_unref(). */
int mio_registration_new(mio_registration **out);
void mio_registration_ref(mio_registration *reg);
void mio_registration_unref(mio_registration *reg);

/* Register and reregister are one operation. The first one binds the node to
 * the poll for ever; another poll gets -MIO_EWRONGPOLL. -EINVAL once the
 * registration was dropped. */
int mio_registration_update(mio_registration *reg, mio_poll *poll,
                            mio_token token, uint32_t interest, uint32_t opts);
int mio_registration_deregister(mio_registration *reg, mio_poll *poll);

/* Ends the registration for good: no event is reported any more. The caller
 * keeps its reference. */
void mio_registration_drop(mio_registration *reg);

/* Replaces the readiness (no OR), and wakes the poll if there is an event for it.
 * Never waits for a poll that blocks. -EINVAL for bits outside READY_ALL. */
int mio_readiness_set(mio_registration *reg, uint32_t ready);
uint32_t mio_readiness_get(mio_registration *reg);

/* -- in a forked child ---------------------------------------------------
 *
 * The child inherits the state of the locks, but not the threads that hold them.
 * Its only thread calls these functions right after the fork, for each poll
 * and for each registration that it inherited. They make new locks. A step that
 * a thread of the parent had half done counts as not begun, or is repeated.
 * An inherited poll may then be closed, freed or renewed.
 */
void mio_poll_forked(mio_poll *poll);
void mio_registration_forked(mio_registration *reg);

/* Give the child a selector of its own in place of the one that it shares with
 * its parent. No descriptor is registered with it; registrations made by
 * mio_registration_update() are. Not while other threads use the poll. */
int mio_poll_renew(mio_poll *poll);

int64_t mio_clock_now(void);

/* cdef-end */

/* Lets the C library keep some free memory at the top of the heap (heap.c). */
void mio_keep_heap(void);

/* A descriptor for mio_thread_delay_ns(), or -1 where the system has no such count. */
int mio_thread_delay_open(void);

/* The time in which the thread that opened fd was ready to run, but had to wait for a
 * processor, since the thread began. 0 if fd cannot be read. */
int64_t mio_thread_delay_ns(int fd);

/* -- slab: tokens to pointers --------------------------------------------
 *
 * A token is an index (low 32 bits) and a generation (high 32 bits): after
 * remove(), the token finds NULL for ever, also when its slot is used again.
 * Such a token does arrive. epoll(7), "Questions and answers" 6: the kernel
 * reports a closed descriptor as long as a duplicate is open, and the
 * descriptor can then no longer be deregistered.
 */
typedef struct {
    void *value;            /* NULL if free */
    uint32_t generation;
    uint32_t next_free;
} mio_slab_entry;

typedef struct {
    mio_slab_entry *entries;
    uint32_t capacity;
    uint32_t count;         /* entries in use */
    uint32_t used;          /* entries ever used: the rest is uninitialized */
    uint32_t first_free;
} mio_slab;

void mio_slab_init(mio_slab *slab);
void mio_slab_free(mio_slab *slab);         /* the values are the caller's */
/* -EINVAL for a NULL value, -ENOMEM. */
int mio_slab_insert(mio_slab *slab, void *value, mio_token *out);
void *mio_slab_remove(mio_slab *slab, mio_token token);   /* NULL if stale */

static inline void *mio_slab_get(const mio_slab *slab, mio_token token)
{
    uint32_t index = (uint32_t)token;

    if (index >= slab->used) return NULL;
    if (slab->entries[index].generation != (uint32_t)(token >> 32)) return NULL;
    return slab->entries[index].value;
}

/* -- timers ----------------------------------------------------------------
 *
 * A heap on (deadline_ns, sequence): equal deadlines come out in the order in
 * which they went in. A mio_timer lives inside its owner's own struct.
 */
#define MIO_TIMER_IDLE SIZE_MAX

typedef struct {
    int64_t deadline_ns;
    uint64_t sequence;
    size_t position;        /* in the heap; MIO_TIMER_IDLE if not scheduled */
    void *owner;
} mio_timer;

typedef struct {
    int64_t deadline_ns;    /* copies, so that sifting stays in one array */
    uint64_t sequence;
    mio_timer *timer;
} mio_timer_entry;

typedef struct {
    mio_timer_entry *heap;
    size_t count;
    size_t capacity;
    uint64_t next_sequence;
} mio_timers;

void mio_timers_init(mio_timers *timers);
void mio_timers_free(mio_timers *timers);   /* every timer becomes idle */
/* A timer that is scheduled already gets the new deadline, and comes after every
 * timer of an equal deadline. -ENOMEM. */
int mio_timers_add(mio_timers *timers, mio_timer *timer, int64_t deadline_ns);
void mio_timers_remove(mio_timers *timers, mio_timer *timer);   /* idle: no-op */

/* How many timers are due at now_ns. Takes time for the due timers only. */
size_t mio_timers_count_due(const mio_timers *timers, int64_t now_ns);
/* Removes all timers that are due at now_ns, n > 0 as mio_timers_count_due() has found. *out has
 * them in the order in which they are due; the caller frees it. For many timers this is faster
 * than to remove the first one n times. -ENOMEM: no timer was removed. */
int mio_timers_take_due(mio_timers *timers, int64_t now_ns, size_t n, mio_timer_entry **out);

/* The timer with the earliest deadline, which stays scheduled; NULL if there is none. */
static inline mio_timer *mio_timers_first(const mio_timers *timers)
{
    return timers->count == 0 ? NULL : timers->heap[0].timer;
}

#endif
