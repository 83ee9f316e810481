"""The hot half of the event loop: call_soon(), timers, fd watching, one turn.

NativeLoop stands before asyncio.SelectorEventLoop in the bases of EventLoop: a method that is
defined here replaces the stdlib's method of that name. All other methods are the stdlib's. The
attributes that inherited code reads and writes (_ready, _stopping, _thread_id ...) are stored
here, in one copy.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.math cimport ceil, isinf, isnan

from mioloop.reactor.core cimport *
from mioloop.reactor.python_api cimport *
from mioloop.loop.sock cimport SockReactor
from mioloop.reactor.handle cimport (
    Handle, HandleOwner, ThreadSafeHandle, TimerHandle, handle_of, items, new_handle, new_thread_safe,
    new_timer)
from mioloop.reactor.reactor cimport (
    Reactor, Source, Watcher, class_of, class_version, forks)
from mioloop.transports.datagram cimport new_datagram
from mioloop.transports.endpoint cimport enter_context, leave_context
from mioloop.transports.listener cimport Listener, new_listener
from mioloop.transports.pipe cimport new_read_pipe, new_write_pipe
from mioloop.transports.process cimport new_process_end
from mioloop.transports.stream cimport new_stream, set_nodelay
from mioloop.reactor.sealed cimport seal

import collections
import os
import time
from asyncio import base_events, events, futures, tasks
from selectors import EVENT_READ, EVENT_WRITE
from types import FunctionType

from mioloop import stdlib
from mioloop.loop.scheduled import Scheduled

cdef object fileobj_to_fd = stdlib.fileobj_to_fd

cdef extern from "Python.h":
    # For a class derived from list: Cython's own list operations need an exact list.
    object PyList_GetSlice(object, Py_ssize_t low, Py_ssize_t high)
    int PyList_SetSlice(object, Py_ssize_t low, Py_ssize_t high, object) except -1
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    NO_VERSION = 0xFFFFFFFF             # the class has no version tag: it differs at each check

cdef double LONGEST_SELECT_S = base_events.MAXIMUM_SELECT_TIMEOUT
cdef object StdHandle = events.Handle
cdef object StdTimerHandle = events.TimerHandle
cdef object StdThreadSafeHandle = stdlib.ThreadSafeHandle or events.Handle    # 3.14
cdef object monotonic_clock = time.monotonic
cdef object deque = collections.deque


cdef str asyncio_path = os.path.dirname(events.AbstractEventLoop.run_forever.__code__.co_filename)


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


cdef inline unsigned int version_of(PyTypeObject *cls) noexcept:
    cdef unsigned int version = class_version(cls)
    return version if version else NO_VERSION


cdef bint isinstance_native(handle):
    """Compare the real type: isinstance() goes by `__class__`, which is the stdlib's class."""
    return type(handle) in (Handle, TimerHandle, ThreadSafeHandle)


cdef int set_attribute(loop, name, PyObject *value) except -1:
    return PyObject_GenericSetAttr(<PyObject *>loop, <PyObject *>name, value)


cdef bint is_in(collection, thing) except -1:
    try:
        return thing in collection
    except TypeError:                       # no weak reference possible, or not hashable
        return False


cdef bint are_the_same(list a, list b) noexcept:
    """Whether both have the same objects in the same order. Runs no code of the program."""
    cdef Py_ssize_t i
    if len(a) != len(b):
        return False
    for i in range(len(a)):
        if a[i] is not b[i]:
            return False
    return True


def run_foreign(handle):
    """Run an asyncio.Handle that is not native, unless it has been cancelled."""
    if not handle._cancelled:
        handle._run()


cdef int64_t to_ns(when) except? -1:
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


cdef object shown(PyObject *handle):
    """A queued handle as the program knows it: a foreign handle without its native wrapper."""
    if ((<Handle>handle).callback == <PyObject *>run_foreign
            and (<Handle>handle).arg_count == 1):
        return <object>(<Handle>handle).arg[1]
    return <object>handle


