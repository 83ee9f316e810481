/* User-space readiness: registrations whose readiness the program sets. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "sources.h"

enum { A = 11, B = 12 };

static mio_registration *new_registration(void)
{
    mio_registration *reg = NULL;

    CHECK_EQ(mio_registration_new(&reg), 0);
    return reg;
}

static mio_registration *registered(mio_poll *poll, mio_token token, uint32_t interest,
                                    uint32_t opts)
{
    mio_registration *reg = new_registration();

    CHECK_EQ(mio_registration_update(reg, poll, token, interest, opts), 0);
    return reg;
}

static void set(mio_registration *reg, uint32_t ready)
{
    CHECK_EQ(mio_readiness_set(reg, ready), 0);
}

/* -- setting ----------------------------------------------------------------- */

POLL_TEST(set_readiness_is_reported_once)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    expect_silence(poll);
    set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(set_readiness_is_found_by_a_poll_that_does_not_wait)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);
    mio_event event;

    set(reg, MIO_READABLE);
    CHECK_EQ(mio_poll_poll(poll, &event, 1, 0), 1);
    CHECK_EQ(event.token, A);
    CHECK_EQ(event.ready, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(readiness_set_before_registration_is_reported_after_it)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = new_registration();

    set(reg, MIO_READABLE);
    expect_silence(poll);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(readiness_is_the_value_set_last_and_is_local)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = new_registration();

    CHECK_EQ(mio_readiness_get(reg), 0);
    set(reg, MIO_READABLE);
    CHECK_EQ(mio_readiness_get(reg), MIO_READABLE);
    set(reg, MIO_WRITABLE);
    CHECK_EQ(mio_readiness_get(reg), MIO_WRITABLE);
    CHECK_EQ(mio_registration_update(reg, poll, A, READ_WRITE, MIO_EDGE), 0);
    expect_event(poll, A, MIO_WRITABLE);
    CHECK_EQ(mio_readiness_get(reg), MIO_WRITABLE);
    CHECK_EQ(mio_registration_deregister(reg, poll), 0);
    CHECK_EQ(mio_readiness_get(reg), MIO_WRITABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(setting_replaces_and_does_not_add)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, READ_WRITE, MIO_EDGE);

    set(reg, MIO_READABLE);
    set(reg, MIO_WRITABLE);
    expect_event(poll, A, MIO_WRITABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

/* D1, D2: mio 0.6.21 lost error and hup, and let priority spill. */
POLL_TEST(all_seven_bits_are_carried)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READY_ALL, MIO_EDGE);

    for (uint32_t bit = 1; bit <= MIO_READY_ALL; bit <<= 1) {
        set(reg, bit);
        expect_event(poll, A, bit);
        CHECK_EQ(mio_readiness_get(reg), bit);
    }
    set(reg, MIO_READY_ALL);
    expect_event(poll, A, MIO_READY_ALL);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(no_bit_changes_the_interest)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READY_ALL & ~MIO_READABLE);
    expect_silence(poll);
    set(reg, MIO_READY_ALL);
    expect_event(poll, A, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(readiness_outside_the_interest_is_stored_for_a_later_one)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_WRITABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    expect_silence(poll);
    CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, B, MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(interest_does_not_ask_for_errors_unless_it_says_so)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, 0, MIO_LEVEL);

    set(reg, MIO_ERROR | MIO_HUP);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

/* -- edge, level, oneshot ---------------------------------------------------- */

