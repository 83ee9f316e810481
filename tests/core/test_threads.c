/* Other threads and signals: wake, change, queue for and close a poll that waits.
 *
 * Where a thread is given time to block (start_polling), the promise holds as
 * well if it had not got there; stress.c tries the orders in between.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sources.h"

enum { A = 21, B = 22 };

/* -- wake -------------------------------------------------------------------- */

POLL_TEST(wake_ends_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    struct polling polling;

    for (int i = 0; i < 20; i++) {
        start_polling(&polling, poll, -1);
        CHECK_EQ(mio_poll_wake(poll), 0);
        join_polling(&polling);
        CHECK_EQ(polling.result, 0);
    }
    mio_poll_free(poll);
}

POLL_TEST(wake_before_a_poll_ends_it_and_only_it)
{
    mio_poll *poll = new_poll();
    mio_event event;
    int64_t start;

    CHECK_EQ(mio_poll_wake(poll), 0);
    start = mio_clock_now();
    CHECK_EQ(mio_poll_poll(poll, &event, 1, PATIENCE), 0);
    CHECK(mio_clock_now() - start < PATIENCE);
    start = mio_clock_now();
    CHECK_EQ(mio_poll_poll(poll, &event, 1, SILENCE), 0);
    CHECK(mio_clock_now() - start >= SILENCE);
    mio_poll_free(poll);
}

POLL_TEST(several_wakes_merge)
{
    mio_poll *poll = new_poll();
    mio_event event;
    int64_t start;

    /* More than a pipe holds: a full one means that a wake is pending. A signal
     * handler must leave errno as it was. */
    errno = EDOM;
    for (int i = 0; i < 70000; i++) CHECK_EQ(mio_poll_wake(poll), 0);
    CHECK_EQ(errno, EDOM);
    CHECK_EQ(mio_poll_poll(poll, &event, 1, PATIENCE), 0);
    start = mio_clock_now();
    CHECK_EQ(mio_poll_poll(poll, &event, 1, SILENCE), 0);
    CHECK(mio_clock_now() - start >= SILENCE);
    mio_poll_free(poll);
}

POLL_TEST(wake_takes_no_event_with_it)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    mio_registration *reg;
    mio_event events[4];

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_registration_update(reg, poll, B, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    CHECK_EQ(mio_poll_wake(poll), 0);
    CHECK_EQ(mio_poll_poll(poll, events, 4, PATIENCE), 2);
    CHECK_EQ(events[0].token, A);
    CHECK_EQ(events[1].token, B);
    mio_registration_unref(reg);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(events_still_come_with_room_for_one_and_a_wake_each_time)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    int seen = 0;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), 0);
    for (int i = 0; i < 10; i++) {
        mio_event event;

        CHECK_EQ(mio_poll_wake(poll), 0);
        if (poll_once(poll, &event, 1, PATIENCE) == 1) seen++;
    }
    CHECK(seen >= 4);
    mio_poll_free(poll);
    close_pair(pair);
}

/* -- signals ------------------------------------------------------------------- */

static mio_poll *_Atomic poll_to_wake;
static atomic_int handled;

static void on_signal(int signum)
{
    mio_poll *poll = poll_to_wake;

    (void)signum;
    if (poll != NULL && mio_poll_wake(poll) != 0) _exit(2);
    handled++;
}

static void handle_signal(bool on)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = on ? on_signal : SIG_DFL;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    handled = 0;
}

static void *interrupted_thread(void *argument)
{
    struct polling *polling = argument;

    polling->thread_id = gettid();
    polling->result = mio_poll_poll(polling->poll, polling->events, 16, polling->timeout_ns);
    return NULL;
}

/* Signals until the thread was seen to be interrupted: the first may come before
 * it waits. */
