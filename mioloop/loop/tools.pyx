"""The parts of a loop that tools see and replace: asyncio's private attributes and methods.

A tool (nest_asyncio, a fake clock, a monitor, a debugger) sets Handle._run, loop.time,
loop._selector or _run_once, or changes loop._ready and loop._scheduled. Each replacement is
respected (R14, R100) and costs nothing while there is none: a turn compares the version tags of a
few classes.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from mioloop.reactor.core cimport *
from mioloop.loop.queues cimport ReadyView, native_handle, push_back, ready_view, shown
from mioloop.loop.seconds cimport to_ns
from mioloop.loop.sock cimport SockReactor
from mioloop.loop.watching cimport WatchingReactor
from mioloop.reactor.handle cimport Handle, ThreadSafeHandle, TimerHandle, items, new_timer
from mioloop.reactor.python_api cimport *
from mioloop.reactor.reactor cimport class_of, class_version
from mioloop.reactor.source cimport Source

import os
import socket as socket_module
import time
from asyncio import base_events, events
from selectors import EVENT_READ, EVENT_WRITE
from types import BuiltinFunctionType, FunctionType
from weakref import WeakValueDictionary

from mioloop import stdlib
from mioloop.loop.queues import run_foreign
from mioloop.loop.scheduled import Scheduled

cdef enum:
    NO_VERSION = 0xFFFFFFFF             # the class has no version tag: it differs at each check

cdef double LONGEST_SELECT_S = base_events.MAXIMUM_SELECT_TIMEOUT
cdef object StdHandle = events.Handle
cdef object StdTimerHandle = events.TimerHandle
cdef object StdThreadSafeHandle = stdlib.ThreadSafeHandle or events.Handle    # 3.14
cdef object monotonic_clock = time.monotonic

# The functions that are call_soon and call_at of a class on which no tool has replaced them
cdef tuple own_call_soon = ()
cdef tuple own_call_at = ()


# create_connection() and the methods that asyncio's calls: name -> (the function of mioloop or None,
# the module with the function of asyncio that is called in its place or by it, or None)
cdef dict own_steps = {}


cdef int set_own_methods(tuple call_soon, tuple call_at, dict steps) except -1:
    global own_call_soon, own_call_at, own_steps
    own_call_soon, own_call_at, own_steps = call_soon, call_at, steps
    return 0


cdef str asyncio_path = os.path.dirname(events.AbstractEventLoop.run_forever.__code__.co_filename)


cdef bint is_one_of(thing, tuple things) noexcept:
    """Compare by identity: __eq__ would be code of the program."""
    for each in things:
        if thing is each:
            return True
    return False


cdef bint is_of_stdlib(function, module, str name) except -1:
    """Whether *function* is defined by the source of *module*, and not put there by a tool.

    A comparison with the function at import time would prove nothing: the tool may have been
    imported before mioloop.
    """
    code = getattr(function, "__code__", None)
    file = module.__name__.rpartition(".")[2] + ".py"
    return (code is not None and code.co_name == name
            and getattr(function, "__globals__", None) is vars(module)
            and code.co_filename == os.path.join(asyncio_path, file))


cdef object replaced_run(handle_class):
    """The `_run` that a tool has set on *handle_class* or on one of its bases, or None."""
    for cls in handle_class.__mro__:
        run = vars(cls).get("_run")
        if run is not None and not is_of_stdlib(run, events, "_run"):
            return run
    return None


cdef bint has_own_steps(cls) except -1:
    """Whether create_connection() of the loop class *cls* would run asyncio's and mioloop's code.

    A subclass may have its own create_connection() before mioloop's, which calls this one.
    """
    for name, (function, module) in own_steps.items():
        found = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
        while name == "create_connection" and found and found[0] is not function:
            del found[0]
        if function is not None and (not found or found.pop(0) is not function):
            return False
        if module is not None and not (found and is_of_stdlib(found[0], module, name)):
            return False
    return True


# The functions with which asyncio recognises a numeric address; None if a tool has replaced them
# before this module was imported
cdef dict names_of_asyncio = base_events.__dict__
cdef object Socket = socket_module.socket
cdef object inet_pton = (
    socket_module.inet_pton if isinstance(socket_module.inet_pton, BuiltinFunctionType) else None)
cdef str ipaddr_info_name = stdlib.ipaddr_info.__name__
cdef object ipaddr_info = (
    stdlib.ipaddr_info if is_of_stdlib(stdlib.ipaddr_info, base_events, ipaddr_info_name) else None)


cdef bint resolver_is_asyncios() except -1:
    """Whether all names that asyncio uses to make and resolve a socket mean asyncio's functions."""
    return (names_of_asyncio.get("socket") is socket_module
            and names_of_asyncio.get(ipaddr_info_name) is ipaddr_info
            and socket_module.socket is Socket and socket_module.inet_pton is inet_pton)


