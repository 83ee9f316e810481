/* Many threads at once on one poll, under TSan: nothing races, nothing is lost.
 *
 * Every count is exact where the semantics allow it: an edge that is set again
 * only after it was reported must be reported as often as it was set.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "sources.h"

enum { PRODUCERS = 4 };

static mio_poll *poll_;

static void start(pthread_t *threads, int n, void *(*body)(void *))
{
    for (intptr_t i = 0; i < n; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, body, (void *)i), 0);
}

static void join(pthread_t *threads, int n)
{
    for (int i = 0; i < n; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* -- every setting is reported, with several pollers ----------------------------- */

enum { NODES = 400, FIRINGS = 16 };

static mio_registration *nodes[NODES];
static atomic_int fired[NODES];
static atomic_int left_to_fire;
static uint32_t node_opts;

static void *fire_all_from(void *argument)
{
    for (intptr_t i = (intptr_t)argument; i < NODES; i += PRODUCERS)
        CHECK_EQ(mio_readiness_set(nodes[i], MIO_READABLE), 0);
    return NULL;
}

/* Sets again what it was told of, FIRINGS times for each node. */
static void *poll_and_fire_again(void *argument)
{
    mio_event events[8];

    (void)argument;
    while (atomic_load(&left_to_fire) > 0) {
        int n = mio_poll_poll(poll_, events, 8, -1);

        CHECK(n >= 0 || n == -EINTR);
        for (int i = 0; i < n; i++) {
            int node = (int)events[i].token;
            int times = atomic_fetch_add(&fired[node], 1) + 1;

            CHECK(times <= FIRINGS);
            if (node_opts & MIO_ONESHOT)
                CHECK_EQ(mio_registration_update(nodes[node], poll_, events[i].token,
                                                 times < FIRINGS ? MIO_READABLE : 0, node_opts),
                         0);
            else if (times < FIRINGS)
                CHECK_EQ(mio_readiness_set(nodes[node], MIO_READABLE), 0);
            atomic_fetch_sub(&left_to_fire, 1);
        }
    }
    CHECK_EQ(mio_poll_wake(poll_), 0);      /* the other pollers may wait still */
    return NULL;
}

static void check_every_setting_is_reported(int pollers, uint32_t opts)
{
    pthread_t producing[PRODUCERS], polling[4];

    poll_ = new_poll();
    node_opts = opts;
    left_to_fire = NODES * FIRINGS;
    for (int i = 0; i < NODES; i++) {
        fired[i] = 0;
        CHECK_EQ(mio_registration_new(&nodes[i]), 0);
        CHECK_EQ(mio_registration_update(nodes[i], poll_, (mio_token)i, MIO_READABLE, opts), 0);
    }
    start(polling, pollers, poll_and_fire_again);
    start(producing, PRODUCERS, fire_all_from);
    join(producing, PRODUCERS);
    join(polling, pollers);
    for (int i = 0; i < NODES; i++) {
        CHECK_EQ(fired[i], FIRINGS);
        mio_registration_unref(nodes[i]);
    }
    mio_poll_free(poll_);
}

POLL_TEST(one_poller_is_told_of_every_edge)
{
    check_every_setting_is_reported(1, MIO_EDGE);
}

POLL_TEST(four_pollers_are_told_of_every_edge_once)
{
    check_every_setting_is_reported(4, MIO_EDGE);
}

POLL_TEST(four_pollers_are_told_of_every_rearmed_oneshot_once)
{
    check_every_setting_is_reported(4, MIO_EDGE | MIO_ONESHOT);
}

/* -- everything at once ------------------------------------------------------------ */

enum { MIXED = 32, ROUNDS = 1500 };

static atomic_bool producing;

static void *meddle(void *argument)
{
    unsigned seed = (unsigned)(intptr_t)argument + 1;

    for (int round = 0; round < ROUNDS; round++) {
        int i = rand_r(&seed) % MIXED;
        uint32_t opts = (uint32_t[]){ MIO_EDGE, MIO_LEVEL, MIO_EDGE | MIO_ONESHOT,
                                      MIO_ONESHOT }[rand_r(&seed) % 4];

        switch (rand_r(&seed) % 6) {
        case 0:
        case 1: CHECK_EQ(mio_readiness_set(nodes[i], MIO_READABLE | MIO_HUP), 0); break;
        case 2: CHECK_EQ(mio_readiness_set(nodes[i], 0), 0); break;
        case 3:
            CHECK_EQ(mio_registration_update(nodes[i], poll_, (mio_token)i, MIO_READABLE, opts),
                     0);
            break;
        case 4: CHECK_EQ(mio_registration_deregister(nodes[i], poll_), 0); break;
        case 5: CHECK_EQ(mio_poll_wake(poll_), 0); break;
        }
        mio_readiness_get(nodes[i]);
    }
    return NULL;
}