cdef Handle native_handle(Reactor reactor, handle):
    """*handle* itself, or a native handle that runs it. Raises TypeError if it is no handle."""
    if isinstance_native(handle):
        return <Handle>handle
    if not hasattr(handle, "_run") or not hasattr(handle, "_cancelled"):
        raise TypeError(f"an asyncio.Handle is required, not {handle!r}")
    return handle_of(reactor, run_foreign, (handle,), None)


cdef int push_back(Reactor reactor, Handle handle) except -1:
    if type(handle) is TimerHandle:
        reactor.forget_timer(<TimerHandle>handle)   # it has come from loop._scheduled
    return reactor.push(<PyObject *>handle)


def walk(ReadyView view, size_t first, size_t count):
    """Iterate over the queue. Raises RuntimeError if the queue changes meanwhile."""
    cdef Reactor reactor = view.reactor
    cdef size_t i
    for i in range(count + 1):
        if reactor.ring_first != first or reactor.ring_count != count:
            raise RuntimeError("deque mutated during iteration")
        if i < count:
            yield shown(reactor.ring[(first + i) & (reactor.ring_capacity - 1)])


@cython.final
cdef class ReadyView:
    """loop._ready: a view of the ready queue, for tools that expect asyncio's deque."""
    cdef Reactor reactor

    __hash__ = None

    @property
    def __class__(self):
        return deque

    maxlen = None

    # -- the operations of asyncio's own turn: without a copy ----------------------

    def __len__(self):
        return self.reactor.ring_count

    def __bool__(self):
        return self.reactor.ring_count > 0

    def append(self, handle):
        push_back(self.reactor, native_handle(self.reactor, handle))

    def popleft(self):
        cdef PyObject *first
        if self.reactor.ring_count == 0:
            raise IndexError("pop from an empty deque")
        first = self.reactor.pop()
        try:
            return shown(first)
        finally:
            Py_DECREF(first)                # the ring's reference

    def clear(self):
        while self.reactor.ring_count:
            Py_DECREF(self.reactor.pop())

    # -- all other operations: on a copy that is a deque ----------------------------

    def copy(self):
        cdef Reactor reactor = self.reactor
        cdef size_t i
        handles = deque()
        for i in range(reactor.ring_count):
            handles.append(shown(reactor.ring[
                (reactor.ring_first + i) & (reactor.ring_capacity - 1)]))
        return handles

    cdef object change(self, method, tuple args):
        """Apply *method* of deque to a copy of the queue, and queue the resulting handles."""
        cdef Reactor reactor = self.reactor
        cdef size_t first = reactor.ring_first, count = reactor.ring_count
        cdef list handles, old = []
        changed = self.copy()
        result = method(changed, *args)
        handles = [native_handle(reactor, handle) for handle in changed]
        if reactor.ring_first != first or reactor.ring_count != count:
            raise RuntimeError("deque mutated during iteration")
        while reactor.ring_count:
            old.append(<object>reactor.pop())
            Py_DECREF(<PyObject *>old[-1])  # the ring's reference; `old` keeps each handle alive
        for handle in handles:
            push_back(reactor, <Handle>handle)
        if changed and reactor.ring_first == first:
            self.rotate_storage()
        return result

    cdef int rotate_storage(self) except -1:
        """Begin at another place of the ring, so that an iterator notices the change."""
        cdef PyObject *first
        cdef size_t count = self.reactor.ring_count
        while count:
            count -= 1
            first = self.reactor.pop()
            self.reactor.push(first)
            Py_DECREF(first)
        return 0

    def __iter__(self):
        return walk(self, self.reactor.ring_first, self.reactor.ring_count)

    def __reversed__(self):
        return reversed(self.copy())

    def __copy__(self):
        return self.copy()

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle the ready queue of a loop")

    def __getitem__(self, index):
        return self.copy()[index]

    def __setitem__(self, index, handle):
        self.change(deque.__setitem__, (index, handle))

    def __delitem__(self, index):
        self.change(deque.__delitem__, (index,))

    def __contains__(self, handle):
        return handle in self.copy()

    def __repr__(self):
        return repr(self.copy())

    def __eq__(self, other):
        return self.copy() == as_deque(other)

    def __ne__(self, other):
        return self.copy() != as_deque(other)

    def __lt__(self, other):
        return self.copy() < as_deque(other)

    def __le__(self, other):
        return self.copy() <= as_deque(other)

    def __gt__(self, other):
        return self.copy() > as_deque(other)

    def __ge__(self, other):
        return self.copy() >= as_deque(other)

    def __add__(self, other):
        return as_deque(self) + as_deque(other)

    def __mul__(self, times):
        return self.copy() * times

    def __rmul__(self, times):
        return self.copy() * times

    def __iadd__(self, handles):
        self.change(deque.extend, (handles,))
        return self

    def __imul__(self, times):
        self.change(deque.__imul__, (times,))
        return self

    def appendleft(self, handle):
        self.change(deque.appendleft, (handle,))

    def count(self, handle):
        return self.copy().count(handle)

    def extend(self, handles):
        self.change(deque.extend, (as_deque(handles),))

    def extendleft(self, handles):
        self.change(deque.extendleft, (as_deque(handles),))

    def index(self, handle, *between):
        return self.copy().index(handle, *between)

    def insert(self, index, handle):
        self.change(deque.insert, (index, handle))

    def pop(self):
        return self.change(deque.pop, ())

    def remove(self, handle):
        self.change(deque.remove, (handle,))

    def reverse(self):
        self.change(deque.reverse, ())

    def rotate(self, n=1):
        self.change(deque.rotate, (n,))


