from libc.stdint cimport int64_t, uint32_t

from mioloop.loop.watching cimport WatchingReactor
from mioloop.reactor.handle cimport Handle
from mioloop.reactor.source cimport Source


cdef class ToolsReactor(WatchingReactor):
    """The attributes and methods that tools replace, and the checks whether one has."""
    cdef object selector_in_use             # value of loop._selector; a tool may have set it
    cdef object own_selector                # the ReactorSelector that EventLoop has set there
    # Methods that tools and subclasses have replaced
    cdef bint class_has_time                # time() is overridden, or a tool has set it
    cdef bint class_has_call_at
    cdef bint class_has_call_soon
    cdef bint time_of_base_replaced         # a tool has replaced BaseEventLoop.time
    cdef bint time_replaced                 # on the class or the instance
    cdef bint call_at_replaced
    cdef bint call_soon_replaced
    cdef bint steps_known                   # class_has_own_steps is that of the class as it is now
    cdef bint class_has_own_steps
    cdef object run_hook                    # the function that has replaced Handle._run, or None
    cdef object timer_run_hook              # the replacement of TimerHandle._run
    cdef object thread_safe_run_hook
    cdef Handle hooked                      # the handle that one of these hooks runs now
    cdef list timers_known                  # the handles in shown_timers at the last look
    cdef list timers_of_known               # the native timers of these handles
    cdef bint ready_given                   # BaseEventLoop.__init__() has assigned its queue
    cdef bint scheduled_given               # BaseEventLoop.__init__() has assigned its timers
    cdef public object slow_callback_duration
    cdef public object _current_handle

    cdef int check_run_once(self) except -1
    cdef int check_selector(self) except -1
    cdef int turn_by_selector(self) except -1
    cdef int show_timers(self) except -1
    cdef int take_timers_over(self, list now, list known, list of_known) except -1
    cdef int schedule_again(self, handle) except -1
    cdef list timers_in_order(self)
    cdef int serve_tools(self) except -1
    cdef int look_for_hooks(self) except -1
    cdef int update_instrumented(self) except -1
    cdef int run_instrumented(self, Handle handle) except -1
    cdef int run_by_hand(self, Handle handle) except -1
    cdef int run_by_tool(self, Handle handle) except -1
    cdef int serve_instrumented(self, Source source, uint32_t ready) except -1
    cdef int log_if_slow(self, what, int64_t began_ns) except -1
    cdef int look_for_overrides(self) except -1
    cdef int look_at_instance(self, dict own) except -1
    cdef int look_at_class(self) except -1
    cdef object post(self, callback, tuple args, context)
    cdef object loop_time(self)
    cdef bint connects_by_own_steps(self) except -1
    cdef bint has_only_native_transports(self) except -1
    cdef int64_t timer_now_ns(self) except? -1


cdef bint resolver_is_asyncios() except -1

# The functions that count as the loop's own call_soon() and call_at(), not replaced by a tool
cdef int set_own_methods(tuple call_soon, tuple call_at, dict steps) except -1