static void *poll_while_producing(void *argument)
{
    mio_event events[4];

    (void)argument;
    while (atomic_load(&producing)) {
        int n = mio_poll_poll(poll_, events, 4, MILLISECOND);

        CHECK(n >= 0 || n == -EINTR);
        for (int i = 0; i < n; i++) {
            CHECK(events[i].token < MIXED);
            CHECK(events[i].ready == MIO_READABLE);
        }
    }
    return NULL;
}

static void check_meddling(int pollers)
{
    pthread_t meddling[PRODUCERS], polling[4];
    bool seen[MIXED] = { false };
    mio_event events[4];
    int missing = MIXED;

    poll_ = new_poll();
    producing = true;
    for (int i = 0; i < MIXED; i++) {
        CHECK_EQ(mio_registration_new(&nodes[i]), 0);
        CHECK_EQ(mio_registration_update(nodes[i], poll_, (mio_token)i, MIO_READABLE, MIO_EDGE),
                 0);
    }
    start(polling, pollers, poll_while_producing);
    start(meddling, PRODUCERS, meddle);
    join(meddling, PRODUCERS);
    atomic_store(&producing, false);
    join(polling, pollers);

    /* The queue came out of it sound: every node can still be heard. */
    for (int i = 0; i < MIXED; i++) {
        CHECK_EQ(mio_readiness_set(nodes[i], 0), 0);
        CHECK_EQ(mio_registration_update(nodes[i], poll_, (mio_token)i, MIO_READABLE, MIO_EDGE),
                 0);
    }
    expect_silence(poll_);
    for (int i = 0; i < MIXED; i++) CHECK_EQ(mio_readiness_set(nodes[i], MIO_READABLE), 0);
    while (missing > 0) {
        int n = poll_once(poll_, events, 4, PATIENCE);

        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            CHECK(!seen[events[i].token]);
            seen[events[i].token] = true;
            missing--;
        }
    }
    expect_silence(poll_);
    for (int i = 0; i < MIXED; i++) mio_registration_unref(nodes[i]);
    mio_poll_free(poll_);
}

POLL_TEST(set_register_deregister_and_wake_race_with_one_poller) { check_meddling(1); }
POLL_TEST(set_register_deregister_and_wake_race_with_four_pollers) { check_meddling(4); }

/* -- dropping in other threads ------------------------------------------------------- */

enum { LIVES = 1500 };

static void *set_and_drop(void *argument)
{
    (void)argument;
    for (int i = 0; i < LIVES; i++) {
        mio_registration *reg;
        mio_poll *poll = poll_;

        CHECK_EQ(mio_registration_new(&reg), 0);
        CHECK_EQ(mio_registration_update(reg, poll, (mio_token)(i % MIXED), MIO_READABLE,
                                         i % 2 ? MIO_EDGE : MIO_LEVEL), 0);
        CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
        mio_registration_drop(reg);
        CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
        mio_registration_unref(reg);
    }
    return NULL;
}

POLL_TEST(registrations_dropped_while_polled_are_freed_once)
{
    pthread_t dropping[PRODUCERS], polling[1];

    poll_ = new_poll();
    producing = true;
    start(polling, 1, poll_while_producing);
    start(dropping, PRODUCERS, set_and_drop);
    join(dropping, PRODUCERS);
    atomic_store(&producing, false);
    join(polling, 1);
    expect_silence(poll_);
    mio_poll_free(poll_);
}

/* One thread sets, another drops the same registration. */
static void *set_shared(void *argument)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(mio_readiness_set(argument, i % 3 ? MIO_READABLE : 0), 0);
    mio_registration_unref(argument);
    return NULL;
}

