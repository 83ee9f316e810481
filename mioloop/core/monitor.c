#include "monitor.h"

#include <string.h>
#include <time.h>

#include "mio.h"

#define NS_PER_S 1000000000

/* Deadlines are on CLOCK_MONOTONIC, as everywhere in mioloop: with the default
 * clock of a condition, setting the date would stretch or end a wait. macOS
 * cannot choose the clock, but can wait for a relative time. */
static int init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int err;

    err = pthread_condattr_init(&attributes);
    if (err != 0) return err;
#ifndef __APPLE__
    err = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    if (err == 0) err = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return err;
}

int mio_monitor_init(mio_monitor *monitor)
{
    int err;

    err = pthread_mutex_init(&monitor->lock, NULL);
    if (err != 0) return -err;
    err = init_condition(&monitor->changed);
    if (err != 0) pthread_mutex_destroy(&monitor->lock);
    return -err;
}

void mio_monitor_destroy(mio_monitor *monitor)
{
    pthread_cond_destroy(&monitor->changed);
    pthread_mutex_destroy(&monitor->lock);
}

/* The old lock and condition are not destroyed: that could wait for threads of the
 * parent. */
bool mio_lock_forked(pthread_mutex_t *lock)
{
    bool held = pthread_mutex_trylock(lock) != 0;

    if (!held) pthread_mutex_unlock(lock);
    memset(lock, 0, sizeof *lock);
    pthread_mutex_init(lock, NULL);
    return held;
}

bool mio_monitor_forked(mio_monitor *monitor)
{
    bool held = mio_lock_forked(&monitor->lock);

    memset(&monitor->changed, 0, sizeof monitor->changed);
    init_condition(&monitor->changed);
    return held;
}

void mio_monitor_wait(mio_monitor *monitor, int64_t deadline_ns)
{
    struct timespec until;

    if (deadline_ns < 0) {
        pthread_cond_wait(&monitor->changed, &monitor->lock);
        return;
    }
#ifdef __APPLE__
    deadline_ns -= mio_clock_now();
    if (deadline_ns <= 0) return;
#endif
    until.tv_sec = (time_t)(deadline_ns / NS_PER_S);
    until.tv_nsec = (long)(deadline_ns % NS_PER_S);
#ifdef __APPLE__
    pthread_cond_timedwait_relative_np(&monitor->changed, &monitor->lock, &until);
#else
    pthread_cond_timedwait(&monitor->changed, &monitor->lock, &until);
#endif
}