cdef object as_deque(handles):
    return (<ReadyView>handles).copy() if type(handles) is ReadyView else handles


@cython.final
cdef class WatchedEvented(Source):
    """A mioloop.mio Evented on the loop's own Poll: see EventLoop.watch()."""
    cdef readonly object evented
    cdef Handle handle
    cdef object make_event                  # (ready, token) -> mio.Event
    cdef bint told                          # an event has come since the last registration

    cdef int on_ready(self, uint32_t ready) except -1:
        cdef Handle handle = self.handle
        cdef Reactor reactor = <Reactor>handle.host
        self.told = True
        if handle._cancelled:
            return 0
        event = self.make_event(ready, self.token)
        context = handle._context
        if enter_context(context):
            leave_context(context)
        else:                           # a nested turn of this callback: the event must not be lost
            context = None
        once = handle_of(reactor, handle._callback, (event, *handle._args), context)
        if reactor.instrumented:
            return reactor.run_instrumented(once)
        return once.run()


cdef class NativeLoop(SockReactor):

    cdef object selector_in_use             # value of loop._selector; a tool may have set it
    cdef object own_selector                # the _ReactorSelector that EventLoop has set there
    # Methods that tools and subclasses have replaced
    cdef bint class_has_time                # time() is overridden, or a tool has set it
    cdef bint class_has_call_at
    cdef bint class_has_call_soon
    cdef bint time_of_base_replaced         # a tool has replaced BaseEventLoop.time
    cdef bint time_replaced                 # on the class or the instance
    cdef bint call_at_replaced
    cdef bint call_soon_replaced
    cdef object run_hook                    # the function that has replaced Handle._run, or None
    cdef object timer_run_hook              # the replacement of TimerHandle._run
    cdef object thread_safe_run_hook
    cdef Handle hooked                      # the handle that one of these hooks runs now
    cdef list timers_known                  # the handles in shown_timers at the last look
    cdef list timers_of_known               # the native timers of these handles
    cdef bint ready_given                   # BaseEventLoop.__init__() has assigned its queue
    cdef bint scheduled_given               # BaseEventLoop.__init__() has assigned its timers

    # Attributes that BaseEventLoop's own code uses. Its __init__ assigns some of them, and these
    # assignments go to the fields here.
    cdef public object _thread_id
    cdef public object _current_handle
    cdef public object _task_factory
    cdef public object slow_callback_duration

    def __cinit__(self, *args, **kwargs):
        self.timer_class = <PyTypeObject *>StdTimerHandle
        self.thread_safe_class = <PyTypeObject *>StdThreadSafeHandle
        self.class_version = NO_VERSION
        self.timer_class_version = self.thread_safe_class_version = NO_VERSION

    def _open(self, options):
        """Make the Poll. Called before BaseEventLoop.__init__(), which registers the self-pipe."""
        self.ready_given = self.scheduled_given = False     # __init__() may be called twice
        self.open_reactor(options.selector, options.trigger, options.spin, options.io_uring)

    def _renew_after_fork(self):
        """In a forked child, make a new poll. Called before the first use of the poll."""
        if self.fork_generation != forks and not self.closed:
            self.renew()

    cdef int renew(self) except -1:
        self._renew()
        return 0

    def _renew_native(self):
        self.renew_poll()

    def _close_native(self):
        self.own_selector = None
        self.close_reactor()
        self._show_timers()                 # a tool that still has the list finds it empty
        self.shown_timers = self.timers_known = self.timers_of_known = None

    # -- scheduling: the general methods; the fast path is below, after the class -----

    def call_soon(self, callback, *args, context=None):
        if self.closed:
            self._check_closed()
        if self.debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        return SockReactor.post(self, callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        if self.closed:
            self._check_closed()
        if self.debug:
            self._check_callback(callback, "call_soon_threadsafe")
        cdef PyObject *made = new_thread_safe(self, <PyObject *>callback, items(args), len(args),
                                              <PyObject *>context)
        handle = <Handle>made
        Py_DECREF(made)                     # `handle` holds another reference
        self.push(made)
        self.wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        if delay is None:
            raise TypeError("delay must not be None")
        when = self.seconds() + delay
        if self.call_at_replaced:
            return self.call_at(when, callback, *args, context=context)
        return self.add_timer(when, callback, args, context, "call_later")

    def call_at(self, when, callback, *args, context=None):
        if when is None:
            raise TypeError("when cannot be None")
        return self.add_timer(when, callback, args, context, "call_at")

    cdef TimerHandle add_timer(self, when, callback, tuple args, context, str method):
        if self.closed:
            self._check_closed()
        if self.debug:
            self._check_thread()
            self._check_callback(callback, method)
        cdef int64_t deadline_ns = to_ns(when)
        cdef PyObject *made = new_timer(self, <PyObject *>when, <PyObject *>callback, items(args),
                                        len(args), <PyObject *>context)
        self.schedule(made, deadline_ns)
        handle = <TimerHandle>made
        Py_DECREF(made)                     # `handle` holds another reference
        return handle

    def get_debug(self):
        return self.debug

    def is_running(self):
        return self._thread_id is not None

    def is_closed(self):
        return self.closed

    def time(self):
        if class_version(class_of(self)) != self.class_version:
            self.look_at_class()
        if self.time_of_base_replaced:
            return super(NativeLoop, self).time()
        return self.monotonic_ns() / 1e9

    # -- hooks of the inherited code -------------------------------------------------

    def _opened(self):
        """Called when BaseEventLoop.__init__() has registered the self-pipe of the loop."""
        self.own_sources = self.slab.count

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
        if self.ring_count or self.stopping or self.has_pending():
            timeout = 0
        elif self.timers.count:
            first = <TimerHandle>mio_timers_first(&self.timers).owner
            timeout = min(max(0, first._when - self.time()), LONGEST_SELECT_S)
        self._process_events(self._selector.select(timeout))
        if self.timers.count:
            self.queue_due_timers()
        return self.run_ready(self.ring_count, False)

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

    def _call_soon(self, callback, args, context):
        return SockReactor.post(self, callback, tuple(args), context)

    def _add_callback(self, handle):
        if handle._cancelled:
            return
        # Some handles are made by the stdlib, for example for signal handlers.
        push_back(self, native_handle(self, handle))

    def _add_callback_signalsafe(self, handle):
        self._add_callback(handle)
        self.wake()

    def _write_to_self(self):
        self.wake()

    def _timer_handle_cancelled(self, handle):
        """Nothing to do: cancel() removes a timer from the heap."""

    def _add_reader(self, fd, callback, *args, context=None):
        return self.watch(fd, False, callback, args, context)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, True, callback, args, context)

    def _remove_reader(self, fd):
        return not self.closed and self.unwatch(fd, False)

    def _remove_writer(self, fd):
        return not self.closed and self.unwatch(fd, True)

    cdef Handle watch(self, fileobj, bint writing, callback, tuple args, context):
        cdef Watcher watcher
        cdef Handle handle
        self._check_closed()
        try:
            fd = fileobj_to_fd(fileobj)
        except ValueError:
            watcher = self.watcher_of_closed(fileobj)
            if watcher is None:
                raise
            handle = handle_of(self, callback, args, context)
            if writing and watcher.writer is not None:      # only the callback changes
                watcher.writer.cancel()
                watcher.writer = handle
                return handle
            if not writing and watcher.reader is not None:
                watcher.reader.cancel()
                watcher.reader = handle
                return handle
            return self.watch_fd(watcher.fd, writing, handle, fileobj)
        return self.watch_fd(fd, writing, handle_of(self, callback, args, context), fileobj)

    cdef bint unwatch(self, fileobj, bint writing) except -1:
        cdef Watcher watcher
        try:
            fd = fileobj_to_fd(fileobj)
        except ValueError:
            watcher = self.watcher_of_closed(fileobj)
            if watcher is not None:
                self.remember_displaced(fileobj)
                return self.unwatch_fd(watcher.fd, writing)
            if self.displaced is None or not is_in(self.displaced, fileobj):
                raise
            return False
        return self.unwatch_fd(fd, writing)

    cdef Watcher watcher_of_closed(self, fileobj):
        """The watcher of *fileobj*, which has been closed, or None.

        Rule R96: remove_reader() finds a closed object by its identity.
        """
        for fd in self.token_by_fd:
            source = self.source_of(fd)
            if isinstance(source, Watcher) and (<Watcher>source).fileobj is fileobj:
                return <Watcher>source
        return None

    def _watched_fds(self):
        """fd -> (fileobj, reader, writer), as add_reader() and add_writer() set them."""
        cdef Watcher watcher
        fds = {}
        for fd in self.token_by_fd:
            source = self.source_of(fd)
            if isinstance(source, Watcher):
                watcher = <Watcher>source
                if watcher.reader is not None or watcher.writer is not None:
                    fds[fd] = watcher.fileobj, watcher.reader, watcher.writer
        return fds

    def _transport_of_fd(self, int fd):
        """The native transport that uses *fd* now, or None."""
        source = self.source_of(fd)
        return source if hasattr(source, "is_closing") else None

    def _make_stream_transport(self, sock, protocol, waiter, extra, server, context):
        set_nodelay(sock, sock.proto)
        extra = {} if extra is None else dict(extra)
        transport = new_stream(self, sock, sock.fileno(), (sock.family, sock.type, sock.proto),
                               protocol, waiter, extra, server, context)
        transport.get_extra_info("sockname")    # reads both names now, while the socket has them
        return transport

    # If a newer stdlib passes an unknown keyword, the stdlib's own method makes the transport.

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None,
                                 **unknown):
        if unknown:
            return super()._make_datagram_transport(
                sock, protocol, address, waiter, extra, **unknown)
        self._ensure_fd_no_transport(sock)
        return new_datagram(self, sock, protocol, address, waiter,
                            {} if extra is None else dict(extra))

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None, **unknown):
        if unknown:
            return super()._make_read_pipe_transport(pipe, protocol, waiter, extra, **unknown)
        return new_read_pipe(self, pipe, protocol, waiter, {} if extra is None else dict(extra))

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None, **unknown):
        if unknown:
            return super()._make_write_pipe_transport(pipe, protocol, waiter, extra, **unknown)
        return new_write_pipe(self, pipe, protocol, waiter, {} if extra is None else dict(extra))

    def _make_listener(self, sock, protocol_factory, server, backlog, accept_tls, context):
        cdef Listener listener = new_listener(
            self, fileobj_to_fd(sock), sock, protocol_factory, server, backlog, accept_tls, context)
        listener.start()

    def _stop_listener(self, sock):
        fd = sock.fileno()
        for number in [fd] if fd >= 0 else list(self.token_by_fd):      # -1: its owner closed it
            source = self.source_of(number)
            if isinstance(source, Listener) and (<Listener>source).sock is sock:
                (<Listener>source).stop()

    def _watch_process(self, int pidfd, callback):
        """Run callback() once the process of *pidfd* has ended. Takes *pidfd* over."""
        new_process_end(self, pidfd, handle_of(self, callback, (), None))

    # -- loop.watch() ------------------------------------------------------------------

    def _watch_evented(self, evented, callback, args, make_event):
        """A new token for *evented*, which the caller registers with it on loop.poll."""
        cdef WatchedEvented source = WatchedEvented.__new__(WatchedEvented)
        self._check_closed()
        source.evented = evented
        source.make_event = make_event
        source.handle = handle_of(self, callback, args, None)
        self.attach(source, -1)
        return source.token

    cdef WatchedEvented watched(self, token):
        source = self.lookup(token) if 0 <= token < MIO_TOKEN_MAX else None
        if not isinstance(source, WatchedEvented):
            raise ValueError(f"{token!r} is not a token of this loop: loop.watch() gives them out")
        return <WatchedEvented>source

    def _watched_evented(self, token):
        """The Evented of *token*. Raises ValueError if watch() has not given out *token*, or if
        unwatch() has taken it back."""
        return self.watched(token).evented

    def _forget_evented(self, token):
        cdef WatchedEvented source = self.watched(token)
        source.handle.cancel()
        self.detach(source, False)

    def check_token(self, token):
        """Called by loop.poll before a registration, which needs a token given out by watch()."""
        self.watched(token).told = False

    def is_armed(self, token, bint oneshot):
        """Whether the registration under *token* must be made again after a fork."""
        source = self.lookup(token)
        return isinstance(source, WatchedEvented) and not (
            oneshot and (<WatchedEvented>source).told)

    @property
    def _poll_address(self):
        self.poll_is_shared = True
        return <size_t>self.poll

    # -- state that inherited code reads and writes -------------------------------------

    @property
    def _ready(self):
        cdef ReadyView view = ReadyView.__new__(ReadyView)
        view.reactor = self
        return view

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

    @property
    def _stopping(self):
        return self.stopping

    @_stopping.setter
    def _stopping(self, bint value):
        self.stopping = value

    @property
    def _closed(self):
        return self.closed

    @_closed.setter
    def _closed(self, bint value):
        self.closed = value

    @property
    def _debug(self):
        return self.debug

    @_debug.setter
    def _debug(self, value):
        self.debug = bool(value)
        self.update_instrumented()

    # -- the slow path: debug mode, monitors, replaced clocks ------------------------------

    cdef int serve_tools(self) except -1:
        if (class_version(self.timer_class) != self.timer_class_version
                or class_version(self.thread_safe_class) != self.thread_safe_class_version):
            self.look_for_hooks()
        if class_version(class_of(self)) != self.class_version:
            self.look_at_class()
        if self.shown_timers is not None:
            self.show_timers()
            if Py_REFCNT(<PyObject *>self.shown_timers) == 1:       # no tool holds the list any more
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

    cdef inline int look_for_overrides(self) except -1:
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
        self.class_has_call_at = method is not method_call_at and method is not slow_call_at
        method = cls.call_soon
        self.class_has_call_soon = method is not method_call_soon and method is not slow_call_soon
        self.time_replaced = self.class_has_time
        self.call_at_replaced = self.class_has_call_at
        self.call_soon_replaced = self.class_has_call_soon
        self.check_run_once()
        self.check_selector()
        self.class_version = version_of(class_of(self))
        return 0

    cdef object post(self, callback, tuple args, context):
        """Schedule a call for a transport. Uses the program's call_soon() if it has replaced it."""
        self.look_for_overrides()
        if not self.call_soon_replaced:
            return SockReactor.post(self, callback, args, context)
        if context is None:
            return self.call_soon(callback, *args)
        return self.call_soon(callback, *args, context=context)

    cdef seconds(self):
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

    cdef int report(self, dict context) except -1:
        self.call_exception_handler(context)
        return 0