POLL_TEST(signal_ends_a_poll_with_eintr_and_loses_nothing)
{
    mio_poll *poll = new_poll();
    mio_registration *reg;
    struct pair pair = unix_pair();
    struct polling polling = { .poll = poll, .timeout_ns = PATIENCE };

    handle_signal(true);
    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(poll, pair.left, B, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(pthread_create(&polling.thread, NULL, interrupted_thread, &polling), 0);
    while (pthread_tryjoin_np(polling.thread, NULL) == EBUSY) {
        CHECK_EQ(pthread_kill(polling.thread, SIGUSR1), 0);
        sched_yield();
    }
    CHECK_EQ(polling.result, -EINTR);
    CHECK(handled > 0);
    expect_silence(poll);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    expect_event(poll, A, MIO_READABLE);
    send_text(pair.right, "x");
    expect_event(poll, B, MIO_READABLE);
    handle_signal(false);
    mio_registration_unref(reg);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(wake_from_a_signal_handler_ends_the_poll_of_another_thread)
{
    mio_poll *poll = new_poll();
    struct polling polling;

    handle_signal(true);
    poll_to_wake = poll;
    start_polling(&polling, poll, -1);
    CHECK_EQ(raise(SIGUSR1), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 0);
    poll_to_wake = NULL;
    handle_signal(false);
    mio_poll_free(poll);
}

POLL_TEST(wake_from_a_handler_in_the_polling_thread_is_not_lost)
{
    mio_poll *poll = new_poll();
    struct polling polling;

    handle_signal(true);
    poll_to_wake = poll;
    start_polling(&polling, poll, -1);      /* polls again after EINTR: the wake ends that */
    CHECK_EQ(pthread_kill(polling.thread, SIGUSR1), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 0);
    poll_to_wake = NULL;
    handle_signal(false);
    mio_poll_free(poll);
}

/* -- changes while another thread waits ---------------------------------------- */

POLL_TEST(register_takes_effect_in_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    struct polling polling;

    send_text(pair.right, "x");
    start_polling(&polling, poll, -1);
    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 1);
    CHECK_EQ(polling.events[0].token, A);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(reregister_takes_effect_in_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    struct polling polling;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    start_polling(&polling, poll, -1);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_WRITABLE, MIO_EDGE), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 1);
    CHECK_EQ(polling.events[0].token, B);
    CHECK_EQ(polling.events[0].ready, MIO_WRITABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(deregister_takes_effect_in_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    struct pair gone = unix_pair(), kept = unix_pair();
    struct polling polling;

    CHECK_EQ(mio_poll_register(poll, gone.left, A, MIO_READABLE, MIO_EDGE), 0);
    CHECK_EQ(mio_poll_register(poll, kept.left, B, MIO_READABLE, MIO_EDGE), 0);
    start_polling(&polling, poll, PATIENCE);
    CHECK_EQ(mio_poll_deregister(poll, gone.left), 0);
    send_text(gone.right, "x");
    send_text(kept.right, "x");
    join_polling(&polling);
    CHECK_EQ(polling.result, 1);
    CHECK_EQ(polling.events[0].token, B);
    mio_poll_free(poll);
    close_pair(gone);
    close_pair(kept);
}

POLL_TEST(draining_takes_effect_in_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    struct polling polling;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
    send_text(pair.right, "x");
    expect_event(poll, A, MIO_READABLE);
    CHECK_EQ(drain(pair.left), 1);
    start_polling(&polling, poll, -1);
    mio_poll_drained(poll, pair.left, MIO_READABLE);
    send_text(pair.right, "y");
    join_polling(&polling);
    CHECK_EQ(polling.result, 1);
    CHECK_EQ(polling.events[0].token, A);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(changes_do_not_shorten_the_wait)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    struct polling polling;
    mio_event event;

    CHECK_EQ(mio_poll_wake(poll), 0);       /* long ago: not to be counted twice */
    CHECK_EQ(poll_once(poll, &event, 1, PATIENCE), 0);
    start_polling(&polling, poll, 30 * MILLISECOND);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_READABLE, MIO_EDGE), 0);
        CHECK_EQ(mio_poll_reregister(poll, pair.left, B, MIO_READABLE, MIO_LEVEL), 0);
        CHECK_EQ(mio_poll_deregister(poll, pair.left), 0);
    }
    join_polling(&polling);
    CHECK_EQ(polling.result, 0);
    CHECK(polling.took_ns >= 30 * MILLISECOND);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(readiness_set_elsewhere_ends_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    mio_registration *reg;
    struct polling polling;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < 20; i++) {
        start_polling(&polling, poll, -1);
        CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
        join_polling(&polling);
        CHECK_EQ(polling.result, 1);
        CHECK_EQ(polling.events[0].token, A);
    }
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(ready_registration_registered_elsewhere_ends_a_poll_that_waits)
{
    mio_poll *poll = new_poll();
    mio_registration *reg;
    struct polling polling;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    start_polling(&polling, poll, -1);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 1);
    CHECK_EQ(polling.events[0].token, A);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(registration_dropped_elsewhere_ends_a_poll_that_waits_without_an_event)
{
    mio_poll *poll = new_poll();
    mio_registration *reg;
    struct polling polling;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    start_polling(&polling, poll, -1);
    mio_registration_drop(reg);
    mio_registration_unref(reg);
    join_polling(&polling);
    CHECK_EQ(polling.result, 0);
    mio_poll_free(poll);
}

