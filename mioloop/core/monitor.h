/* monitor.h -- a lock, and a condition to wait for while it is given up. */
#ifndef MIO_MONITOR_H
#define MIO_MONITOR_H

#include <pthread.h>
#include <stdint.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} mio_monitor;

int mio_monitor_init(mio_monitor *monitor);
void mio_monitor_destroy(mio_monitor *monitor);

/* Gives the lock up until somebody signals `changed` or mio_clock_now() has
 * reached deadline_ns (-1: never). May return for no reason: test again. */
void mio_monitor_wait(mio_monitor *monitor, int64_t deadline_ns);

#endif
