"""The marks of a write buffer, from the numbers that a program sets. See flow_control.pxd."""

import math
import sys

cdef object INFINITY = math.inf
cdef object MOST_BYTES = sys.maxsize


cdef tuple water_marks(object high, object low, Py_ssize_t default_high):
    """Return (low, high), numbers of any type, with asyncio's defaults for None.

    Raises ValueError unless high >= low >= 0.
    """
    if high is None:
        high = default_high if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:                # also if one is NaN
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return low, high


cdef Py_ssize_t whole_bytes(object mark) except -1:
    """Return *mark* rounded down to whole bytes, at most sys.maxsize."""
    if mark == INFINITY:
        return MOST_BYTES
    return min(math.floor(mark), MOST_BYTES)
