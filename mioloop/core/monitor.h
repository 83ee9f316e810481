/* monitor.h -- a lock with a condition. */
#ifndef MIO_MONITOR_H
#define MIO_MONITOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} mio_monitor;

int mio_monitor_init(mio_monitor *monitor);
void mio_monitor_destroy(mio_monitor *monitor);

/* In a forked child: a new lock and a new condition. Returns whether a thread
 * of the parent held the old lock. */
bool mio_monitor_forked(mio_monitor *monitor);
bool mio_lock_forked(pthread_mutex_t *lock);

/* Releases the lock, waits until a thread signals `changed` or mio_clock_now() has
 * reached deadline_ns (-1: never), and takes the lock again. May return without a
 * reason: the caller tests its condition again. */
void mio_monitor_wait(mio_monitor *monitor, int64_t deadline_ns);

#endif
