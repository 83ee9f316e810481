from libc.stdint cimport int64_t, uint64_t

cdef extern from "histogram.h" nogil:
    enum:
        MIO_HISTOGRAM_BUCKETS

    ctypedef struct mio_histogram:
        uint64_t *buckets
        uint64_t count
        int64_t sum_ns
        int64_t most_ns

    int64_t mio_histogram_limit_ns(int index)
    void mio_histogram_add(mio_histogram *histogram, int64_t duration_ns)


cdef class Histogram:
    cdef mio_histogram counts
