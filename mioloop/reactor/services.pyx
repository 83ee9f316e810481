"""LoopServices: all that transports need of the loop, which is in a layer above them.

A service that is declared here calls a public method of the loop, because a program may override
or replace that method (R100). The other calls upward are declared where the lower layer makes them:

    report()         HandleOwner  call_exception_handler() of the loop
    post()           CallQueue    call_soon(), if the program has replaced it
    timer_now_ns()   CallQueue    time(), if the program has replaced it
"""


cdef class LoopServices(CallQueue):

    cdef object new_future(self):
        """Return loop.create_future(): a program may have a class of its own for futures."""
        raise NotImplementedError

    cdef object call_after(self, delay_s, callback):
        """Return the handle of loop.call_later(): a test may replace the loop's timers."""
        raise NotImplementedError

    cdef object loop_time(self):
        """Return loop.time() in seconds: a test may replace the loop's clock (R6)."""
        raise NotImplementedError
