/* Poll: registration, interest, options, capacity and time, on every selector. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sources.h"

enum { A = 7, B = 8 };

/* -- making and freeing -------------------------------------------------- */

TEST(default_selector_is_the_first_of_the_list)
{
    mio_poll *poll = NULL;

    CHECK(mio_selector_name(0) != NULL);
    CHECK_EQ(mio_poll_new(NULL, &poll), 0);
    CHECK_EQ(strcmp(mio_poll_selector(poll), mio_selector_name(0)), 0);
    mio_poll_free(poll);
}

TEST(list_of_selectors_ends_and_out_of_range_is_null)
{
    int n = 0;

    while (mio_selector_name(n) != NULL) n++;
    CHECK(n >= 1 && n < 10);
    CHECK(mio_selector_name(n + 1) == NULL);
    CHECK(mio_selector_name(INT_MAX) == NULL);
    CHECK(mio_selector_name(-1) == NULL);
}

TEST(unknown_selector_is_refused)
{
    mio_poll *poll;

    CHECK_EQ(mio_poll_new("magic", &poll), -EINVAL);
    CHECK_EQ(mio_poll_new("", &poll), -EINVAL);
}

TEST(freeing_no_poll_is_fine)
{
    mio_poll_free(NULL);
}

POLL_TEST(poll_knows_its_selector)
{
    mio_poll *poll = new_poll();

    CHECK_EQ(strcmp(mio_poll_selector(poll), selector), 0);
    mio_poll_free(poll);
}

/* The harness counts descriptors; 2000 would run out of them long before. */
POLL_TEST(freed_polls_leave_no_descriptor)
{
    for (int i = 0; i < 2000; i++) {
        mio_poll *poll = new_poll();
        mio_registration *reg;

        CHECK_EQ(mio_registration_new(&reg), 0);
        CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
        mio_poll_free(poll);
        mio_registration_unref(reg);
    }
}

/* -- time ------------------------------------------------------------------ */

POLL_TEST(empty_poll_times_out_quietly)
{
    mio_poll *poll = new_poll();
    mio_event event;

    CHECK_EQ(poll_once(poll, &event, 1, 2 * MILLISECOND), 0);
    mio_poll_free(poll);
}

POLL_TEST(timeout_is_never_early)
{
    static const int64_t timeouts_ns[] = { 1, 999, 50000, 200000, 999999, 1000000, 1000001,
                                           1500000, 3000000, 12345678 };
    mio_poll *poll = new_poll();

    for (int round = 0; round < 5; round++)
        for (size_t i = 0; i < sizeof timeouts_ns / sizeof *timeouts_ns; i++) {
            mio_event event;
            int64_t start = mio_clock_now();

            CHECK_EQ(mio_poll_poll(poll, &event, 1, timeouts_ns[i]), 0);
            CHECK(mio_clock_now() - start >= timeouts_ns[i]);
        }
    mio_poll_free(poll);
}

POLL_TEST(timeout_zero_returns_at_once)
{
    mio_poll *poll = new_poll();
    mio_event event;
    int64_t start = mio_clock_now();

    for (int i = 0; i < 1000; i++) CHECK_EQ(mio_poll_poll(poll, &event, 1, 0), 0);
    CHECK(mio_clock_now() - start < SECOND);
    mio_poll_free(poll);
}

POLL_TEST(huge_and_endless_timeouts_end_with_the_event)
{
    static const int64_t timeouts_ns[] = { -1, INT64_MAX, INT64_MAX - 1,
                                           INT64_C(0x7FFFFFFF) * MILLISECOND,
                                           INT64_C(0x80000000) * MILLISECOND,
                                           INT64_C(0xFFFFFFFF) * SECOND };
    mio_poll *poll = new_poll();

    for (size_t i = 0; i < sizeof timeouts_ns / sizeof *timeouts_ns; i++) {
        struct polling polling;
        struct pair pair = unix_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
        start_polling(&polling, poll, timeouts_ns[i]);
        send_text(pair.right, "x");
        join_polling(&polling);
        CHECK_EQ(polling.result, 1);
        CHECK_EQ(polling.events[0].token, A);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
        close_pair(pair);
    }
    mio_poll_free(poll);
}