POLL_TEST(edge_fires_for_every_call_also_with_the_same_value)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    for (int i = 0; i < 5; i++) {
        set(reg, MIO_READABLE);
        expect_event(poll, A, MIO_READABLE);
        expect_silence(poll);
    }
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(calls_between_two_polls_merge)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    for (int i = 0; i < 5; i++) set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(readiness_cleared_before_the_poll_raises_nothing)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    set(reg, 0);
    expect_silence(poll);
    set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(level_repeats_in_every_poll_until_cleared)
{
    static const uint32_t levels[] = { MIO_LEVEL, 0 };

    for (int i = 0; i < 2; i++) {
        mio_poll *poll = new_poll();
        mio_registration *reg = registered(poll, A, MIO_READABLE, levels[i]);

        set(reg, MIO_READABLE);
        for (int round = 0; round < 5; round++) expect_event(poll, A, MIO_READABLE);
        set(reg, 0);
        expect_silence(poll);
        set(reg, MIO_READABLE);
        expect_event(poll, A, MIO_READABLE);
        mio_registration_unref(reg);
        mio_poll_free(poll);
    }
}

POLL_TEST(level_source_ends_even_an_endless_poll)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_LEVEL);
    mio_event events[4];

    set(reg, MIO_READABLE);
    for (int i = 0; i < 100; i++) CHECK_EQ(mio_poll_poll(poll, events, 4, -1), 1);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(level_sources_are_told_once_a_poll_and_in_turn)
{
    enum { N = 7 };
    mio_poll *poll = new_poll();
    mio_registration *regs[N];
    mio_event events[32];
    int seen[N] = { 0 };

    for (int i = 0; i < N; i++) {
        regs[i] = registered(poll, (mio_token)i, MIO_READABLE, MIO_LEVEL);
        set(regs[i], MIO_READABLE);
    }
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(poll_once(poll, events, 32, PATIENCE), N);
        for (int i = 0; i < N; i++) CHECK_EQ(events[i].token, i);
    }
    for (int round = 0; round < N; round++) {
        int n = poll_once(poll, events, 3, PATIENCE);
        CHECK_EQ(n, 3);
        for (int i = 0; i < n; i++) seen[events[i].token]++;
    }
    for (int i = 0; i < N; i++) CHECK_EQ(seen[i], 3);
    for (int i = 0; i < N; i++) mio_registration_unref(regs[i]);
    mio_poll_free(poll);
}

/* D3: mio 0.6.21 disarms only with edge. */
POLL_TEST(oneshot_disarms_with_edge_level_and_alone)
{
    static const uint32_t opts[] = { MIO_EDGE | MIO_ONESHOT, MIO_LEVEL | MIO_ONESHOT,
                                     MIO_ONESHOT };

    for (int i = 0; i < 3; i++) {
        mio_poll *poll = new_poll();
        mio_registration *reg = registered(poll, A, MIO_READABLE, opts[i]);

        set(reg, MIO_READABLE);
        expect_event(poll, A, MIO_READABLE);
        expect_silence(poll);
        set(reg, MIO_READABLE);
        expect_silence(poll);
        for (int round = 0; round < 3; round++) {
            CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, opts[i]), 0);
            expect_event(poll, B, MIO_READABLE);
            expect_silence(poll);
        }
        set(reg, 0);
        CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, opts[i]), 0);
        expect_silence(poll);
        mio_registration_unref(reg);
        mio_poll_free(poll);
    }
}

POLL_TEST(oneshot_is_not_spent_by_a_poll_that_reports_nothing)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE | MIO_ONESHOT);

    set(reg, MIO_READABLE);
    set(reg, MIO_WRITABLE);
    expect_silence(poll);
    set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

/* -- registering ------------------------------------------------------------- */

