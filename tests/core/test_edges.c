/* Edge, level, oneshot: how often a condition is told, and what tells it again. */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sources.h"

enum { A = 1, B = 2 };

static const uint32_t ONESHOTS[] = { MIO_ONESHOT, MIO_LEVEL | MIO_ONESHOT,
                                     MIO_EDGE | MIO_ONESHOT };

/* A reported edge is over once the program met "would block". */
static size_t drain_fully(mio_poll *poll, int fd)
{
    size_t n = drain(fd);

    mio_poll_drained(poll, fd, MIO_READABLE);
    return n;
}

/* -- level ------------------------------------------------------------------- */

static void check_level(uint32_t opts)
{
    mio_poll *poll = new_poll();
    struct pair pair = tcp_pair();
    char half[1024];

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, opts), 0);
    for (int i = 0; i < 200; i++) send_text(pair.right, "0123456789");
    for (int i = 0; i < 3; i++) expect_event(poll, A, MIO_READABLE);
    CHECK(read(pair.left, half, sizeof half) > 0);
    for (int i = 0; i < 3; i++) expect_event(poll, A, MIO_READABLE);
    drain(pair.left);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(level_repeats_until_everything_is_read) { check_level(MIO_LEVEL); }
POLL_TEST(neither_edge_nor_level_means_level) { check_level(0); }

POLL_TEST(level_writable_ends_every_poll)
{
    mio_poll *poll = new_poll();
    struct pair pair = tcp_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), 0);
    for (int i = 0; i < 5; i++) expect_event(poll, A, MIO_WRITABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(level_listener_repeats_until_accept)
{
    mio_poll *poll = new_poll();
    int listener = tcp_listener(), client, accepted;

    CHECK_EQ(mio_poll_register(poll, listener, A, MIO_READABLE, MIO_LEVEL), 0);
    client = tcp_connect(listener);
    for (int i = 0; i < 3; i++) expect_event(poll, A, MIO_READABLE);
    accepted = accept(listener, NULL, NULL);
    CHECK(accepted >= 0);
    expect_silence(poll);
    mio_poll_free(poll);
    close(accepted);
    close(client);
    close(listener);
}

/* -- edge -------------------------------------------------------------------- */

POLL_TEST(edge_registered_when_already_ready_reports_once)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    send_text(pair.right, "x");
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(edge_is_silent_while_data_is_left_and_none_arrives)
{
    mio_poll *poll = new_poll();
    struct pair pair = tcp_pair();
    char half[1024];

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < 2; i++) CHECK_EQ(write(pair.right, half, sizeof half), 1024);
    expect_ready(poll, A, MIO_READABLE);
    CHECK_EQ(read(pair.left, half, sizeof half), 1024);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(wake_ups_before_a_poll_merge_into_one_event)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < 5; i++) send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

/* G2: no wake-up is lost after "would block". */
POLL_TEST(edge_comes_again_after_would_block)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < 20; i++) {
        send_text(pair.right, "x");
        expect_event(poll, A, MIO_READABLE);
        CHECK_EQ(drain_fully(poll, pair.left), 1);
        expect_silence(poll);
    }
    mio_poll_free(poll);
    close_pair(pair);
}

/* The data came between the last read and the notice that there was no more. */
POLL_TEST(edge_is_not_lost_when_data_comes_before_the_poll_hears_of_would_block)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    CHECK_EQ(drain(pair.left), 1);
    send_text(pair.right, "y");
    mio_poll_drained(poll, pair.left, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(edge_writable_comes_again_when_a_full_socket_is_emptied)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_WRITABLE);
    for (int i = 0; i < 3; i++) {
        size_t filled = fill(pair.left);

        mio_poll_drained(poll, pair.left, MIO_WRITABLE);
        expect_silence(poll);
        CHECK_EQ(drain(pair.right), filled);
        expect_ready(poll, A, MIO_WRITABLE);
    }
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(edge_hang_up_is_told_but_not_for_ever)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    mio_event events[4];

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    close(pair.right);
    expect_ready(poll, A, MIO_READABLE | MIO_READ_CLOSED);
    for (int i = 0; i < 10; i++) {
        int n = poll_once(poll, events, 4, SILENCE);

        if (n == 0) break;
        CHECK(i < 9);
    }
    expect_silence(poll);
    mio_poll_free(poll);
    close(pair.left);
}

/* -- emulated edges ---------------------------------------------------------- */

