#include "latencies.h"

#include <stddef.h>

#define STEPS (1 << MIO_LATENCY_PRECISION)

static size_t bucket_of(int64_t ns)
{
    uint64_t value = ns < 0 ? 0 : (uint64_t)ns;
    int top;

    if (value < STEPS) return (size_t)value;
    if (value >> MIO_LATENCY_BITS) return MIO_LATENCY_BUCKETS - 1;
    top = 63 - __builtin_clzll(value);
    return (size_t)(top - MIO_LATENCY_PRECISION + 1) * STEPS
           + ((value >> (top - MIO_LATENCY_PRECISION)) & (STEPS - 1));
}

static int64_t bucket_end(size_t bucket)
{
    int shift = (int)(bucket / STEPS) - 1;

    if (shift < 0) return (int64_t)bucket;
    return ((int64_t)(STEPS + bucket % STEPS + 1) << shift) - 1;
}

void mio_latencies_add(mio_latencies *latencies, int64_t ns)
{
    latencies->count++;
    latencies->buckets[bucket_of(ns)]++;
    if (ns > latencies->max_ns) latencies->max_ns = ns;
}

int64_t mio_latencies_percentile(const mio_latencies *latencies, uint64_t per_mille)
{
    uint64_t rank = (latencies->count * per_mille + 999) / 1000;
    uint64_t seen = 0;
    int64_t end;
    size_t i;

    for (i = 0; i < MIO_LATENCY_BUCKETS; i++) {
        seen += latencies->buckets[i];
        if (seen < rank || seen == 0) continue;
        end = bucket_end(i);
        return end < latencies->max_ns ? end : latencies->max_ns;
    }
    return 0;
}