POLL_TEST(every_update_of_a_ready_registration_fires_again)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    for (int i = 0; i < 5; i++) {
        expect_event(poll, A, MIO_READABLE);
        expect_silence(poll);
        CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    }
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(event_carries_the_newest_token)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, B, MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(deregistered_registration_is_silent_and_can_come_back)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_LEVEL);

    set(reg, MIO_READABLE);
    CHECK_EQ(mio_registration_deregister(reg, poll), 0);
    expect_silence(poll);
    set(reg, MIO_READABLE);
    expect_silence(poll);
    CHECK_EQ(mio_registration_deregister(reg, poll), 0);
    CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, MIO_EDGE), 0);
    expect_event(poll, B, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(registration_belongs_to_its_first_poll_for_ever)
{
    mio_poll *first = new_poll(), *second = new_poll();
    mio_registration *reg = registered(first, A, MIO_READABLE, MIO_EDGE);

    CHECK_EQ(mio_registration_update(reg, second, B, MIO_READABLE, MIO_EDGE), -MIO_EWRONGPOLL);
    CHECK_EQ(mio_registration_deregister(reg, second), -MIO_EWRONGPOLL);
    CHECK_EQ(mio_registration_deregister(reg, first), 0);
    CHECK_EQ(mio_registration_update(reg, second, B, MIO_READABLE, MIO_EDGE), -MIO_EWRONGPOLL);
    CHECK_EQ(mio_registration_update(reg, first, A, MIO_READABLE, MIO_EDGE), 0);
    set(reg, MIO_READABLE);
    expect_silence(second);
    expect_event(first, A, MIO_READABLE);
    mio_poll_free(first);
    CHECK_EQ(mio_registration_update(reg, second, B, MIO_READABLE, MIO_EDGE), -MIO_EWRONGPOLL);
    mio_registration_unref(reg);
    mio_poll_free(second);
}

/* A new poll often gets the memory of the one just freed. */
POLL_TEST(registration_of_a_freed_poll_is_refused_by_every_later_one)
{
    mio_poll *first = new_poll();
    mio_registration *reg = registered(first, A, MIO_READABLE, MIO_EDGE);

    mio_poll_free(first);
    for (int i = 0; i < 50; i++) {
        mio_poll *later = new_poll();

        CHECK_EQ(mio_registration_update(reg, later, B, MIO_READABLE, MIO_EDGE),
                 -MIO_EWRONGPOLL);
        CHECK_EQ(mio_registration_deregister(reg, later), -MIO_EWRONGPOLL);
        mio_poll_free(later);
    }
    mio_registration_unref(reg);
}

/* D11: mio 0.6.21 binds it. */
POLL_TEST(deregister_of_a_fresh_registration_succeeds_and_binds_nothing)
{
    mio_poll *first = new_poll(), *second = new_poll();
    mio_registration *reg = new_registration();

    CHECK_EQ(mio_registration_deregister(reg, first), 0);
    CHECK_EQ(mio_registration_update(reg, second, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_registration_deregister(reg, first), -MIO_EWRONGPOLL);
    set(reg, MIO_READABLE);
    expect_event(second, A, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(first);
    mio_poll_free(second);
}

/* D8 and D10: what is refused changes nothing, and binds nothing. */
POLL_TEST(refused_update_neither_changes_nor_binds)
{
    mio_poll *first = new_poll(), *second = new_poll();
    mio_registration *reg = new_registration();

    CHECK_EQ(mio_registration_update(reg, first, MIO_TOKEN_MAX, MIO_READABLE, MIO_EDGE),
             -MIO_ETOKEN);
    CHECK_EQ(mio_registration_update(reg, first, A, MIO_READABLE, MIO_EDGE | MIO_LEVEL), -EINVAL);
    CHECK_EQ(mio_registration_update(reg, first, A, MIO_READ_CLOSED, MIO_EDGE), -EINVAL);
    CHECK_EQ(mio_registration_update(reg, second, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_registration_update(reg, second, MIO_TOKEN_MAX, 0, MIO_EDGE), -MIO_ETOKEN);
    CHECK_EQ(mio_registration_update(reg, second, B, 0, MIO_EDGE | MIO_LEVEL), -EINVAL);
    set(reg, MIO_READABLE);
    expect_event(second, A, MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(first);
    mio_poll_free(second);
}

POLL_TEST(readiness_that_does_not_exist_is_refused)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READY_ALL, MIO_EDGE);

    CHECK_EQ(mio_readiness_set(reg, MIO_READ_CLOSED), -EINVAL);
    CHECK_EQ(mio_readiness_set(reg, 0x80000000u), -EINVAL);
    CHECK_EQ(mio_readiness_get(reg), 0);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

/* -- ends of life -------------------------------------------------------------- */

POLL_TEST(dropped_registration_is_silent_and_setting_it_still_succeeds)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    mio_registration_drop(reg);
    expect_silence(poll);
    set(reg, MIO_WRITABLE);
    CHECK_EQ(mio_readiness_get(reg), MIO_READABLE);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(dropped_level_registration_ends)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_LEVEL);

    set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    mio_registration_drop(reg);
    expect_silence(poll);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(registration_released_while_queued_leaks_nothing)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    set(reg, MIO_READABLE);
    mio_registration_drop(reg);
    mio_registration_unref(reg);
    expect_silence(poll);
    mio_poll_free(poll);
}

POLL_TEST(poll_freed_with_queued_registrations_leaks_nothing)
{
    mio_poll *poll = new_poll();
    mio_registration *dropped = registered(poll, A, MIO_READABLE, MIO_EDGE);
    mio_registration *kept = registered(poll, B, MIO_READABLE, MIO_LEVEL);

    set(dropped, MIO_READABLE);
    set(kept, MIO_READABLE);
    mio_registration_drop(dropped);
    mio_registration_unref(dropped);
    mio_poll_free(poll);
    set(kept, 0);
    set(kept, MIO_READABLE);
    CHECK_EQ(mio_readiness_get(kept), MIO_READABLE);
    mio_registration_drop(kept);
    set(kept, MIO_WRITABLE);
    mio_registration_unref(kept);
}

POLL_TEST(last_reference_decides_whoever_holds_it)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    mio_registration_ref(reg);
    mio_registration_unref(reg);
    set(reg, MIO_READABLE);
    expect_event(poll, A, MIO_READABLE);
    mio_registration_unref(reg);
    expect_silence(poll);
    mio_poll_free(poll);
}

POLL_TEST(registration_of_a_closed_poll_is_ebadf_and_setting_succeeds)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);

    mio_poll_close(poll);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), -EBADF);
    CHECK_EQ(mio_registration_deregister(reg, poll), -EBADF);
    set(reg, MIO_READABLE);
    CHECK_EQ(mio_readiness_get(reg), MIO_READABLE);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