POLL_TEST(only_the_portable_selector_emulates_edges)
{
    mio_poll *poll = new_poll();

    CHECK_EQ(mio_poll_emulates_edges(poll) != 0, selector_is("poll"));
    mio_poll_free(poll);
}

POLL_TEST(each_direction_of_an_edge_is_drained_by_itself)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    uint32_t again;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_WRITABLE);
    expect_silence(poll);
    send_text(pair.right, "x");
    again = expect_ready(poll, A, MIO_READABLE);
    if (mio_poll_emulates_edges(poll)) CHECK_EQ(again, MIO_READABLE);
    expect_silence(poll);
    CHECK_EQ(drain_fully(poll, pair.left), 1);
    expect_silence(poll);
    send_text(pair.right, "y");
    again = expect_ready(poll, A, MIO_READABLE);
    if (mio_poll_emulates_edges(poll)) CHECK_EQ(again, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(emulated_edge_stays_silent_until_drained_and_is_then_told_again)
{
    mio_poll *poll = new_poll();
    struct pair pair;

    if (!mio_poll_emulates_edges(poll)) {
        mio_poll_free(poll);
        test_skip("edges are the kernel's own");
    }
    pair = unix_pair();
    CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_event(poll, A, READ_WRITE);
    send_text(pair.right, "y");
    expect_silence(poll);
    mio_poll_drained(poll, pair.left, MIO_WRITABLE);
    expect_event(poll, A, MIO_WRITABLE);
    mio_poll_drained(poll, pair.left, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_poll_drained(poll, pair.left, READ_WRITE);
    expect_event(poll, A, READ_WRITE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(draining_a_level_or_unknown_source_does_nothing)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    mio_poll_drained(poll, pair.left, READ_WRITE);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
    mio_poll_drained(poll, pair.left, READ_WRITE);
    expect_silence(poll);
    send_text(pair.right, "x");
    mio_poll_drained(poll, pair.left, READ_WRITE);
    expect_event(poll, A, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(draining_does_not_rearm_a_spent_oneshot)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE | MIO_ONESHOT), 0);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    mio_poll_drained(poll, pair.left, MIO_READABLE);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

/* -- oneshot ----------------------------------------------------------------- */

POLL_TEST(oneshot_reports_once_whatever_comes)
{
    for (size_t i = 0; i < 3; i++) {
        mio_poll *poll = new_poll();
        struct pair pair = unix_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, ONESHOTS[i]), 0);
        expect_ready(poll, A, MIO_WRITABLE);
        send_text(pair.right, "x");
        expect_silence(poll);
        drain(pair.left);
        send_text(pair.right, "x");
        expect_silence(poll);
        mio_poll_free(poll);
        close_pair(pair);
    }
}

POLL_TEST(spent_oneshot_hears_neither_error_nor_hang_up)
{
    for (size_t i = 0; i < 3; i++) {
        mio_poll *poll = new_poll();
        struct pair pair = tcp_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, ONESHOTS[i]), 0);
        expect_event(poll, A, MIO_WRITABLE);
        reset_by_close(pair.right);
        expect_silence(poll);
        CHECK_EQ(mio_poll_reregister(poll, pair.left, B, READ_WRITE, ONESHOTS[i]), 0);
        expect_ready(poll, B, READ_WRITE);
        expect_silence(poll);
        mio_poll_free(poll);
        close(pair.left);
    }
}

POLL_TEST(reregister_after_oneshot_reports_what_is_still_there_once)
{
    for (size_t i = 0; i < 3; i++) {
        mio_poll *poll = new_poll();
        struct pair pair = unix_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, ONESHOTS[i]), 0);
        send_text(pair.right, "x");
        expect_event(poll, A, MIO_READABLE);
        for (int chunk = 0; chunk < 3; chunk++) send_text(pair.right, "y");
        expect_silence(poll);
        for (int round = 0; round < 3; round++) {
            CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, ONESHOTS[i]), 0);
            CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, ONESHOTS[i]), 0);
            expect_event(poll, A, MIO_READABLE);
            expect_silence(poll);
        }
        drain(pair.left);
        CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, ONESHOTS[i]), 0);
        expect_silence(poll);
        send_text(pair.right, "z");
        expect_event(poll, A, MIO_READABLE);
        mio_poll_free(poll);
        close_pair(pair);
    }
}