POLL_TEST(negative_timeout_other_than_endless_is_refused)
{
    mio_poll *poll = new_poll();
    mio_event event;

    CHECK_EQ(mio_poll_poll(poll, &event, 1, -2), -EINVAL);
    CHECK_EQ(mio_poll_poll(poll, &event, 1, INT64_MIN), -EINVAL);
    mio_poll_free(poll);
}

/* -- capacity -------------------------------------------------------------- */

POLL_TEST(capacity_below_one_is_refused)
{
    mio_poll *poll = new_poll();
    mio_event event;

    CHECK_EQ(mio_poll_poll(poll, &event, 0, 0), -EINVAL);
    CHECK_EQ(mio_poll_poll(poll, &event, -1, -1), -EINVAL);
    CHECK_EQ(mio_poll_poll(poll, &event, INT_MIN, 0), -EINVAL);
    mio_poll_free(poll);
}

static void check_all_are_served(int capacity, uint32_t opts)
{
    enum { N = 40 };
    mio_poll *poll = new_poll();
    struct pair pairs[N];
    bool seen[N] = { false };
    int missing = N;

    for (int i = 0; i < N; i++) {
        pairs[i] = unix_pair();
        send_text(pairs[i].right, "x");
        CHECK_EQ(mio_poll_register(poll, pairs[i].left, (mio_token)i, MIO_READABLE, opts), 0);
    }
    for (int round = 0; round < N && missing > 0; round++) {
        mio_event events[N];
        int n = poll_once(poll, events, capacity, PATIENCE);

        CHECK(n >= 1 && n <= capacity);
        for (int i = 0; i < n; i++) {
            CHECK(events[i].token < N);
            if (!seen[events[i].token]) missing--;
            seen[events[i].token] = true;
        }
    }
    CHECK_EQ(missing, 0);
    if (opts & MIO_EDGE) expect_silence(poll);
    for (int i = 0; i < N; i++) close_pair(pairs[i]);
    mio_poll_free(poll);
}

POLL_TEST(events_beyond_capacity_come_in_later_polls) { check_all_are_served(7, MIO_EDGE); }
POLL_TEST(capacity_one_serves_every_edge) { check_all_are_served(1, MIO_EDGE); }
POLL_TEST(capacity_one_serves_every_level_source_in_turn) { check_all_are_served(1, MIO_LEVEL); }
POLL_TEST(capacity_seven_serves_every_level_source_in_turn) { check_all_are_served(7, MIO_LEVEL); }

POLL_TEST(large_capacity_takes_all_in_one_poll)
{
    enum { N = 300 };
    static mio_event events[N + 50];
    static struct pair pairs[N];
    mio_poll *poll = new_poll();

    for (int i = 0; i < N; i++) {
        pairs[i] = unix_pair();
        send_text(pairs[i].right, "x");
        CHECK_EQ(mio_poll_register(poll, pairs[i].left, (mio_token)i, MIO_READABLE, MIO_LEVEL), 0);
    }
    CHECK_EQ(poll_once(poll, events, N + 50, PATIENCE), N);
    for (int i = 0; i < N; i++) close_pair(pairs[i]);
    mio_poll_free(poll);
}

/* -- registration: errors ---------------------------------------------------- */

POLL_TEST(second_register_of_a_descriptor_is_eexist_and_keeps_the_first)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), -EEXIST);
    CHECK_EQ(mio_poll_register(poll, pair.left, B, READ_WRITE, MIO_LEVEL), -EEXIST);
    expect_silence(poll);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(unknown_descriptor_is_enoent)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, MIO_EDGE), -ENOENT);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), -ENOENT);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, MIO_EDGE), -ENOENT);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), -ENOENT);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(bad_descriptor_is_ebadf)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    const int bad[] = { -1, INT_MIN, INT_MAX, pair.left };

    close_pair(pair);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(mio_poll_register(poll, bad[i], A, MIO_READABLE, MIO_EDGE), -EBADF);
        CHECK_EQ(mio_poll_reregister(poll, bad[i], A, MIO_READABLE, MIO_EDGE), -EBADF);
        CHECK_EQ(mio_poll_deregister(poll, bad[i]), -EBADF);
        mio_poll_closing(poll, bad[i]);
        mio_poll_drained(poll, bad[i], READ_WRITE);
    }
    expect_silence(poll);
    mio_poll_free(poll);
}