# -- scheduling, the fast path -----------------------------------------------------------
#
# C methods that take their arguments as a vector. They avoid the tuple and the keyword parsing of
# a `def` with *args, which would take half of the time of a call_soon(). They replace the methods
# of NativeLoop in EventLoop, and call these for the rare cases: a callback passed by keyword, debug
# mode, a closed loop, a task factory, wrong arguments.

# The tuple of keyword names of the last call with context=. All calls from one place of a program,
# such as the calls that tasks make, pass one tuple object, so a comparison of pointers suffices.
cdef tuple context_only = ("context",)


cdef bint is_context_only(PyObject *kwnames) except -1:
    global context_only
    if <tuple>kwnames != ("context",):
        return False
    context_only = <tuple>kwnames
    return True


# The tuple of the last create_task(name=...), and the keyword names for asyncio's classes.
cdef tuple name_only = ("name",)
cdef tuple loop_only = ("loop",)
cdef tuple loop_and_name = ("loop", "name")

# Task and Future are looked up at each call: tools replace them.
cdef dict tasks_namespace = tasks.__dict__
cdef dict futures_namespace = futures.__dict__


cdef bint is_name_only(PyObject *kwnames) except -1:
    global name_only
    if <tuple>kwnames != ("name",):
        return False
    name_only = <tuple>kwnames
    return True