/* -- order and room ---------------------------------------------------------------- */

POLL_TEST(user_events_come_first_in_first_out)
{
    enum { N = 50 };
    mio_poll *poll = new_poll();
    mio_registration *regs[N];
    mio_event events[N];

    for (int i = 0; i < N; i++) regs[i] = registered(poll, (mio_token)i, MIO_READABLE, MIO_EDGE);
    for (int i = N - 1; i >= 0; i--) set(regs[i], MIO_READABLE);
    CHECK_EQ(poll_once(poll, events, N, PATIENCE), N);
    for (int i = 0; i < N; i++) CHECK_EQ(events[i].token, N - 1 - i);
    for (int i = 0; i < N; i++) set(regs[i], MIO_READABLE);
    for (int i = 0; i < N; i += 10) {
        CHECK_EQ(poll_once(poll, events, 10, PATIENCE), 10);
        for (int j = 0; j < 10; j++) CHECK_EQ(events[j].token, i + j);
    }
    expect_silence(poll);
    for (int i = 0; i < N; i++) mio_registration_unref(regs[i]);
    mio_poll_free(poll);
}

POLL_TEST(system_events_come_before_user_events)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);
    struct pair pair = unix_pair();
    mio_event events[4];

    set(reg, MIO_READABLE);
    CHECK_EQ(mio_poll_register(poll, pair.left, B, MIO_WRITABLE, MIO_EDGE), 0);
    CHECK_EQ(poll_once(poll, events, 4, PATIENCE), 2);
    CHECK_EQ(events[0].token, B);
    CHECK_EQ(events[1].token, A);
    mio_registration_unref(reg);
    mio_poll_free(poll);
    close_pair(pair);
}