POLL_TEST(drop_races_with_setters_of_the_same_registration)
{
    pthread_t polling[1];

    poll_ = new_poll();
    producing = true;
    start(polling, 1, poll_while_producing);
    for (int round = 0; round < 50; round++) {
        pthread_t setting[PRODUCERS];
        mio_registration *reg;

        CHECK_EQ(mio_registration_new(&reg), 0);
        CHECK_EQ(mio_registration_update(reg, poll_, 1, MIO_READABLE, MIO_LEVEL), 0);
        for (int i = 0; i < PRODUCERS; i++) {
            mio_registration_ref(reg);
            CHECK_EQ(pthread_create(&setting[i], NULL, set_shared, reg), 0);
        }
        mio_registration_drop(reg);
        mio_registration_unref(reg);
        join(setting, PRODUCERS);
    }
    atomic_store(&producing, false);
    join(polling, 1);
    mio_poll_free(poll_);
}

/* -- no wake-up is lost --------------------------------------------------------------- */

enum { ITEMS = 2000 };

static atomic_int sent;
static mio_registration *doorbell;

static void *send_items(void *argument)
{
    (void)argument;
    for (int i = 0; i < ITEMS; i++) {
        atomic_fetch_add(&sent, 1);
        CHECK_EQ(mio_readiness_set(doorbell, MIO_READABLE), 0);
    }
    return NULL;
}

/* The poll has no timeout: a lost wake-up is a test that runs out of time. */
POLL_TEST(item_counted_before_the_doorbell_is_never_missed)
{
    pthread_t sending[PRODUCERS];
    int received = 0;

    poll_ = new_poll();
    sent = 0;
    CHECK_EQ(mio_registration_new(&doorbell), 0);
    CHECK_EQ(mio_registration_update(doorbell, poll_, 5, MIO_READABLE, MIO_EDGE), 0);
    start(sending, PRODUCERS, send_items);
    while (received < PRODUCERS * ITEMS) {
        mio_event event;
        int n = mio_poll_poll(poll_, &event, 1, -1);

        CHECK(n >= 0 || n == -EINTR);
        if (n == 1) received = atomic_load(&sent);
    }
    join(sending, PRODUCERS);
    mio_registration_unref(doorbell);
    mio_poll_free(poll_);
}

static atomic_int polls_ended, wakers_left;

static void *wake_and_await(void *argument)
{
    (void)argument;
    for (int i = 0; i < 500; i++) {
        int before = atomic_load(&polls_ended);

        CHECK_EQ(mio_poll_wake(poll_), 0);
        while (atomic_load(&polls_ended) == before) sched_yield();
    }
    atomic_fetch_sub(&wakers_left, 1);
    CHECK_EQ(mio_poll_wake(poll_), 0);
    return NULL;
}

POLL_TEST(every_wake_ends_a_poll)
{
    pthread_t waking[PRODUCERS];

    poll_ = new_poll();
    polls_ended = 0;
    wakers_left = PRODUCERS;
    start(waking, PRODUCERS, wake_and_await);
    while (atomic_load(&wakers_left) > 0) {
        mio_event event;
        int n = mio_poll_poll(poll_, &event, 1, -1);

        CHECK(n == 0 || n == -EINTR);
        atomic_fetch_add(&polls_ended, 1);
    }
    join(waking, PRODUCERS);
    mio_poll_free(poll_);
}

/* -- descriptors ---------------------------------------------------------------------- */

static struct pair pairs[PRODUCERS];

static void *change_descriptors(void *argument)
{
    int mine = (int)(intptr_t)argument;
    struct pair pair = pairs[mine];

    for (int i = 0; i < 500; i++) {
        uint32_t opts = (uint32_t[]){ MIO_EDGE, MIO_LEVEL, MIO_ONESHOT }[i % 3];

        CHECK_EQ(mio_poll_register(poll_, pair.left, (mio_token)mine, MIO_READABLE, opts), 0);
        CHECK_EQ(mio_poll_register(poll_, pair.left, (mio_token)mine, 0, opts), -EEXIST);
        CHECK_EQ(write(pair.right, "x", 1), 1);
        CHECK_EQ(mio_poll_reregister(poll_, pair.left, (mio_token)mine, MIO_READABLE, opts), 0);
        mio_poll_drained(poll_, pair.left, MIO_READABLE);
        CHECK_EQ(drain(pair.left), 1);
        CHECK_EQ(mio_poll_deregister(poll_, pair.left), 0);
        CHECK_EQ(mio_poll_deregister(poll_, pair.left), -ENOENT);
    }
    return NULL;
}

