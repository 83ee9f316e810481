/* Bursts: many sends or receives by one call are as many single ones, one after the other. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "burst.h"
#include "sources.h"

enum { MANY = MIO_BURST_MOST, ROOM = 4096 };

static struct pair pairs[MANY];
static mio_transfer transfers[MANY];
static char room[MANY][ROOM];

/* -- a system that refuses ------------------------------------------------------- */

static int refuses_setup;       /* the errno of io_uring_setup(2); 0: it does not refuse */
static int refuses_enter;
static long most_taken = -1;    /* so few does io_uring_enter(2) take; -1: all */
static int enters;

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
    if (number == SYS_io_uring_enter) {
        enters++;
        if (refuses_enter) { errno = refuses_enter; return -1; }
        if (most_taken >= 0 && arguments[1] > most_taken) arguments[1] = most_taken;
    }
#endif
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

/* Skips the test where there is no io_uring. */
static mio_burst *new_burst(void)
{
    mio_burst *burst;
    int err = mio_burst_new(&burst);

    refuses_enter = 0;
    most_taken = -1;
    if (err == 0) return burst;
    CHECK(err == -ENOSYS || err == -EPERM || err == -ENOMEM || err == -EACCES);
    test_skip("this system has no io_uring, or does not permit it");
}

static void open_pairs(int count)
{
    for (int i = 0; i < count; i++) pairs[i] = i % 2 ? unix_pair() : tcp_pair();
}

static void close_pairs(int count)
{
    for (int i = 0; i < count; i++) close_pair(pairs[i]);
}

static void offer(int i, int fd, size_t len)
{
    transfers[i] = (mio_transfer){ .buf = room[i], .len = len, .fd = fd, .result = 12345 };
}

/* Each sends its own number, and the peer has it. */
static void send_numbers(mio_burst *burst, int count, bool lives)
{
    char text[16];

    for (int i = 0; i < count; i++) {
        offer(i, pairs[i].left, (size_t)snprintf(room[i], ROOM, "number %d", i));
    }
    CHECK_EQ(mio_burst_send(burst, transfers, count), lives);
    for (int i = 0; i < count; i++) {
        CHECK_EQ(transfers[i].result, transfers[i].len);
        CHECK_EQ(recv(pairs[i].right, text, sizeof text, 0), transfers[i].result);
        CHECK(memcmp(text, room[i], transfers[i].len) == 0);
    }
}

/* -- promises --------------------------------------------------------------------- */

TEST(each_transfer_is_its_own_and_all_take_one_call)
{
    mio_burst *burst = new_burst();

    open_pairs(MANY);
    for (int round = 1; round <= 5; round++) {
        enters = 0;
        send_numbers(burst, MANY, true);
        CHECK_EQ(enters, 1);
        send_numbers(burst, round, true);
    }
    for (int i = 0; i < MANY; i++) {
        send_text(pairs[i].right, i % 3 ? "short" : "somewhat longer");
        memset(room[i], 0, ROOM);
        offer(i, pairs[i].left, ROOM);
    }
    CHECK(mio_burst_recv(burst, transfers, MANY));
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(transfers[i].result, i % 3 ? 5 : 15);
        CHECK(strcmp(room[i], i % 3 ? "short" : "somewhat longer") == 0);
    }
    close_pairs(MANY);
    mio_burst_free(burst);
}

TEST(results_are_those_of_single_calls)
{
    mio_burst *burst = new_burst();
    size_t filled;

    open_pairs(6);
    send_text(pairs[0].right, "x");
    shutdown(pairs[1].right, SHUT_WR);
    reset_by_close(pairs[2].right);
    for (int i = 0; i < 4; i++) offer(i, pairs[i].left, ROOM);
    offer(4, -1, ROOM);                         /* no descriptor */
    offer(5, pairs[5].left, ROOM);
    CHECK(mio_burst_recv(burst, transfers, 6));
    CHECK_EQ(transfers[0].result, 1);
    CHECK_EQ(transfers[1].result, 0);
    CHECK_EQ(transfers[2].result, -ECONNRESET);
    CHECK_EQ(transfers[3].result, -EAGAIN);
    CHECK_EQ(transfers[4].result, -EBADF);
    CHECK_EQ(transfers[5].result, -EAGAIN);

    filled = fill(pairs[0].left);
    close(pairs[3].right);
    for (int i = 0; i < 4; i++) offer(i, pairs[i].left, ROOM);
    CHECK(mio_burst_send(burst, transfers, 4));     /* and no SIGPIPE */
    CHECK(filled > 0);
    CHECK_EQ(transfers[0].result, -EAGAIN);
    CHECK_EQ(transfers[1].result, ROOM);
    CHECK_EQ(transfers[2].result, -EPIPE);
    CHECK_EQ(transfers[3].result, -EPIPE);

    pairs[2].right = pairs[3].right = -1;
    for (int i = 0; i < 6; i++) {
        close(pairs[i].left);
        if (pairs[i].right >= 0) close(pairs[i].right);
    }
    mio_burst_free(burst);
}

TEST(what_does_not_fit_is_sent_in_part)
{
    static char much[1 << 24];
    mio_burst *burst = new_burst();

    open_pairs(4);
    for (int i = 0; i < 4; i++) {
        offer(i, pairs[i].left, sizeof much);
        transfers[i].buf = much;
    }
    CHECK(mio_burst_send(burst, transfers, 4));
    for (int i = 0; i < 4; i++) {
        CHECK(transfers[i].result > 0 && transfers[i].result < (ssize_t)sizeof much);
        CHECK_EQ(drain(pairs[i].right), transfers[i].result);
    }
    close_pairs(4);
    mio_burst_free(burst);
}

TEST(what_the_system_does_not_take_is_sent_one_by_one)
{
    static const int passing[] = { EAGAIN, EBUSY, EINTR }, lasting[] = { EPERM, ENOSYS, ENXIO };
    mio_burst *burst = new_burst();

    open_pairs(MANY);
    for (most_taken = 0; most_taken < 20; most_taken += 3) send_numbers(burst, MANY, true);
    most_taken = -1;
    send_numbers(burst, MANY, true);
    for (int i = 0; i < 3; i++) {
        refuses_enter = passing[i];
        send_numbers(burst, MANY, true);
        refuses_enter = 0;
        send_numbers(burst, MANY, true);
    }
    for (int i = 0; i < 3; i++) {
        refuses_enter = lasting[i];
        send_numbers(burst, MANY, false);
    }
    refuses_enter = 0;
    close_pairs(MANY);
    mio_burst_free(burst);
}

TEST(system_that_refuses_says_why_and_nothing_is_leaked)
{
    static const int errors[] = { ENOSYS, EPERM, EMFILE, ENOMEM };
    mio_burst *burst = (mio_burst *)(void *)room;

    mio_burst_free(new_burst());
    for (int i = 0; i < 4; i++) {
        refuses_setup = errors[i];
        CHECK_EQ(mio_burst_new(&burst), -errors[i]);
        CHECK(burst == NULL);
    }
    refuses_setup = 0;
}