/* -- several pollers --------------------------------------------------------------- */

POLL_TEST(one_event_goes_to_one_of_several_pollers)
{
    enum { N = 4 };
    mio_poll *poll = new_poll();
    mio_registration *reg;
    struct polling pollings[N];
    int events = 0;

    CHECK_EQ(mio_registration_new(&reg), 0);
    CHECK_EQ(mio_registration_update(reg, poll, A, MIO_READABLE, MIO_EDGE), 0);
    for (int i = 0; i < N; i++) start_polling(&pollings[i], poll, 50 * MILLISECOND);
    CHECK_EQ(mio_readiness_set(reg, MIO_READABLE), 0);
    for (int i = 0; i < N; i++) {
        join_polling(&pollings[i]);
        CHECK(pollings[i].result >= 0);
        events += pollings[i].result;
        if (pollings[i].result == 0) CHECK(pollings[i].took_ns >= 50 * MILLISECOND);
    }
    CHECK_EQ(events, 1);
    mio_registration_unref(reg);
    mio_poll_free(poll);
}

POLL_TEST(every_queued_poller_gets_its_turn)
{
    enum { N = 4 };
    mio_poll *poll = new_poll();
    mio_registration *regs[N];
    struct polling pollings[N];
    unsigned seen = 0;

    for (int i = 0; i < N; i++) {
        CHECK_EQ(mio_registration_new(&regs[i]), 0);
        CHECK_EQ(mio_registration_update(regs[i], poll, (mio_token)i, MIO_READABLE, MIO_EDGE), 0);
    }
    for (int i = 0; i < N; i++) start_polling(&pollings[i], poll, -1);
    /* A poller may take several at once; those left over are sent home. */
    for (int i = 0; i < N; i++) CHECK_EQ(mio_readiness_set(regs[i], MIO_READABLE), 0);
    for (int i = 0; i < N; i++) {
        while (pthread_tryjoin_np(pollings[i].thread, NULL) == EBUSY) {
            CHECK_EQ(mio_poll_wake(poll), 0);
            sched_yield();
        }
        CHECK(pollings[i].result >= 0);
        for (int j = 0; j < pollings[i].result; j++) {
            mio_token token = pollings[i].events[j].token;

            CHECK(token < N);
            CHECK_EQ(seen & 1u << token, 0);
            seen |= 1u << token;
        }
    }
    CHECK_EQ(seen, (1u << N) - 1);
    for (int i = 0; i < N; i++) mio_registration_unref(regs[i]);
    mio_poll_free(poll);
}