POLL_TEST(descriptors_come_and_go_while_polled)
{
    pthread_t changing[PRODUCERS], polling[2];

    poll_ = new_poll();
    producing = true;
    for (int i = 0; i < PRODUCERS; i++) pairs[i] = unix_pair();
    start(polling, 2, poll_while_producing);
    start(changing, PRODUCERS, change_descriptors);
    join(changing, PRODUCERS);
    atomic_store(&producing, false);
    join(polling, 2);
    expect_silence(poll_);
    for (int i = 0; i < PRODUCERS; i++) close_pair(pairs[i]);
    mio_poll_free(poll_);
}

/* The source is always ready for both: each registration asks for one. */
static void *alternate(void *argument)
{
    int mine = (int)(intptr_t)argument;

    for (int i = 0; i < 1500; i++) {
        uint32_t interest = i % 2 ? MIO_WRITABLE : MIO_READABLE;

        CHECK_EQ(mio_poll_reregister(poll_, pairs[mine].left, interest, interest,
                                     i % 3 ? MIO_LEVEL : MIO_EDGE), 0);
    }
    return NULL;
}

static void *check_tokens_while_producing(void *argument)
{
    mio_event events[4];

    (void)argument;
    while (atomic_load(&producing)) {
        int n = mio_poll_poll(poll_, events, 4, MILLISECOND);

        CHECK(n >= 0 || n == -EINTR);
        for (int i = 0; i < n; i++) CHECK_EQ(events[i].ready, events[i].token);
    }
    return NULL;
}

POLL_TEST(event_never_mixes_two_registrations_of_a_descriptor)
{
    pthread_t alternating[PRODUCERS], polling[1];

    poll_ = new_poll();
    producing = true;
    for (int i = 0; i < PRODUCERS; i++) {
        pairs[i] = unix_pair();
        send_text(pairs[i].right, "x");
        CHECK_EQ(mio_poll_register(poll_, pairs[i].left, MIO_WRITABLE, MIO_WRITABLE, MIO_LEVEL),
                 0);
    }
    start(polling, 1, check_tokens_while_producing);
    start(alternating, PRODUCERS, alternate);
    join(alternating, PRODUCERS);
    atomic_store(&producing, false);
    join(polling, 1);
    for (int i = 0; i < PRODUCERS; i++) close_pair(pairs[i]);
    mio_poll_free(poll_);
}

/* -- close ------------------------------------------------------------------------------ */

static void *use_until_closed(void *argument)
{
    int mine = (int)(intptr_t)argument;
    int err = 0;

    while (err != -EBADF) {
        CHECK_EQ(mio_readiness_set(nodes[mine], MIO_READABLE), 0);
        err = mio_registration_update(nodes[mine], poll_, (mio_token)mine, MIO_READABLE,
                                      MIO_EDGE);
        CHECK(err == 0 || err == -EBADF);
        err = mio_poll_register(poll_, pairs[mine].left, (mio_token)mine, MIO_READABLE, MIO_EDGE);
        CHECK(err == 0 || err == -EBADF);
        err = mio_poll_deregister(poll_, pairs[mine].left);
        CHECK(err == 0 || err == -EBADF);
        err = mio_poll_wake(poll_);
        CHECK(err == 0 || err == -EBADF);
    }
    return NULL;
}

static atomic_int polls_done;

static void *poll_until_closed(void *argument)
{
    mio_event events[4];
    int n;

    (void)argument;
    do {
        n = mio_poll_poll(poll_, events, 4, -1);
        atomic_fetch_add(&polls_done, 1);
        CHECK(n >= 0 || n == -EINTR || n == -EBADF);
    } while (n != -EBADF);
    return NULL;
}

POLL_TEST(close_races_with_every_other_call)
{
    for (int round = 0; round < 20; round++) {
        pthread_t using[PRODUCERS], polling[2];

        poll_ = new_poll();
        polls_done = 0;
        for (int i = 0; i < PRODUCERS; i++) {
            pairs[i] = unix_pair();
            CHECK_EQ(mio_registration_new(&nodes[i]), 0);
        }
        start(polling, 2, poll_until_closed);
        start(using, PRODUCERS, use_until_closed);
        while (atomic_load(&polls_done) < 20) sched_yield();
        mio_poll_close(poll_);
        join(using, PRODUCERS);
        join(polling, 2);
        mio_poll_free(poll_);
        for (int i = 0; i < PRODUCERS; i++) {
            CHECK_EQ(mio_readiness_set(nodes[i], MIO_WRITABLE), 0);
            mio_registration_unref(nodes[i]);
            close_pair(pairs[i]);
        }
    }
}
