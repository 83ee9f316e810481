/* Calls that fail: the core answers -errno, leaks nothing and works on.
 *
 * The executable is linked with --wrap (see CMakeLists.txt), so that the core's
 * calls come here first.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sources.h"

enum { A = 31 };

/* -- memory -------------------------------------------------------------------- */

/* The allocation that fails: 1 is the next one, 0 none. */
static long failing_allocation;

static bool allocation_fails(void)
{
    return failing_allocation > 0 && --failing_allocation == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(old, size);
}

/* Runs step until none of its allocations is left to fail; it answers -ENOMEM
 * for each that did. A step has few: more than LIMIT is a test that never ends. */
static void fail_each_allocation(int (*step)(void))
{
    enum { LIMIT = 200 };

    for (long nth = 1; nth < LIMIT; nth++) {
        int err;

        failing_allocation = nth;
        err = step();
        if (failing_allocation > 0) {
            failing_allocation = 0;
            CHECK_EQ(err, 0);
            CHECK(nth > 1);
            return;
        }
        CHECK_EQ(err, -ENOMEM);
    }
    test_fail(__FILE__, __LINE__, "it allocates without end");
}

static int make_a_poll(void)
{
    mio_poll *poll = NULL;
    int err = mio_poll_new(selector, &poll);

    if (err == 0) mio_poll_free(poll);
    else CHECK(poll == NULL);
    return err;
}

POLL_TEST(poll_without_memory_is_enomem_and_leaks_nothing) { fail_each_allocation(make_a_poll); }

static int make_a_registration(void)
{
    mio_registration *reg = NULL;
    int err = mio_registration_new(&reg);

    if (err == 0) mio_registration_unref(reg);
    return err;
}

TEST(registration_without_memory_is_enomem) { fail_each_allocation(make_a_registration); }

static mio_poll *step_poll;
static struct pair step_pairs[40];

static int register_many(void)
{
    int done = 0, err = 0;

    while (done < 40 && err == 0) {
        err = mio_poll_register(step_poll, step_pairs[done].left, A, MIO_READABLE, MIO_EDGE);
        if (err == 0) done++;
    }
    while (done > 0) {
        done--;
        CHECK_EQ(mio_poll_deregister(step_poll, step_pairs[done].left), 0);
    }
    return err;
}

POLL_TEST(register_without_memory_is_enomem_and_can_be_tried_again)
{
    for (int i = 0; i < 40; i++) step_pairs[i] = unix_pair();
    for (long nth = 1; nth < 20; nth++) {
        int err;

        step_poll = new_poll();
        failing_allocation = nth;
        err = register_many();
        CHECK(err == 0 || err == -ENOMEM);
        if (failing_allocation > 0) CHECK_EQ(err, 0);
        failing_allocation = 0;
        CHECK_EQ(register_many(), 0);
        mio_poll_free(step_poll);
    }
    for (int i = 0; i < 40; i++) close_pair(step_pairs[i]);
}

POLL_TEST(poll_without_memory_is_enomem_and_its_events_come_later)
{
    enum { N = 40 };
    struct pair pairs[N];

    for (int i = 0; i < N; i++) pairs[i] = unix_pair();
    for (long nth = 1; nth < 6; nth++) {
        mio_poll *poll = new_poll();
        mio_event events[N];
        int n, got = 0;

        for (int i = 0; i < N; i++)
            CHECK_EQ(mio_poll_register(poll, pairs[i].left, (mio_token)i, MIO_WRITABLE, MIO_EDGE),
                     0);
        failing_allocation = nth;
        n = poll_once(poll, events, N, PATIENCE);
        failing_allocation = 0;
        CHECK(n == -ENOMEM || n > 0);
        if (n > 0) got = n;
        while (got < N) {
            n = poll_once(poll, events, N, PATIENCE);
            CHECK(n > 0);
            got += n;
        }
        CHECK_EQ(got, N);
        mio_poll_free(poll);
    }
    for (int i = 0; i < N; i++) close_pair(pairs[i]);
}

TEST(slab_and_timers_without_memory_are_as_before)
{
    mio_slab slab;
    mio_timers timers;
    mio_timer timer = { .position = MIO_TIMER_IDLE };
    mio_token token, other;
    int value;

    mio_slab_init(&slab);
    mio_timers_init(&timers);
    failing_allocation = 1;
    CHECK_EQ(mio_slab_insert(&slab, &value, &token), -ENOMEM);
    failing_allocation = 1;
    CHECK_EQ(mio_timers_add(&timers, &timer, 1), -ENOMEM);
    CHECK(timer.position == MIO_TIMER_IDLE);
    CHECK_EQ(mio_slab_insert(&slab, &value, &token), 0);
    while (slab.used < slab.capacity) CHECK_EQ(mio_slab_insert(&slab, &value, &other), 0);
    failing_allocation = 1;
    CHECK_EQ(mio_slab_insert(&slab, &value, &other), -ENOMEM);
    CHECK(mio_slab_get(&slab, token) == &value);
    CHECK_EQ(mio_timers_add(&timers, &timer, 1), 0);
    mio_slab_free(&slab);
    mio_timers_free(&timers);
}

