/* Peeks: while the request has not completed, a poll would find nothing. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peek.h"
#include "sources.h"

static int refuses_setup;       /* the errno of io_uring_setup(2); 0: it does not refuse */

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
#ifdef SYS_io_uring_setup
    if (number == SYS_io_uring_setup && refuses_setup) { errno = refuses_setup; return -1; }
#endif
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

/* A poll and its peek. Skips the test where there is no io_uring or no epoll. */
static mio_peek *new_peek(mio_poll **poll)
{
    mio_peek *peek;
    int fd, err;

    CHECK_EQ(mio_poll_new(NULL, poll), 0);
    fd = mio_poll_fd(*poll);
    if (fd < 0) test_skip("this selector has no descriptor");
    err = mio_peek_new(fd, &peek);
    if (err == 0) return peek;
    CHECK(err == -ENOSYS || err == -EPERM || err == -ENOMEM || err == -EACCES);
    test_skip("this system has no io_uring, or does not permit it");
}

static int poll_now(mio_poll *poll)
{
    mio_event events[8];

    return mio_poll_poll(poll, events, 8, 0);
}

static void watch(mio_poll *poll, int fd, mio_token token, uint32_t opts)
{
    CHECK_EQ(mio_poll_register(poll, fd, token, MIO_READABLE, opts), 0);
}

TEST(send_of_this_thread_shows_when_it_returns)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct pair pairs[] = { unix_pair(), tcp_pair(), pipe_pair() };

    for (int i = 0; i < 3; i++) watch(poll, pairs[i].left, (mio_token)i, MIO_EDGE);
    for (int round = 0; round < 3000; round++) {
        struct pair pair = pairs[round % 3];

        CHECK(mio_peek_arm(peek));
        CHECK(mio_peek_is_quiet(peek));
        CHECK_EQ(poll_now(poll), 0);
        CHECK_EQ(write(pair.right, "x", 1), 1);
        CHECK(!mio_peek_is_quiet(peek));
        CHECK_EQ(poll_now(poll), 1);
        drain(pair.left);
    }
    for (int i = 0; i < 3; i++) close_pair(pairs[i]);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(close_of_the_peer_shows_when_it_returns)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct pair pair = tcp_pair();

    watch(poll, pair.left, 1, MIO_EDGE);
    CHECK(mio_peek_arm(peek));
    close(pair.right);
    CHECK(!mio_peek_is_quiet(peek));
    CHECK_EQ(poll_now(poll), 1);
    close(pair.left);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(registering_what_is_ready_shows)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct pair pair = unix_pair();

    send_text(pair.right, "x");
    CHECK(mio_peek_arm(peek));
    CHECK(mio_peek_is_quiet(peek));
    watch(poll, pair.left, 1, MIO_EDGE);
    CHECK(!mio_peek_is_quiet(peek));
    CHECK_EQ(poll_now(poll), 1);
    close_pair(pair);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(level_triggered_data_that_stays_shows_at_once)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct pair pair = unix_pair();

    watch(poll, pair.left, 1, MIO_LEVEL);
    send_text(pair.right, "x");
    for (int round = 0; round < 10; round++) {
        CHECK_EQ(poll_now(poll), 1);
        CHECK(mio_peek_arm(peek));
        CHECK(!mio_peek_is_quiet(peek));
    }
    drain(pair.left);
    poll_now(poll);
    CHECK(mio_peek_arm(peek));
    CHECK(mio_peek_is_quiet(peek));
    close_pair(pair);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(user_space_readiness_shows)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    mio_registration *registration;

    CHECK_EQ(mio_registration_new(&registration), 0);
    CHECK_EQ(mio_registration_update(registration, poll, 1, MIO_READABLE, MIO_EDGE), 0);
    CHECK(mio_peek_arm(peek));
    CHECK(mio_peek_is_quiet(peek));
    CHECK_EQ(mio_readiness_set(registration, MIO_READABLE), 0);
    CHECK(!mio_peek_is_quiet(peek));
    CHECK_EQ(poll_now(poll), 1);
    mio_registration_unref(registration);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

struct sending { struct pair pair; _Atomic int rounds; };

static void *send_often(void *argument)
{
    struct sending *sending = argument;

    for (int i = 0; i < 20000; i++) {
        if (write(sending->pair.right, "x", 1) != 1) usleep(50);
        else atomic_fetch_add(&sending->rounds, 1);
    }
    return NULL;
}

TEST(sends_of_another_thread_are_never_missed)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct sending sending = { .pair = unix_pair() };
    pthread_t thread;
    size_t received = 0;

    watch(poll, sending.pair.left, 1, MIO_EDGE);
    CHECK_EQ(pthread_create(&thread, NULL, send_often, &sending), 0);
    for (bool joined = false; !joined || received < (size_t)sending.rounds;) {
        CHECK(mio_peek_arm(peek));
        while (mio_peek_is_quiet(peek)) {}      /* a missed one would end here */
        poll_now(poll);
        received += drain(sending.pair.left);
        if (!joined && sending.rounds > 0 && received == (size_t)sending.rounds) {
            joined = pthread_join(thread, NULL) == 0;
        }
    }
    close_pair(sending.pair);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(forked_child_may_free_it_and_the_parent_goes_on)
{
    mio_poll *poll;
    mio_peek *peek = new_peek(&poll);
    struct pair pair = unix_pair();
    int status;
    pid_t child;

    watch(poll, pair.left, 1, MIO_EDGE);
    CHECK(mio_peek_arm(peek));
    child = fork();
    if (child == 0) {
        mio_peek_free(peek);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    send_text(pair.right, "x");
    CHECK(!mio_peek_is_quiet(peek));
    close_pair(pair);
    mio_peek_free(peek);
    mio_poll_free(poll);
}

TEST(system_that_refuses_is_an_error)
{
    mio_peek *peek;

    refuses_setup = EPERM;
    CHECK(mio_peek_new(0, &peek) < 0);
    CHECK(peek == NULL);
    refuses_setup = 0;
}
