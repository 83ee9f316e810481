"""Histogram: how often which duration occurred, in fixed memory (core/histogram.h).

Any thread that holds the GIL may read, reset and merge a histogram: the loop adds durations with
the GIL, too.
"""

from libc.math cimport ceil
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from mioloop.reactor.core cimport (
    MIO_HISTOGRAM_BUCKETS, mio_histogram, mio_histogram_add, mio_histogram_limit_ns)


cdef class Histogram:
    """Durations in seconds, in 656 buckets that are at most 6.25 % wide.

    A duration of 2**44 ns (4.9 hours) or more counts as 4.9 hours.
    """

    @property
    def count(self):
        """The number of durations."""
        return self.counts.count

    @property
    def sum(self):
        """The sum of the durations, in seconds."""
        return self.counts.sum_ns / 1e9

    @property
    def mean(self):
        """The mean in seconds; 0.0 if there are no durations."""
        return self.counts.sum_ns / 1e9 / self.counts.count if self.counts.count else 0.0

    @property
    def max(self):
        """The longest duration in seconds; 0.0 if there are no durations."""
        return self.counts.most_ns / 1e9

    def percentile(self, percent):
        """Return the duration in seconds that *percent* of the durations do not exceed.

        The result is at most 6.25 % above the true one. It is 0.0 if there are no durations.
        Raises ValueError if *percent* is not from 0 to 100.
        """
        cdef double wanted = percent
        cdef uint64_t rank, seen = 0
        cdef int i

        if not 0 <= wanted <= 100:
            raise ValueError(f"percent must be from 0 to 100, not {percent!r}")
        rank = max(1, <uint64_t>ceil(wanted / 100 * self.counts.count))
        for i in range(MIO_HISTOGRAM_BUCKETS):
            seen += self.counts.buckets[i]
            if seen >= rank:
                return min(mio_histogram_limit_ns(i), self.counts.most_ns) / 1e9
        return 0.0

    def buckets(self):
        """Return a list of (limit, count), for each bucket that is not empty.

        *count* durations were below *limit* seconds and not below the limit of the bucket before.
        """
        return [(mio_histogram_limit_ns(i) / 1e9, self.counts.buckets[i])
                for i in range(MIO_HISTOGRAM_BUCKETS) if self.counts.buckets[i]]

    def add(self, seconds):
        """Count one duration. A negative one counts as 0.0. Raises ValueError for NaN."""
        cdef double ns = seconds * 1e9

        if ns != ns:
            raise ValueError("a duration must be a number of seconds, not NaN")
        mio_histogram_add(&self.counts, <int64_t>min(max(ns, 0.0), 1e18))

    def merge(self, Histogram other not None):
        """Add the durations of *other*, which keeps them."""
        cdef int i

        for i in range(MIO_HISTOGRAM_BUCKETS):
            self.counts.buckets[i] += other.counts.buckets[i]
        self.counts.count += other.counts.count
        self.counts.sum_ns += other.counts.sum_ns
        self.counts.most_ns = max(self.counts.most_ns, other.counts.most_ns)

    def copy(self):
        """Return a histogram with the durations of this one, which the loop does not change."""
        cdef Histogram copied = Histogram()

        copied.counts = self.counts
        return copied

    def reset(self):
        """Forget all durations."""
        memset(&self.counts, 0, sizeof(mio_histogram))

    def __repr__(self):
        return (f"<Histogram count={self.count} mean={self.mean:.6f} "
                f"p50={self.percentile(50):.6f} p99={self.percentile(99):.6f} max={self.max:.6f}>")