cdef inline unsigned int version_of(PyTypeObject *cls) noexcept:
    cdef unsigned int version = class_version(cls)
    return version if version else NO_VERSION


cdef int set_attribute(loop, name, PyObject *value) except -1:
    return PyObject_GenericSetAttr(<PyObject *>loop, <PyObject *>name, value)


cdef bint are_the_same(list a, list b) noexcept:
    """Whether both have the same objects in the same order. Runs no code of the program."""
    cdef Py_ssize_t i
    if len(a) != len(b):
        return False
    for i in range(len(a)):
        if a[i] is not b[i]:
            return False
    return True


cdef class ToolsReactor(WatchingReactor):

    def __cinit__(self, *args, **kwargs):
        self.timer_class = <PyTypeObject *>StdTimerHandle
        self.thread_safe_class = <PyTypeObject *>StdThreadSafeHandle
        self.class_version = NO_VERSION
        self.timer_class_version = self.thread_safe_class_version = NO_VERSION

    # -- replaced _run_once() and loop._selector -------------------------------------

    def _run_once(self):
        """Run one turn. A call by run_forever() runs all turns until stop()."""
        self.run_turns()

    def _turn_until_stopped(self, bint begins):
        """Called before and after run_forever(): its first _run_once() runs all turns."""
        if begins:
            if self.instrumented or events.Handle is not StdHandle:
                self.look_for_hooks()       # no version tag changes if a class is replaced
            self.check_run_once()
        self.run_until_stopped = begins

    cdef int check_run_once(self) except -1:
        """Notice a _run_once() that the program has replaced: it is called for every turn."""
        cdef PyObject **dictionary = _PyObject_GetDictPtr(<PyObject *>self)
        self.leaves_native_run = (
            type(self)._run_once is not native_run_once
            or (dictionary != NULL and dictionary[0] != NULL
                and "_run_once" in <dict>dictionary[0]))
        return 0

    cdef int check_selector(self) except -1:
        """Notice a tool that has replaced loop._selector, its select() or _process_events().

        Each turn then calls loop._selector.
        """
        self.goes_by_selector = (
            self.selector_in_use is not None
            and (self.selector_in_use is not self.own_selector
                 or "select" in vars(self.selector_in_use)
                 or type(self)._process_events is not native_process_events))
        return 0

    def __setattr__(self, name, value):
        set_attribute(self, name, <PyObject *>value)
        if name == "_run_once":
            self.check_run_once()

    def __delattr__(self, name):
        set_attribute(self, name, NULL)
        if name == "_run_once":
            self.check_run_once()

    @property
    def _selector(self):
        return self.selector_in_use

    @_selector.setter
    def _selector(self, selector):
        if self.own_selector is None:
            self.own_selector = selector        # BaseSelectorEventLoop.__init__()
        self.selector_in_use = selector
        self._selector_changed()

    def _selector_changed(self):
        self.check_selector()

    cdef int turn_by_selector(self) except -1:
        """Run a turn in asyncio's own steps, on the selector at loop._selector.

        Rule R100: a fake clock or a nesting tool that replaces the selector works.
        """
        timeout = None
        if self.ring.count or self.stopping or self.has_pending():
            timeout = 0
        elif self.timers.count:
            first = <TimerHandle>mio_timers_first(&self.timers).owner
            timeout = min(max(0, first._when - self.time()), LONGEST_SELECT_S)
        self._process_events(self._selector.select(timeout))
        if self.timers.count:
            self.queue_due_timers()
        return self.run_ready(self.ring.count, False)

    def _poll_by_hand(self, timeout):
        """Poll, and return (fd, readiness) of each source that has work, for select()."""
        cdef int64_t timeout_ns = -1
        cdef int i
        if timeout is not None:
            timeout_ns = max(0, to_ns(timeout))
        if self.has_pending():
            timeout_ns = 0
        self.poll_events(timeout_ns)
        found = []
        for source in self.deferred_sources + self.deferred_now[self.deferred_next:]:
            found.append(((<Source>source).fd, (<Source>source).deferred))
        for i in range(self.event_next, self.event_count):
            source = self.lookup(self.events[i].token)
            if source is not None:
                found.append(((<Source>source).fd, self.events[i].ready))
        return found

    def _process_events(self, event_list):
        """Queue the dispatch of the polled events, and the handles of another selector's events."""
        for key, mask in event_list:
            if isinstance(key.data, tuple):
                for handle, bits in zip(key.data, (EVENT_READ, EVENT_WRITE)):
                    if handle is not None and mask & bits and not handle._cancelled:
                        self._add_callback(handle)
        if self.has_pending():
            self.post(self._dispatch_by_hand, (), None)

    def _dispatch_by_hand(self):
        if self.deferred_sources:
            self.deferred_now.extend(self.deferred_sources)
            self.deferred_sources.clear()
        self.dispatch()

    # -- loop._ready and loop._scheduled ---------------------------------------------

    @property
    def _ready(self):
        return ready_view(self)

    @_ready.setter
    def _ready(self, queue):
        """BaseEventLoop.__init__() assigns an empty deque; no other queue can be used."""
        if self.ready_given and not (
                type(queue) is ReadyView and (<ReadyView>queue).reactor is self):
            raise AttributeError(
                "the ready queue of a mioloop loop cannot be replaced: change loop._ready in place")
        self.ready_given = True

    @property
    def _scheduled(self):
        if self.shown_timers is None:
            self.timers_known, self.timers_of_known = [], []
            self.shown_timers = Scheduled(self)
        self.show_timers()
        return self.shown_timers

    @_scheduled.setter
    def _scheduled(self, timers):
        """BaseEventLoop.__init__() assigns an empty list; no other list can be used."""
        if self.scheduled_given and timers is not self.shown_timers:
            raise AttributeError(
                "the timers of a mioloop loop cannot be replaced: change loop._scheduled in place")
        self.scheduled_given = True

    def _show_timers(self):
        if self.shown_timers is not None:
            self.show_timers()

    cdef int show_timers(self) except -1:
        """Apply a tool's changes of loop._scheduled, then make the list show the current timers."""
        view = self.shown_timers
        cdef list now = PyList_GetSlice(view, 0, PY_SSIZE_T_MAX)
        cdef list known = self.timers_known, of_known = self.timers_of_known
        try:
            if not are_the_same(now, known):
                self.timers_known = now         # before any code of the program runs
                self.take_timers_over(now, known, of_known)
        finally:
            of_known = self.timers_in_order()
            known = [shown(<PyObject *>timer) for timer in of_known]
            self.timers_known, self.timers_of_known = known, of_known
            if not are_the_same(PyList_GetSlice(view, 0, PY_SSIZE_T_MAX), known):
                PyList_SetSlice(view, 0, PY_SSIZE_T_MAX, known)
        return 0

    cdef int take_timers_over(self, list now, list known, list of_known) except -1:
        there = {id(handle) for handle in now}
        for handle, timer in zip(known, of_known):
            if id(handle) not in there:
                self.forget_timer(<TimerHandle>timer)
        there = {id(handle) for handle in known}
        for handle in now:
            if id(handle) not in there:
                there.add(id(handle))
                self.schedule_again(handle)
        return 0

    cdef int schedule_again(self, handle) except -1:
        """A tool has put *handle* into loop._scheduled."""
        cdef PyObject *made
        self._check_closed()
        when = getattr(handle, "_when", None)
        if when is None or not hasattr(handle, "_run"):
            raise TypeError(f"an asyncio.TimerHandle is required, not {handle!r}")
        deadline_ns = to_ns(when)
        if type(handle) is TimerHandle and (<Handle>handle).host == <PyObject *>self:
            made = <PyObject *>handle
            Py_INCREF(made)
        else:
            args = (handle,)
            made = new_timer(self, <PyObject *>when, <PyObject *>run_foreign, items(args), 1, NULL)
        self.schedule(made, deadline_ns)
        Py_DECREF(made)
        return 0

    cdef list timers_in_order(self):
        cdef TimerHandle timer
        cdef size_t i
        order = []
        for i in range(self.timers.count):
            timer = <TimerHandle>self.timers.heap[i].timer.owner
            order.append((timer.timer.deadline_ns, timer.timer.sequence, timer))
        order.sort()                        # the sequence numbers are unique
        return [timer for _, _, timer in order]

    # -- replaced Handle._run, and debug mode ------------------------------------------

    cdef int serve_tools(self) except -1:
        if (class_version(self.timer_class) != self.timer_class_version
                or class_version(self.thread_safe_class) != self.thread_safe_class_version):
            self.look_for_hooks()
        if class_version(class_of(self)) != self.class_version:
            self.look_at_class()
        if self.shown_timers is not None:
            self.show_timers()
            if Py_REFCNT(<PyObject *>self.shown_timers) == 1:   # no tool holds the list now
                self.shown_timers = self.timers_known = self.timers_of_known = None
        return 0

    cdef int look_for_hooks(self) except -1:
        """Check whether a tool has replaced _run of asyncio's handle classes."""
        self.run_hook = replaced_run(events.Handle)
        self.timer_run_hook = replaced_run(events.TimerHandle)
        self.thread_safe_run_hook = replaced_run(
            stdlib.ThreadSafeHandle or events.Handle)
        # A class gets its version tag when one of its attributes is looked up.
        StdTimerHandle._run, StdThreadSafeHandle._run
        self.timer_class_version = version_of(self.timer_class)
        self.thread_safe_class_version = version_of(self.thread_safe_class)
        return self.update_instrumented()

    cdef int update_instrumented(self) except -1:
        self.instrumented = (self.debug or self.run_hook is not None
                         or self.timer_run_hook is not None
                         or self.thread_safe_run_hook is not None)
        return 0

    cdef int run_instrumented(self, Handle handle) except -1:
        """Run one handle as asyncio's debug mode does, or by a replaced Handle._run."""
        cdef int64_t began_ns = self.monotonic_ns()
        if self.debug:
            self._current_handle = handle
        try:
            self.run_by_tool(handle)
        finally:
            self._current_handle = None
        self.log_if_slow(handle, began_ns)
        return 0

    cdef int run_by_hand(self, Handle handle) except -1:
        if self.hooked is handle:           # the tool calls the original _run()
            return handle.run()
        self.look_around()
        return self.run_by_tool(handle)

    cdef int run_by_tool(self, Handle handle) except -1:
        """Run *handle* by the `_run` that a tool has set on its asyncio class, if there is one."""
        cdef Handle outer = self.hooked
        hook = self.run_hook
        if type(handle) is TimerHandle:
            hook = self.timer_run_hook
        elif type(handle) is ThreadSafeHandle:
            hook = self.thread_safe_run_hook
        if hook is None:
            return handle.run()
        self.hooked = handle
        if type(handle) is ThreadSafeHandle:
            (<ThreadSafeHandle>handle).begin()
        try:
            if type(hook) is FunctionType:
                hook(handle)
            else:                           # bind it as an attribute access on the handle would
                get = getattr(type(hook), "__get__", None)
                (hook if get is None else get(hook, handle, handle.__class__))()
        finally:
            self.hooked = outer
            if type(handle) is ThreadSafeHandle:
                (<ThreadSafeHandle>handle).end()
        return 0

    cdef int serve_instrumented(self, Source source, uint32_t ready) except -1:
        cdef int64_t began_ns = self.monotonic_ns()
        source.on_ready(ready)
        self.log_if_slow(source, began_ns)
        return 0

    cdef int log_if_slow(self, what, int64_t began_ns) except -1:
        cdef double took_s = (self.monotonic_ns() - began_ns) / 1e9
        if self.debug and took_s >= self.slow_callback_duration:
            text = stdlib.format_handle(what) if isinstance(what, Handle) else repr(what)
            base_events.logger.warning("Executing %s took %.3f seconds", text, took_s)
        return 0

    # -- replaced time(), call_at() and call_soon() ------------------------------------

    def time(self):
        if class_version(class_of(self)) != self.class_version:
            self.look_at_class()
        if self.time_of_base_replaced:
            return super(ToolsReactor, self).time()
        return self.monotonic_ns() / 1e9

    cdef int look_for_overrides(self) except -1:
        """Set the flags according to the current attributes of the class and the instance."""
        cdef PyObject **instance_dict
        if class_version(class_of(self)) != self.class_version:
            self.look_at_class()
        instance_dict = _PyObject_GetDictPtr(<PyObject *>self)      # does not create a dictionary
        if instance_dict != NULL and instance_dict[0] != NULL:
            self.look_at_instance(<dict>instance_dict[0])
        return 0

    cdef int look_at_instance(self, dict own) except -1:
        # Home Assistant sets loop.time = time.monotonic, which is the loop's clock anyway.
        self.time_replaced = self.class_has_time or (
            own.get("time", monotonic_clock) is not monotonic_clock)
        self.call_at_replaced = self.class_has_call_at or "call_at" in own
        self.call_soon_replaced = self.class_has_call_soon or "call_soon" in own
        return 0

    cdef int look_at_class(self) except -1:
        """Update the flags after the loop's class was changed or replaced by another class."""
        cls = type(self)
        self.time_of_base_replaced = not is_of_stdlib(
            base_events.BaseEventLoop.time, base_events, "time")
        clock = cls.time                    # this look-up gives the class its version tag
        self.class_has_time = self.time_of_base_replaced or (
            clock is not native_time and clock is not monotonic_clock)
        method = cls.call_at
        self.class_has_call_at = not is_one_of(method, own_call_at)
        method = cls.call_soon
        self.class_has_call_soon = not is_one_of(method, own_call_soon)
        self.time_replaced = self.class_has_time
        self.call_at_replaced = self.class_has_call_at
        self.call_soon_replaced = self.class_has_call_soon
        self.steps_known = False
        self.check_run_once()
        self.check_selector()
        self.class_version = version_of(class_of(self))
        return 0

    cdef bint connects_by_own_steps(self) except -1:
        """Whether no tool or subclass has replaced a step of create_connection()."""
        cdef PyObject **instance_dict
        self.look_for_overrides()
        if not self.steps_known:
            self.class_has_own_steps = has_own_steps(type(self))
            self.steps_known = True
        instance_dict = _PyObject_GetDictPtr(<PyObject *>self)
        return self.class_has_own_steps and (
            instance_dict == NULL or instance_dict[0] == NULL
            or own_steps.keys().isdisjoint(<dict>instance_dict[0]))

    cdef bint has_only_native_transports(self) except -1:
        if not self.connects_by_own_steps():
            return False
        transports = self._transports       # asyncio's own transports are in it
        return type(transports) is WeakValueDictionary and not transports.data

    cdef object post(self, callback, tuple args, context):
        """Schedule a call for a transport. Uses the program's call_soon() if it has replaced it."""
        self.look_for_overrides()
        if not self.call_soon_replaced:
            return SockReactor.post(self, callback, args, context)
        if context is None:
            return self.call_soon(callback, *args)
        return self.call_soon(callback, *args, context=context)

    cdef object loop_time(self):
        """The result of loop.time(), which a subclass or a tool may have replaced (R6)."""
        self.look_for_overrides()
        if self.time_replaced:
            return self.time()
        return self.monotonic_ns() / 1e9

    cdef int64_t timer_now_ns(self) except? -1:
        self.look_for_overrides()
        if self.time_replaced:
            return to_ns(self.time())
        return self.monotonic_ns()


cdef object native_run_once = ToolsReactor._run_once
cdef object native_process_events = ToolsReactor._process_events
cdef object native_time = ToolsReactor.time