POLL_TEST(register_on_a_spent_oneshot_is_eexist)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_EDGE | MIO_ONESHOT), 0);
    expect_event(poll, A, MIO_WRITABLE);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_EDGE | MIO_ONESHOT), -EEXIST);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(deregister_of_a_spent_oneshot_succeeds_once)
{
    for (size_t i = 0; i < 3; i++) {
        mio_poll *poll = new_poll();
        struct pair pair = unix_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, ONESHOTS[i]), 0);
        expect_event(poll, A, MIO_WRITABLE);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), -ENOENT);
        CHECK_EQ(mio_poll_register(poll, pair.left, B, MIO_WRITABLE, ONESHOTS[i]), 0);
        expect_event(poll, B, MIO_WRITABLE);
        mio_poll_free(poll);
        close_pair(pair);
    }
}

/* Silence must not be kept by looking again and again. */
POLL_TEST(sources_that_are_spent_or_told_cost_no_time_while_a_poll_waits)
{
    mio_poll *poll = new_poll();
    struct pair spent = unix_pair(), told = unix_pair(), hung_up = unix_pair();
    struct timespec before, after;
    mio_event events[4];
    int64_t wait_ns = 60 * MILLISECOND, used_ns;
    int n;

    send_text(spent.right, "x");
    CHECK_EQ(mio_poll_register(poll, spent.left, A, READ_WRITE, MIO_LEVEL | MIO_ONESHOT), 0);
    expect_event(poll, A, READ_WRITE);
    send_text(told.right, "x");
    CHECK_EQ(mio_poll_register(poll, told.left, A, READ_WRITE, MIO_EDGE), 0);
    expect_event(poll, A, READ_WRITE);
    CHECK_EQ(mio_poll_register(poll, hung_up.left, A, MIO_READABLE, MIO_EDGE), 0);
    close(hung_up.right);
    expect_ready(poll, A, MIO_READABLE | MIO_READ_CLOSED);
    do n = poll_once(poll, events, 4, SILENCE); while (n > 0);

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK_EQ(poll_once(poll, events, 4, wait_ns), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    used_ns = (after.tv_sec - before.tv_sec) * SECOND + after.tv_nsec - before.tv_nsec;
    CHECK(used_ns < wait_ns / 4);
    mio_poll_free(poll);
    close_pair(spent);
    close_pair(told);
    close(hung_up.left);
}

/* -- re-arming --------------------------------------------------------------- */

POLL_TEST(reregister_while_ready_fires_an_edge_again)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    send_text(pair.right, "x");
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < 5; i++) {
        expect_event(poll, A, MIO_READABLE);
        expect_silence(poll);
        CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    }
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(interest_changed_before_the_poll_cancels_the_pending_event)
{
    mio_poll *poll = new_poll();
    int listener = tcp_listener(), client;

    CHECK_EQ(mio_poll_register(poll, listener, A, MIO_READABLE, MIO_EDGE | MIO_ONESHOT), 0);
    client = tcp_connect(listener);
    CHECK_EQ(mio_poll_reregister(poll, listener, A, MIO_WRITABLE, MIO_EDGE | MIO_ONESHOT), 0);
    expect_silence(poll);
    mio_poll_free(poll);
    close(client);
    close(listener);
}

POLL_TEST(interest_given_later_shows_the_connection_that_waits)
{
    mio_poll *poll = new_poll();
    int listener = tcp_listener(), client;

    CHECK_EQ(mio_poll_register(poll, listener, A, 0, MIO_EDGE), 0);
    client = tcp_connect(listener);
    expect_silence(poll);
    CHECK_EQ(mio_poll_reregister(poll, listener, A, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_READABLE);
    mio_poll_free(poll);
    close(client);
    close(listener);
}

POLL_TEST(options_can_change_from_any_to_any)
{
    static const uint32_t opts[] = { MIO_EDGE, MIO_LEVEL, MIO_EDGE | MIO_ONESHOT,
                                     MIO_LEVEL | MIO_ONESHOT };
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    send_text(pair.right, "x");
    CHECK_EQ(mio_poll_register(poll, pair.left, A, 0, 0), 0);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++) {
            CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, opts[from]), 0);
            CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_READABLE, opts[to]), 0);
            expect_event(poll, B, MIO_READABLE);
            if (opts[to] == MIO_LEVEL) expect_event(poll, B, MIO_READABLE);
            else expect_silence(poll);
        }
    mio_poll_free(poll);
    close_pair(pair);
}
