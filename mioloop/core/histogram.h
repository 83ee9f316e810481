/* histogram.h -- how often which duration occurred, in fixed memory.
 *
 * Durations are nanoseconds. Each power of two has 16 buckets of equal width, so that a bucket is
 * at most 6.25 % wide; durations below 16 ns have a bucket each. A duration of 2^44 ns (4.9 hours)
 * or more counts as one of 2^44 - 1 ns, so that no sum overflows.
 *
 * A histogram belongs to one thread at a time. A zeroed histogram is empty.
 */
#ifndef MIO_HISTOGRAM_H
#define MIO_HISTOGRAM_H

#include <stdint.h>

enum {
    MIO_HISTOGRAM_STEP_BITS = 4,
    MIO_HISTOGRAM_VALUE_BITS = 44,
    MIO_HISTOGRAM_BUCKETS =
        (MIO_HISTOGRAM_VALUE_BITS - MIO_HISTOGRAM_STEP_BITS + 1) << MIO_HISTOGRAM_STEP_BITS
};

typedef struct {
    uint64_t buckets[MIO_HISTOGRAM_BUCKETS];
    uint64_t count;
    int64_t sum_ns;
    int64_t most_ns;
} mio_histogram;

/* The duration must be from 0 to 2^44 - 1. */
static inline int mio_histogram_index(int64_t duration_ns)
{
    int step;

    if (duration_ns < 1 << MIO_HISTOGRAM_STEP_BITS) return (int)duration_ns;
    step = 63 - __builtin_clzll((uint64_t)duration_ns) - MIO_HISTOGRAM_STEP_BITS;
    return (step << MIO_HISTOGRAM_STEP_BITS) + (int)(duration_ns >> step);
}

/* The least duration that is too long for the bucket. */
static inline int64_t mio_histogram_limit_ns(int index)
{
    int64_t steps = 1 << MIO_HISTOGRAM_STEP_BITS;
    int step = (index >> MIO_HISTOGRAM_STEP_BITS) - 1;

    if (step < 0) return index + 1;
    return (steps + (index & (steps - 1)) + 1) << step;
}

static inline void mio_histogram_add(mio_histogram *histogram, int64_t duration_ns)
{
    int64_t most_ns = ((int64_t)1 << MIO_HISTOGRAM_VALUE_BITS) - 1;

    if (duration_ns < 0) duration_ns = 0;
    if (duration_ns > most_ns) duration_ns = most_ns;
    histogram->buckets[mio_histogram_index(duration_ns)]++;
    histogram->count++;
    histogram->sum_ns += duration_ns;
    if (duration_ns > histogram->most_ns) histogram->most_ns = duration_ns;
}

#endif