POLL_TEST(poll_with_timeout_zero_does_not_wait_for_the_poller)
{
    mio_poll *poll = new_poll();
    struct polling polling;
    mio_event event;

    start_polling(&polling, poll, -1);
    for (int i = 0; i < 100; i++) {
        int n = mio_poll_poll(poll, &event, 1, 0);
        CHECK_EQ(n, 0);
    }
    CHECK_EQ(mio_poll_wake(poll), 0);
    join_polling(&polling);
    CHECK_EQ(polling.result, 0);
    mio_poll_free(poll);
}

POLL_TEST(waiting_for_another_poller_counts_against_the_timeout)
{
    mio_poll *poll = new_poll();
    struct polling polling;
    mio_event event;
    int64_t start;

    start_polling(&polling, poll, -1);
    start = mio_clock_now();
    CHECK_EQ(poll_once(poll, &event, 1, 20 * MILLISECOND), 0);
    CHECK(mio_clock_now() - start >= 20 * MILLISECOND);
    CHECK(mio_clock_now() - start < PATIENCE);
    CHECK_EQ(mio_poll_wake(poll), 0);
    join_polling(&polling);
    mio_poll_free(poll);
}

/* -- close --------------------------------------------------------------------------- */

POLL_TEST(close_ends_every_poll_with_ebadf)
{
    enum { N = 3 };

    for (int round = 0; round < 10; round++) {
        mio_poll *poll = new_poll();
        struct polling pollings[N];

        for (int i = 0; i < N; i++) start_polling(&pollings[i], poll, -1);
        mio_poll_close(poll);
        for (int i = 0; i < N; i++) {
            join_polling(&pollings[i]);
            CHECK_EQ(pollings[i].result, -EBADF);
        }
        mio_poll_free(poll);
    }
}

POLL_TEST(closed_poll_answers_ebadf)
{
    mio_poll *poll = new_poll();
    struct pair pair = unix_pair();
    mio_event event;

    CHECK_EQ(mio_poll_register(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), 0);
    mio_poll_close(poll);
    mio_poll_close(poll);
    CHECK_EQ(mio_poll_poll(poll, &event, 1, 0), -EBADF);
    CHECK_EQ(mio_poll_poll(poll, &event, 1, -1), -EBADF);
    CHECK_EQ(mio_poll_register(poll, pair.right, A, MIO_WRITABLE, MIO_LEVEL), -EBADF);
    CHECK_EQ(mio_poll_reregister(poll, pair.left, A, MIO_WRITABLE, MIO_LEVEL), -EBADF);
    CHECK_EQ(mio_poll_deregister(poll, pair.left), -EBADF);
    CHECK_EQ(mio_poll_wake(poll), -EBADF);
    CHECK_EQ(mio_poll_fd(poll), -EBADF);
    CHECK(mio_poll_selector(poll) != NULL);
    mio_poll_drained(poll, pair.left, READ_WRITE);
    mio_poll_closing(poll, pair.left);
    mio_poll_free(poll);
    close_pair(pair);
}

POLL_TEST(close_frees_the_descriptors_before_free)
{
    int first = dup(STDOUT_FILENO), second;
    mio_poll *poll;

    close(first);
    poll = new_poll();
    mio_poll_close(poll);
    second = dup(STDOUT_FILENO);
    CHECK_EQ(second, first);
    close(second);
    mio_poll_free(poll);
}

/* The thread that polls is not in the child, and never leaves the poll there. */
POLL_TEST(forked_child_frees_a_poll_that_another_thread_waits_in)
{
    mio_poll *poll = new_poll();
    struct polling polling;
    int status = -1;
    pid_t child;

    start_polling(&polling, poll, -1);
    child = fork();
    if (child == 0) {
        alarm(10);
        mio_poll_free(poll);
        _exit(0);
    }
    CHECK(child > 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    mio_poll_close(poll);
    join_polling(&polling);
    CHECK_EQ(polling.result, -EBADF);
    mio_poll_free(poll);
}
