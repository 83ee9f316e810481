"""The size of a write buffer and its marks: when a protocol must pause writing, and resume.

Used by every transport that writes, and by TLS. The owner of a FlowControl changes `size`, asks
should_pause() and should_resume(), and calls the protocol.
"""

ctypedef struct FlowControl:
    Py_ssize_t size                     # bytes that wait to be sent
    Py_ssize_t high                     # with more bytes the protocol must pause writing
    Py_ssize_t low                      # down to this size it may resume
    bint paused                         # pause_writing() was called, resume_writing() was not


cdef inline int set_limits(FlowControl *self, Py_ssize_t low, Py_ssize_t high) noexcept:
    self.low = low
    self.high = high
    return 0


cdef inline bint should_pause(const FlowControl *self) noexcept:
    return not self.paused and self.size > self.high


cdef inline bint should_resume(const FlowControl *self) noexcept:
    return self.paused and self.size <= self.low


cdef enum:
    DEFAULT_HIGH_BYTES = 65536          # asyncio's default mark (R52); low is a quarter of it


cdef tuple water_marks(object high, object low, Py_ssize_t default_high)
cdef Py_ssize_t whole_bytes(object mark) except -1
