/* Histogram: a duration is counted in a bucket that is at most 6.25 % wide. */
#include "histogram.h"
#include "test.h"

TEST(duration_lies_below_the_limit_of_its_bucket_and_not_below_that_of_the_one_before)
{
    int64_t ns;

    for (ns = 0; ns < (int64_t)1 << MIO_HISTOGRAM_VALUE_BITS; ns += 1 + ns / 97) {
        int index = mio_histogram_index(ns);

        CHECK(ns < mio_histogram_limit_ns(index));
        CHECK(index == 0 || ns >= mio_histogram_limit_ns(index - 1));
    }
}

TEST(bucket_is_at_most_a_sixteenth_wide)
{
    int i;

    for (i = 16; i < MIO_HISTOGRAM_BUCKETS; i++) {
        int64_t least = mio_histogram_limit_ns(i - 1);

        CHECK((mio_histogram_limit_ns(i) - least) * 16 <= least);
    }
}

TEST(durations_of_any_size_are_counted)
{
    static mio_histogram histogram;

    mio_histogram_add(&histogram, INT64_MAX);
    mio_histogram_add(&histogram, -1);
    mio_histogram_add(&histogram, 0);
    CHECK_EQ(histogram.buckets[MIO_HISTOGRAM_BUCKETS - 1], 1);
    CHECK_EQ(histogram.buckets[0], 2);
    CHECK_EQ(histogram.count, 3);
    CHECK(histogram.most_ns == ((int64_t)1 << MIO_HISTOGRAM_VALUE_BITS) - 1);
}