cdef inline bint is_fast_call(NativeLoop loop, Py_ssize_t missing, PyObject *kwnames) except -1:
    if missing > 0 or loop.closed or loop.debug:
        return False
    return (kwnames == NULL or kwnames == <PyObject *>context_only or is_context_only(kwnames))


cdef PyObject *call_slow(method, NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                        PyObject *kwnames) except NULL:
    cdef Py_ssize_t i
    positional = [<object>args[i] for i in range(count)]
    keywords = {}
    if kwnames != NULL:
        for i, name in enumerate(<tuple>kwnames):
            keywords[name] = <object>args[count + i]
    result = method(loop, *positional, **keywords)
    Py_INCREF(<PyObject *>result)
    return <PyObject *>result


cdef object native_run_once = NativeLoop._run_once
cdef object native_process_events = NativeLoop._process_events
cdef object native_time = NativeLoop.time
cdef object method_call_soon = None     # the fast method that install_fast_methods() has set
cdef object method_call_at = None
cdef object slow_call_soon = NativeLoop.call_soon
cdef object slow_call_soon_threadsafe = NativeLoop.call_soon_threadsafe
cdef object slow_call_later = NativeLoop.call_later
cdef object slow_call_at = NativeLoop.call_at
cdef object slow_create_task = base_events.BaseEventLoop.create_task