POLL_TEST(what_is_always_ready_is_eperm)
{
    static const char *const paths[] = { "/dev/null", "/dev/zero", "/tmp", "/proc/self/exe" };
    mio_poll *poll = new_poll();

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);

        CHECK(fd >= 0);
        CHECK_EQ(mio_poll_register(poll, fd, A, MIO_READABLE, MIO_EDGE), -EPERM);
        CHECK_EQ(mio_poll_register(poll, fd, A, MIO_READABLE, MIO_LEVEL), -EPERM);
        CHECK_EQ(close(fd), 0);
    }
    expect_silence(poll);
    mio_poll_free(poll);
}

POLL_TEST(reserved_token_is_refused_before_the_descriptor_is_touched)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, MIO_TOKEN_MAX, MIO_READABLE, MIO_EDGE),
             -MIO_ETOKEN);
    CHECK_EQ(mio_poll_register(poll, -1, MIO_TOKEN_MAX, MIO_READABLE, MIO_EDGE), -MIO_ETOKEN);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), -ENOENT);
    CHECK_EQ(mio_poll_register(poll, pair.left, MIO_TOKEN_MAX - 1, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, MIO_TOKEN_MAX, 0, MIO_LEVEL), -MIO_ETOKEN);
    send_text(pair.right, "x");
    expect_event(poll, MIO_TOKEN_MAX - 1, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(token_zero_is_a_token)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, 0, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_event(poll, 0, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(edge_with_level_is_refused)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE | MIO_LEVEL), -EINVAL);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE,
                               MIO_EDGE | MIO_LEVEL | MIO_ONESHOT), -EINVAL);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, MIO_EDGE | MIO_LEVEL), -EINVAL);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(interest_that_does_not_exist_is_refused)
{
    static const uint32_t bad[] = { MIO_READ_CLOSED, MIO_READABLE | MIO_READ_CLOSED, 0x100,
                                    0x80000000u, UINT32_MAX };
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(mio_poll_register(poll, pair.left, A, bad[i], MIO_EDGE), -EINVAL);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(mio_poll_reregister(poll, pair.left, A, bad[i], MIO_EDGE), -EINVAL);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(poll_cannot_watch_itself)
{
    mio_poll *poll = new_poll();
    int fd = mio_poll_fd(poll);

    if (fd == -ENOTSUP) {
        mio_poll_free(poll);
        test_skip("there is no descriptor to watch");
    }
    CHECK(fd >= 0);
    CHECK_EQ(mio_poll_register(poll, fd, A, MIO_READABLE, MIO_LEVEL), -EINVAL);
    mio_poll_free(poll);
}

POLL_TEST(polls_in_a_ring_are_eloop)
{
    mio_poll *one = new_poll(), *two = new_poll();
    bool is_epoll = selector_is("epoll");

    if (is_epoll) {
        CHECK_EQ(mio_poll_register(one, mio_poll_fd(two), A, MIO_READABLE, MIO_LEVEL), 0);
        CHECK_EQ(mio_poll_register(two, mio_poll_fd(one), A, MIO_READABLE, MIO_LEVEL), -ELOOP);
    }
    mio_poll_free(one);
    mio_poll_free(two);
    if (!is_epoll) test_skip("only epoll looks for rings");
}

/* -- registration: meaning ---------------------------------------------------- */

POLL_TEST(only_the_interest_asked_for_is_reported)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
    expect_silence(poll);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), 0);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_WRITABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(readable_and_writable_come_together)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, READ_WRITE, MIO_LEVEL), 0);
    expect_event(poll, A, MIO_WRITABLE);
    send_text(pair.right, "x");
    expect_event(poll, A, READ_WRITE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(empty_interest_is_legal_and_silent)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, 0, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, 0, MIO_EDGE), -EEXIST);
    send_text(pair.right, "x");
    expect_silence(poll);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, B, MIO_READABLE);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, B, 0, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_silence(poll);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(empty_interest_still_hears_error_and_hang_up)
{
    mio_poll *poll;
    struct pair pair;

    if (selector_is("kqueue")) test_skip("kqueue has no filter for it");
    poll = new_poll();
    pair = tcp_pair();
    CHECK_EQ(mio_poll_register(poll, pair.left, A, 0, MIO_LEVEL), 0);
    expect_silence(poll);
    reset_by_close(pair.right);
    expect_event(poll, A, MIO_ERROR | MIO_HUP);
    mio_poll_free(poll);
    close(pair.left);
}