/* D9: with mio 0.6.21 they wait for ever. */
POLL_TEST(user_event_is_not_starved_by_system_events)
{
    mio_poll *poll = new_poll();
    mio_registration *reg = registered(poll, A, MIO_READABLE, MIO_EDGE);
    struct pair pairs[4];
    mio_event events[8];

    for (int i = 0; i < 4; i++) {
        pairs[i] = unix_pair();
        CHECK_EQ(mio_poll_register(poll, pairs[i].left, B, MIO_WRITABLE, MIO_LEVEL), 0);
        CHECK_EQ(mio_poll_register(poll, pairs[i].right, B, MIO_WRITABLE, MIO_LEVEL), 0);
    }
    for (int capacity = 2; capacity <= 8; capacity++) {
        set(reg, MIO_READABLE);
        CHECK_EQ(poll_once(poll, events, capacity, PATIENCE), capacity);
        CHECK_EQ(events[capacity - 1].token, A);
        CHECK_EQ(poll_once(poll, events, capacity, PATIENCE), capacity);
        CHECK_EQ(events[capacity - 1].token, B);
    }
    mio_registration_unref(reg);
    mio_poll_free(poll);
    for (int i = 0; i < 4; i++) close_pair(pairs[i]);
}

POLL_TEST(user_event_left_out_for_room_comes_later)
{
    mio_poll *poll = new_poll();
    mio_registration *regs[3];
    mio_event event;

    for (int i = 0; i < 3; i++) {
        regs[i] = registered(poll, (mio_token)i, MIO_READABLE, MIO_EDGE);
        set(regs[i], MIO_READABLE);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(poll_once(poll, &event, 1, PATIENCE), 1);
        CHECK_EQ(event.token, i);
    }
    expect_silence(poll);
    for (int i = 0; i < 3; i++) mio_registration_unref(regs[i]);
    mio_poll_free(poll);
}

/* -- a channel over a registration, as mio's own tests have it ------------------- */

struct channel {
    mio_registration *reg;
    int items;      /* one thread here: what counts is the readiness */
};

static void channel_send(struct channel *channel)
{
    if (channel->items++ == 0) set(channel->reg, MIO_READABLE);
}

static void channel_receive(struct channel *channel)
{
    if (channel->items == 1) set(channel->reg, 0);
    channel->items--;
}

POLL_TEST(edge_channel_tells_each_filling_once)
{
    mio_poll *poll = new_poll();
    struct channel channel = { registered(poll, A, MIO_READABLE, MIO_EDGE), 0 };

    for (int round = 0; round < 3; round++) {
        channel_send(&channel);
        expect_event(poll, A, MIO_READABLE);
        channel_send(&channel);
        expect_silence(poll);
        channel_receive(&channel);
        channel_receive(&channel);
        expect_silence(poll);
    }
    mio_registration_unref(channel.reg);
    mio_poll_free(poll);
}

POLL_TEST(oneshot_channel_fires_at_each_reregister_while_items_wait)
{
    mio_poll *poll = new_poll();
    struct channel channel = { registered(poll, A, MIO_READABLE, MIO_EDGE | MIO_ONESHOT), 0 };

    channel_send(&channel);
    expect_event(poll, A, MIO_READABLE);
    channel_send(&channel);
    expect_silence(poll);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(mio_registration_update(channel.reg, poll, A, MIO_READABLE,
                                         MIO_EDGE | MIO_ONESHOT), 0);
        expect_event(poll, A, MIO_READABLE);
    }
    channel_receive(&channel);
    channel_receive(&channel);
    CHECK_EQ(mio_registration_update(channel.reg, poll, A, MIO_READABLE, MIO_EDGE | MIO_ONESHOT),
             0);
    expect_silence(poll);
    mio_registration_unref(channel.reg);
    mio_poll_free(poll);
}

POLL_TEST(writable_interest_never_hears_of_a_readable_channel)
{
    mio_poll *poll = new_poll();
    struct channel channel = { registered(poll, A, MIO_WRITABLE, MIO_LEVEL), 0 };

    channel_send(&channel);
    expect_silence(poll);
    channel_receive(&channel);
    mio_registration_unref(channel.reg);
    mio_poll_free(poll);
}