cdef inline PyObject *queue_handle(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                                   PyObject *kwnames) except NULL:
    cdef PyObject *handle
    if loop.ring_count == loop.ring_capacity:
        loop.grow_ring()                    # now, because push() must not fail with a new handle
    handle = new_handle(loop, args[0], args + 1, count - 1,
                        NULL if kwnames == NULL else args[count])
    loop.push(handle)
    return handle


cdef PyObject *fast_call_soon(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                         PyObject *kwnames) except NULL:
    if not is_fast_call(loop, 1 - count, kwnames):
        return call_slow(slow_call_soon, loop, args, count, kwnames)
    return queue_handle(loop, args, count, kwnames)


cdef PyObject *fast_call_soon_threadsafe(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                                    PyObject *kwnames) except NULL:
    cdef PyObject *handle
    if not is_fast_call(loop, 1 - count, kwnames):
        return call_slow(slow_call_soon_threadsafe, loop, args, count, kwnames)
    if loop.ring_count == loop.ring_capacity:
        loop.grow_ring()
    handle = new_thread_safe(loop, args[0], args + 1, count - 1,
                             NULL if kwnames == NULL else args[count])
    loop.push(handle)
    loop.wake()
    return handle


cdef PyObject *fast_call_later(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                          PyObject *kwnames) except NULL:
    if (not is_fast_call(loop, 2 - count, kwnames) or args[0] == <PyObject *>None
            or loop.call_at_replaced):
        return call_slow(slow_call_later, loop, args, count, kwnames)
    when = loop.seconds() + <object>args[0]
    if loop.call_at_replaced:               # seconds() has updated this flag
        return call_slow(slow_call_later, loop, args, count, kwnames)
    return schedule_timer(loop, when, args, count, kwnames)


