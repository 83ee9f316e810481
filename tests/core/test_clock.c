/* Clock: nanoseconds that only go forward, on the selectors' own clock. */
#include <time.h>

#include "mio.h"
#include "test.h"

TEST(clock_never_goes_back)
{
    int64_t last = mio_clock_now();

    for (int i = 0; i < 100000; i++) {
        int64_t now = mio_clock_now();
        CHECK(now >= last);
        last = now;
    }
}

TEST(clock_is_the_monotonic_one_in_nanoseconds)
{
    struct timespec before, after;
    int64_t now;

    clock_gettime(CLOCK_MONOTONIC, &before);
    now = mio_clock_now();
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(now >= before.tv_sec * 1000000000LL + before.tv_nsec);
    CHECK(now <= after.tv_sec * 1000000000LL + after.tv_nsec);
}
