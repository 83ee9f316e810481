/* A child that was forked while other threads were in the core: nothing there waits
 * for them, and nothing that the child does reaches its parent.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sources.h"

enum { A = 31, B = 32, CHILDREN = 100 };

static int status_of(pid_t child)
{
    int status = -1;

    CHECK(child > 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}

/* -- locks ------------------------------------------------------------------- */

struct busy {
    mio_poll *poll;
    mio_registration *reg;
    int fd;
    atomic_bool stop;
};

static void *change(void *arg)
{
    struct busy *busy = arg;

    while (!busy->stop) {
        mio_registration_update(busy->reg, busy->poll, A, MIO_READABLE, MIO_EDGE);
        mio_readiness_set(busy->reg, MIO_READABLE);
        mio_poll_register(busy->poll, busy->fd, B, MIO_READABLE, MIO_EDGE);
        mio_poll_deregister(busy->poll, busy->fd);
    }
    return NULL;
}

static void *take(void *arg)
{
    struct busy *busy = arg;
    mio_event events[4];

    while (!busy->stop) mio_poll_poll(busy->poll, events, 4, 100000);
    return NULL;
}

typedef void child_work(struct busy *busy);

static void fork_among_threads(child_work *work)
{
    struct pair pair = unix_pair();
    struct busy busy = { .poll = new_poll(), .fd = pair.left };
    pthread_t changer, taker;

    CHECK_EQ(mio_registration_new(&busy.reg), 0);
    CHECK_EQ(pthread_create(&changer, NULL, change, &busy), 0);
    CHECK_EQ(pthread_create(&taker, NULL, take, &busy), 0);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            work(&busy);
            _exit(0);
        }
        CHECK_EQ(status_of(child), 0);
    }
    busy.stop = true;
    pthread_join(changer, NULL);
    pthread_join(taker, NULL);
    mio_poll_free(busy.poll);
    mio_registration_unref(busy.reg);
    close_pair(pair);
}

static void forget(struct busy *busy)
{
    mio_poll_forked(busy->poll);
    mio_registration_forked(busy->reg);
    if (mio_readiness_set(busy->reg, MIO_READABLE) != 0) _exit(1);
    mio_registration_drop(busy->reg);
    mio_registration_unref(busy->reg);
    mio_poll_free(busy->poll);
}

POLL_TEST(forked_child_forgets_what_other_threads_were_using)
{
    fork_among_threads(forget);
}

static void forget_untold(struct busy *busy)
{
    mio_poll_free(busy->poll);
}

POLL_TEST(forked_child_frees_a_poll_without_being_told_of_the_fork)
{
    fork_among_threads(forget_untold);
}

static void outlive(struct busy *busy)
{
    mio_registration_forked(busy->reg);
    mio_poll_free(busy->poll);
    if (mio_readiness_set(busy->reg, MIO_WRITABLE) != 0) _exit(1);
    if (mio_readiness_get(busy->reg) != MIO_WRITABLE) _exit(2);
    mio_registration_unref(busy->reg);
}

POLL_TEST(forked_child_uses_a_registration_whose_poll_is_gone)
{
    fork_among_threads(outlive);
}

static void go_on(struct busy *busy)
{
    mio_event events[4];
    int n;

    mio_poll_forked(busy->poll);
    mio_registration_forked(busy->reg);
    if (mio_poll_renew(busy->poll) != 0) _exit(1);
    if (mio_registration_update(busy->reg, busy->poll, A, MIO_READABLE, MIO_EDGE) != 0) _exit(2);
    if (mio_readiness_set(busy->reg, MIO_READABLE) != 0) _exit(3);
    n = poll_once(busy->poll, events, 4, PATIENCE);
    if (n != 1 || events[0].token != A) _exit(4);
    if (mio_poll_poll(busy->poll, events, 4, 0) != 0) _exit(5);
    mio_poll_free(busy->poll);
}

POLL_TEST(forked_child_renews_a_poll_and_is_told_of_readiness_once)
{
    fork_among_threads(go_on);
}

/* -- renewal ------------------------------------------------------------------- */

POLL_TEST(renewed_poll_of_a_child_is_apart_from_its_parent_s)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    mio_event event;
    int64_t start;
    pid_t child;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
    child = fork();
    if (child == 0) {
        alarm(10);
        if (mio_poll_renew(poll) != 0) _exit(1);
        if (write(pair.right, "x", 1) != 1) _exit(2);
        if (mio_poll_poll(poll, &event, 1, 0) != 0) _exit(3);       /* registered nowhere */
        if (mio_poll_register(poll, pair.left, B, MIO_READABLE, MIO_LEVEL) != 0) _exit(4);
        if (poll_once(poll, &event, 1, PATIENCE) != 1 || event.token != B) _exit(5);
        if (mio_poll_deregister(poll, pair.left) != 0) _exit(6);
        if (mio_poll_wake(poll) != 0) _exit(7);
        if (mio_poll_poll(poll, &event, 1, PATIENCE) != 0) _exit(8);
        mio_poll_free(poll);
        _exit(0);
    }
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(poll_once(poll, &event, 1, PATIENCE), 1);
    CHECK_EQ(event.token, A);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    start = mio_clock_now();
    CHECK_EQ(mio_poll_poll(poll, &event, 1, SILENCE), 0);           /* the child woke its own */
    CHECK(mio_clock_now() - start >= SILENCE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(readiness_set_before_the_fork_is_told_to_parent_and_child)
{
    mio_poll *poll = new_poll();
    mio_registration *reg;
    mio_event event;
    pid_t child;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    child = fork();
    if (child == 0) {
        alarm(10);
        mio_poll_forked(poll);
        mio_registration_forked(reg);
        if (mio_poll_renew(poll) != 0) _exit(1);
        if (poll_once(poll, &event, 1, PATIENCE) != 1 || event.token != A) _exit(2);
        _exit(0);
    }
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(poll_once(poll, &event, 1, PATIENCE), 1);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(closed_poll_is_not_renewed)
{
    mio_poll *poll = new_poll();

    mio_poll_close(poll);
    CHECK_EQ(mio_poll_renew(poll), -EBADF);
    mio_poll_free(poll);
}