cdef PyObject *fast_call_at(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                       PyObject *kwnames) except NULL:
    if not is_fast_call(loop, 2 - count, kwnames) or args[0] == <PyObject *>None:
        return call_slow(slow_call_at, loop, args, count, kwnames)
    return schedule_timer(loop, <object>args[0], args, count, kwnames)


cdef PyObject *schedule_timer(NativeLoop loop, when, PyObject *const *args, Py_ssize_t count,
                           PyObject *kwnames) except NULL:
    cdef int64_t deadline_ns = to_ns(when)
    cdef PyObject *handle = new_timer(loop, <PyObject *>when, args[1], args + 2, count - 2,
                                      NULL if kwnames == NULL else args[count])
    loop.schedule(handle, deadline_ns)
    return handle


cdef inline PyObject *new_by_call(cls, PyObject **args, size_t count, PyObject *kwnames) except NULL:
    """Call *cls*. The callee may overwrite args[-1]."""
    cdef PyObject *made = PyObject_Vectorcall(
        <PyObject *>cls, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames)
    if made == NULL:
        raised()
    return made


cdef PyObject *fast_create_task(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                           PyObject *kwnames) except NULL:
    cdef PyObject *vector[4]                # the callee may overwrite [0]
    if (count != 1 or loop._task_factory is not None or loop.closed or loop.debug
            or kwnames != NULL and kwnames != <PyObject *>name_only
            and not is_name_only(kwnames)):
        return call_slow(slow_create_task, loop, args, count, kwnames)
    vector[1] = args[0]
    vector[2] = <PyObject *>loop
    if kwnames != NULL:
        vector[3] = args[1]
    task_class = tasks_namespace["Task"]
    return new_by_call(task_class, &vector[1], 1,
                       <PyObject *>(loop_only if kwnames == NULL else loop_and_name))