/* A smaller array is only a wish. */
TEST(timers_that_cannot_shrink_work_on)
{
    static mio_timer many[1000];
    mio_timers timers;

    mio_timers_init(&timers);
    for (int i = 0; i < 1000; i++) {
        many[i].position = MIO_TIMER_IDLE;
        CHECK_EQ(mio_timers_add(&timers, &many[i], i), 0);
    }
    for (int i = 0; i < 999; i++) {
        failing_allocation = 1;
        mio_timers_remove(&timers, &many[i]);
    }
    failing_allocation = 0;
    CHECK(mio_timers_first(&timers) == &many[999]);
    mio_timers_free(&timers);
}

/* -- descriptors ----------------------------------------------------------------- */

POLL_TEST(poll_without_descriptors_is_emfile_and_leaks_nothing)
{
    struct rlimit before, few;
    int highest = dup(STDOUT_FILENO);

    close(highest);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int room = 0; room < 4; room++) {
        mio_poll *poll = NULL;
        int err;

        few = before;
        few.rlim_cur = (rlim_t)(highest + room);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        err = mio_poll_new(selector, &poll);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        CHECK(room > 0 || err == -EMFILE);
        CHECK(err == 0 || err == -EMFILE);
        if (err == 0) mio_poll_free(poll);
        else CHECK(poll == NULL);
        CHECK_EQ(dup(STDOUT_FILENO), highest);
        close(highest);
    }
}

/* -- kernels that cut a wait short, or lack epoll_pwait2 ----------------------------- */

static int early_returns;       /* so many waits end at once, as if time were up */
static bool without_pwait2;
static int pwait2_calls;

static bool ends_early(void)
{
    return early_returns > 0 && early_returns-- > 0;
}

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, ...);
int __real_epoll_pwait2(int epfd, struct epoll_event *events, int capacity,
                        const struct timespec *timeout, const sigset_t *mask);
int __wrap_epoll_pwait2(int epfd, struct epoll_event *events, int capacity,
                        const struct timespec *timeout, const sigset_t *mask);
int __real_epoll_pwait(int epfd, struct epoll_event *events, int capacity, int timeout_ms,
                       const sigset_t *mask);
int __wrap_epoll_pwait(int epfd, struct epoll_event *events, int capacity, int timeout_ms,
                       const sigset_t *mask);
int __real_epoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms);
int __wrap_epoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms);
int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

static bool pwait2_is_missing(void)
{
    pwait2_calls++;
    if (!without_pwait2) return false;
    errno = ENOSYS;
    return true;
}

long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
#ifdef SYS_epoll_pwait2
    if (number == SYS_epoll_pwait2) {
        if (pwait2_is_missing()) return -1;
        if (ends_early()) return 0;
    }
#endif
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

int __wrap_epoll_pwait2(int epfd, struct epoll_event *events, int capacity,
                        const struct timespec *timeout, const sigset_t *mask)
{
    if (pwait2_is_missing()) return -1;
    return ends_early() ? 0 : __real_epoll_pwait2(epfd, events, capacity, timeout, mask);
}

int __wrap_epoll_pwait(int epfd, struct epoll_event *events, int capacity, int timeout_ms,
                       const sigset_t *mask)
{
    return ends_early() ? 0 : __real_epoll_pwait(epfd, events, capacity, timeout_ms, mask);
}

int __wrap_epoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms)
{
    return ends_early() ? 0 : __real_epoll_wait(epfd, events, capacity, timeout_ms);
}

int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask)
{
    return ends_early() ? 0 : __real_ppoll(fds, count, timeout, mask);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    return ends_early() ? 0 : __real_poll(fds, count, timeout_ms);
}

/* D12: a kernel that cannot count so far returns early; the core goes on. */
POLL_TEST(wait_longer_than_the_kernel_can_count_goes_on_to_its_end)
{
    static const int64_t timeouts_ns[] = { -1, INT64_MAX, 10000000 * SECOND };
    mio_poll *poll = new_poll();

    for (int i = 0; i < 3; i++) {
        struct pair pair = unix_pair();
        struct polling polling;

        early_returns = 5;
        CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
        start_polling(&polling, poll, timeouts_ns[i]);
        send_text(pair.right, "x");
        join_polling(&polling);
        CHECK_EQ(polling.result, 1);
        CHECK_EQ(early_returns, 0);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
        close_pair(pair);
    }
    mio_poll_free(poll);
}

POLL_TEST(kernel_without_epoll_pwait2_is_asked_once_and_timeouts_are_not_early)
{
    static const int64_t timeouts_ns[] = { 1, 200000, 999999, 1000001, 2500000 };
    mio_poll *poll = new_poll();
    mio_event event;

    without_pwait2 = true;
    pwait2_calls = 0;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 5; i++) {
            int64_t start = mio_clock_now();

            CHECK_EQ(mio_poll_poll(poll, &event, 1, timeouts_ns[i]), 0);
            CHECK(mio_clock_now() - start >= timeouts_ns[i]);
        }
    without_pwait2 = false;
    CHECK(pwait2_calls <= 1);
    mio_poll_free(poll);
}