POLL_TEST(reregister_replaces_token_interest_and_options)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    send_text(pair.right, "x");
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_WRITABLE, MIO_EDGE | MIO_ONESHOT), 0);
    expect_event(poll, B, MIO_WRITABLE);
    expect_silence(poll);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
    expect_event(poll, A, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, B, MIO_READABLE);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(deregistered_source_is_silent_and_can_come_back)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    for (int round = 0; round < 3; round++) {
        CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_LEVEL), 0);
        send_text(pair.right, "x");
        expect_event(poll, A, MIO_READABLE);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
        expect_silence(poll);
    }
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(deregister_cancels_an_event_not_yet_polled)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    expect_silence(poll);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(descriptor_may_sit_in_several_polls)
{
    mio_poll *one = new_poll(), *two = new_poll();
    struct pair pair = unix_pair();

    CHECK_EQ(mio_poll_register(one, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(two, pair.left, B, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_event(one, A, MIO_READABLE);
    expect_event(two, B, MIO_READABLE);
    mio_poll_free(one);
    mio_poll_free(two);
    close_pair(pair);
}

POLL_TEST(same_token_on_two_sources_reports_both)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    mio_event events[4];

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), 0);
    CHECK_EQ(mio_poll_register(poll, pair.right, A, MIO_WRITABLE, MIO_LEVEL), 0);
    CHECK_EQ(poll_once(poll, events, 4, PATIENCE), 2);
    CHECK_EQ(events[0].token, A);
    CHECK_EQ(events[1].token, A);
    mio_poll_free(poll);
    close_pair(pair);
}

/* -- a descriptor's life -------------------------------------------------------- */

POLL_TEST(closed_descriptor_is_silent)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    int fd = pair.left;

    CHECK_EQ(mio_poll_register(poll, fd, A, READ_WRITE, MIO_LEVEL), 0);
    close_pair(pair);
    expect_silence(poll);
    CHECK_EQ(mio_poll_deregister(poll, fd), -EBADF);
    mio_poll_free(poll);
}

/* A selector that goes by numbers must see that the file is another one. */
POLL_TEST(descriptor_closed_without_notice_can_be_registered_under_its_old_number)
{
    mio_poll *poll = new_poll();
    struct pair old = unix_pair(), new;
    int number = old.left;

    CHECK_EQ(mio_poll_register(poll, number, A, READ_WRITE, MIO_LEVEL), 0);
    expect_event(poll, A, MIO_WRITABLE);
    close_pair(old);
    new = unix_pair();
    CHECK_EQ(new.left, number);
    CHECK_EQ(mio_poll_reregister(poll, number, B, READ_WRITE, MIO_LEVEL), -ENOENT);
    CHECK_EQ(mio_poll_deregister(poll, number), -ENOENT);
    CHECK_EQ(mio_poll_register(poll, number, B, MIO_READABLE, MIO_EDGE), 0);
    expect_silence(poll);
    send_text(new.right, "x");
    expect_event(poll, B, MIO_READABLE);
    mio_poll_free(poll);
    close_pair(new);
}

POLL_TEST(descriptor_closed_with_notice_can_be_registered_again)
{
    mio_poll *poll = new_poll();

    for (int round = 0; round < 50; round++) {
        struct pair pair = unix_pair();

        CHECK_EQ(mio_poll_register(poll, pair.left, (mio_token)round, READ_WRITE, MIO_EDGE), 0);
        expect_event(poll, (mio_token)round, MIO_WRITABLE);
        mio_poll_closing(poll, pair.left);
        close_pair(pair);
    }
    expect_silence(poll);
    mio_poll_free(poll);
}

/* epoll keeps reporting a closed descriptor while a duplicate lives, and cannot
 * be told to stop: the slab's token must find nothing then. */
