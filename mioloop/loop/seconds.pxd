# The one place where seconds (float, asyncio's interface) become nanoseconds (int64, below it).

from libc.math cimport ceil, isinf, isnan
from libc.stdint cimport INT64_MAX, int64_t


cdef inline int64_t to_ns(when) except? -1:
    """Convert seconds to nanoseconds, rounded up: a timer is never early (R3)."""
    cdef double seconds = when
    cdef double ns = ceil(seconds * 1e9)
    if isnan(ns):
        raise ValueError("a time to call at cannot be NaN")
    if ns >= <double>INT64_MAX:             # infinity is later than any other time
        return INT64_MAX if isinf(seconds) else INT64_MAX - 1
    if ns <= -<double>INT64_MAX:
        return -INT64_MAX
    if ns / 1e9 < seconds:              # the product was rounded down
        ns += 1
    return <int64_t>ns
