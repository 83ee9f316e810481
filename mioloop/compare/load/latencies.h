/* latencies.h -- a histogram of latencies with buckets that grow with the value.
 *
 * A value is counted in one of 128 buckets for each power of two, so that a
 * percentile is too large by at most 1/128. Adding takes constant time, and the
 * size does not depend on the number of values.
 */
#ifndef MIO_LATENCIES_H
#define MIO_LATENCIES_H

#include <stdint.h>

#define MIO_LATENCY_PRECISION 7     /* bits: 128 buckets for each power of two */
#define MIO_LATENCY_BITS 42         /* over an hour; a longer latency is counted as that */
#define MIO_LATENCY_BUCKETS \
    ((MIO_LATENCY_BITS - MIO_LATENCY_PRECISION + 1) * (1 << MIO_LATENCY_PRECISION))

typedef struct {                    /* all zero: empty */
    uint64_t count;
    int64_t max_ns;
    uint64_t buckets[MIO_LATENCY_BUCKETS];
} mio_latencies;

void mio_latencies_add(mio_latencies *latencies, int64_t ns);

/* The smallest bucket end that at least per_mille of the values do not exceed;
 * never more than max_ns, and 0 if the histogram is empty. */
int64_t mio_latencies_percentile(const mio_latencies *latencies, uint64_t per_mille);

#endif