POLL_TEST(token_of_a_closed_and_reused_descriptor_finds_nothing_in_the_slab)
{
    mio_poll *poll = new_poll();
    struct pair old = unix_pair(), new;
    int duplicate = dup(old.left), closed = old.left;
    char old_source, new_source;
    mio_token old_token, new_token;
    mio_slab slab;
    bool seen = false;

    mio_slab_init(&slab);
    CHECK_EQ(mio_slab_insert(&slab, &old_source, &old_token), 0);
    CHECK_EQ(mio_poll_register(poll, old.left, old_token, MIO_READABLE, MIO_LEVEL), 0);
    send_text(old.right, "x");
    expect_event(poll, old_token, MIO_READABLE);
    mio_poll_closing(poll, old.left);
    CHECK_EQ(close(old.left), 0);
    CHECK(mio_slab_remove(&slab, old_token) == &old_source);

    new = unix_pair();
    CHECK_EQ(new.left, closed);
    CHECK_EQ(mio_slab_insert(&slab, &new_source, &new_token), 0);
    CHECK_EQ((uint32_t)new_token, (uint32_t)old_token);
    CHECK_EQ(mio_poll_register(poll, new.left, new_token, MIO_READABLE, MIO_LEVEL), 0);
    send_text(new.right, "y");
    for (int round = 0; round < 10; round++) {
        mio_event events[4];
        int n = poll_once(poll, events, 4, PATIENCE);

        for (int i = 0; i < n; i++) {
            void *source = mio_slab_get(&slab, events[i].token);

            CHECK(source == NULL || source == &new_source);
            if (source != NULL) seen = true;
        }
    }
    CHECK(seen);
    mio_slab_free(&slab);
    mio_poll_free(poll);
    close(duplicate);
    close(old.right);
    close_pair(new);
}

POLL_TEST(duplicate_is_a_source_of_its_own)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    int duplicate = dup(pair.left);
    mio_event events[4];

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(poll, duplicate, B, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    CHECK_EQ(poll_once(poll, events, 4, PATIENCE), 2);
    CHECK_EQ(events[0].token + events[1].token, A + B);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    send_text(pair.right, "x");
    if (mio_poll_emulates_edges(poll)) mio_poll_drained(poll, duplicate, MIO_READABLE);
    expect_event(poll, B, MIO_READABLE);
    mio_poll_free(poll);
    close(duplicate);
    close_pair(pair);
}

/* -- nesting --------------------------------------------------------------------- */

POLL_TEST(poll_nested_in_another_is_readable_while_it_has_events)
{
    mio_poll *inner = new_poll(), *outer = NULL;
    mio_registration *reg;
    struct pair pair = unix_pair();
    int fd = mio_poll_fd(inner);

    CHECK(fd >= 0 || fd == -ENOTSUP);
    if (fd == -ENOTSUP) {
        mio_poll_free(inner);
        close_pair(pair);
        test_skip("there is no descriptor to nest");
    }
    CHECK_EQ(mio_poll_new("poll", &outer), 0);
    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_poll_register(outer, fd, B, MIO_READABLE, MIO_LEVEL), 0);
    CHECK_EQ(mio_poll_register(inner, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    expect_silence(outer);

    send_text(pair.right, "x");
    expect_event(outer, B, MIO_READABLE);
    expect_event(inner, A, MIO_READABLE);
    expect_silence(outer);

    /* A user event makes it readable too, also while nobody is inside. */
    CHECK_EQ(mio_registration_update(reg, inner, A, MIO_READABLE, MIO_EDGE), 0);
    expect_silence(outer);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    expect_event(outer, B, MIO_READABLE);
    expect_event(outer, B, MIO_READABLE);
    expect_event(inner, A, MIO_READABLE);
    expect_silence(outer);

    /* And stays so while a level one is ready. */
    CHECK_EQ(mio_registration_update(reg, inner, A, MIO_READABLE, MIO_LEVEL), 0);
    for (int round = 0; round < 3; round++) {
        expect_event(outer, B, MIO_READABLE);
        expect_event(inner, A, MIO_READABLE);
    }
    CHECK_EQ(mio_readiness_set(reg, 0), 0);
    expect_silence(inner);
    expect_silence(outer);

    mio_registration_unref(reg);
    mio_poll_free(outer);
    mio_poll_free(inner);
    close_pair(pair);
}

POLL_TEST(poll_nested_with_user_events_already_queued_is_readable)
{
    mio_poll *inner = new_poll(), *outer = NULL;
    mio_registration *reg;
    int fd;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, inner, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    fd = mio_poll_fd(inner);
    if (fd != -ENOTSUP) {
        CHECK_EQ(mio_poll_new("poll", &outer), 0);
        CHECK_EQ(mio_poll_register(outer, fd, B, MIO_READABLE, MIO_LEVEL), 0);
        expect_event(outer, B, MIO_READABLE);
        expect_event(inner, A, MIO_READABLE);
        expect_silence(outer);
        mio_poll_free(outer);
    }
    mio_registration_unref(reg);
    mio_poll_free(inner);
    if (fd == -ENOTSUP) test_skip("there is no descriptor to nest");
}
