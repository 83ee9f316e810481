from mioloop.reactor.core cimport mio_histogram


cdef class Histogram:
    cdef mio_histogram counts
