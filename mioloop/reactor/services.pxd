from mioloop.reactor.call_queue cimport CallQueue


cdef class LoopServices(CallQueue):
    """The services of the loop that transports use. The loop overrides these methods."""
    cdef object new_future(self)
    cdef object call_after(self, delay_s, callback)
    cdef object loop_time(self)
