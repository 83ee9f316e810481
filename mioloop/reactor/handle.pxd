from mioloop.reactor.core cimport mio_timer


cdef class Host:
    """What a handle needs of the loop it was made by; the loop overrides it."""
    cdef int forget_timer(self, TimerHandle timer) except -1
    cdef int report(self, dict context) except -1       # an exception of user code
    cdef bint is_debug(self) noexcept


cdef class Handle:
    cdef public object _callback            # None once cancelled
    cdef public tuple _args
    cdef public object _context
    cdef public object _source_traceback    # None, or a list in debug mode
    cdef public object _repr                # kept by cancel() in debug mode
    cdef public bint _cancelled
    cdef Host host
    cdef object __weakref__

    cdef int run(self) except -1
    cdef int callback_failed(self, callback, args) except -1


cdef class TimerHandle(Handle):
    cdef readonly object _when              # seconds, as loop.time() counts them
    cdef mio_timer timer                    # idle unless it is in the host's heap


cdef Handle new_handle(Host host, object callback, tuple args, object context)
cdef TimerHandle new_timer(Host host, object when, object callback, tuple args, object context)