cdef PyObject *fast_create_future(NativeLoop loop, PyObject *unused) except NULL:
    cdef PyObject *vector[2]
    vector[1] = <PyObject *>loop
    future_class = futures_namespace["Future"]
    return new_by_call(future_class, &vector[1], 0, <PyObject *>loop_only)


cdef enum:
    FAST_METHODS = 6

cdef PyMethodDef fast_methods[FAST_METHODS]
fast_methods[0] = PyMethodDef(
    "call_soon", <void *>fast_call_soon, METH_FASTCALL | METH_KEYWORDS,
    "call_soon($self, callback, /, *args, context=None)\n--\n\n"
    "Call callback(*args) in the next turn.")
fast_methods[1] = PyMethodDef(
    "call_soon_threadsafe", <void *>fast_call_soon_threadsafe, METH_FASTCALL | METH_KEYWORDS,
    "call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n"
    "call_soon() from any thread, or from a signal handler: the loop wakes up.")
fast_methods[2] = PyMethodDef(
    "call_later", <void *>fast_call_later, METH_FASTCALL | METH_KEYWORDS,
    "call_later($self, delay, callback, /, *args, context=None)\n--\n\n"
    "Call callback(*args) *delay* seconds from now.")
fast_methods[3] = PyMethodDef(
    "call_at", <void *>fast_call_at, METH_FASTCALL | METH_KEYWORDS,
    "call_at($self, when, callback, /, *args, context=None)\n--\n\n"
    "Call callback(*args) when loop.time() is *when*.")
fast_methods[4] = PyMethodDef(
    "create_task", <void *>fast_create_task, METH_FASTCALL | METH_KEYWORDS,
    "create_task($self, coro, /, **kwargs)\n--\n\n"
    "An asyncio.Task of this loop that runs coro, or what the task factory makes of it.\n\n"
    "The keywords are those of asyncio.create_task(), as this version of Python has them.")
fast_methods[5] = PyMethodDef(
    "create_future", <void *>fast_create_future, METH_NOARGS,
    "create_future($self, /)\n--\n\n"
    "An asyncio.Future of this loop.")


def install_fast_methods(loop_type):
    """Set the C methods above on *loop_type*, a subclass of NativeLoop.

    They are made for exactly this type: the interpreter calls a C method directly only if the type
    of the object is the type that the method was made for.
    """
    global method_call_soon, method_call_at
    cdef int i
    for i in range(FAST_METHODS):
        setattr(loop_type, fast_methods[i].ml_name.decode(),
                owned_object(PyDescr_NewMethod(<PyTypeObject *>loop_type, &fast_methods[i])))
    method_call_soon, method_call_at = loop_type.call_soon, loop_type.call_at


seal(ReadyView)
seal(WatchedEvented)
