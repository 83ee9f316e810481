"""The hot half of the event loop: call_soon(), call_later(), create_task(), and hooks of asyncio.

NativeLoop stands before asyncio.SelectorEventLoop in the bases of EventLoop: a method that is
defined here replaces the stdlib's method of that name. All other methods are the stdlib's. The
attributes that inherited code reads and writes (_ready, _stopping, _thread_id ...) are stored
here, in one copy. The bases of NativeLoop, each a layer of its own:

    TracingReactor   tracing.pyx    records of callbacks and events, for the console
    MeasuringReactor measuring.pyx  stats(), latency(), durations()
    ToolsReactor     tools.pyx      what tools see and replace: _ready, _scheduled, _run, time()
    WatchingReactor  watching.pyx   add_reader() and its family, loop.watch()
    SockReactor      sock.pyx       sock_recv() and its family
    Reactor          reactor.pyx    one turn: poll, callbacks, events, timers
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from mioloop.loop.tracing cimport TracingReactor
from mioloop.loop.queues cimport native_handle, push_back
from mioloop.loop.seconds cimport to_ns
from mioloop.loop.sock cimport SockReactor
from mioloop.loop.tools cimport resolver_is_asyncios, set_own_methods
from mioloop.reactor.handle cimport (
    Handle, TimerHandle, handle_of, items, new_handle, new_thread_safe, new_timer)
from mioloop.reactor.core cimport mio_ring_is_full
from mioloop.reactor.python_api cimport *
from mioloop.reactor.forking cimport forks
from mioloop.reactor.watcher cimport Watcher
from mioloop.transports.address cimport is_ipv4_address
from mioloop.transports.datagram cimport new_datagram
from mioloop.transports.listener cimport Listener, new_listener
from mioloop.transports.pipe cimport new_read_pipe, new_write_pipe
from mioloop.transports.process cimport new_process_end
from mioloop.transports.new_stream cimport kind_of, new_stream, read_addresses, set_nodelay

from asyncio import base_events, futures, selector_events, tasks

from mioloop import stdlib

cdef object fileobj_to_fd = stdlib.fileobj_to_fd


# -- the fast methods ----------------------------------------------------------------------
#
# loop.call_soon(...) of a program runs fast_call_soon(): install_fast_methods() sets these
# functions on EventLoop, in the place of the `def` of NativeLoop with that name, which is the slow
# method. A fast method takes its arguments as a vector. It avoids the tuple and the keyword parsing
# of a `def` with *args, which would take half of the time of a call_soon(). It calls the slow
# method in the rare cases: a callback passed by keyword, debug mode, a closed loop, a task factory,
# wrong arguments.

cdef class NativeLoop(TracingReactor)             # below


cdef PyObject *fast_call_soon(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                              PyObject *kwnames) except NULL:
    if not is_fast_call(loop, 1 - count, kwnames):
        return call_slow(slow_call_soon, loop, args, count, kwnames)
    return queue_handle(loop, args, count, kwnames)


cdef inline PyObject *queue_handle(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                                   PyObject *kwnames) except NULL:
    cdef PyObject *handle
    if mio_ring_is_full(&loop.ring):
        loop.grow_ring()                    # now, because push() must not fail with a new handle
    handle = new_handle(loop, args[0], args + 1, count - 1,
                        NULL if kwnames == NULL else args[count])
    loop.push(handle)
    return handle


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


cdef PyObject *fast_call_soon_threadsafe(NativeLoop loop, PyObject *const *args, Py_ssize_t count,
                                         PyObject *kwnames) except NULL:
    cdef PyObject *handle
    if not is_fast_call(loop, 1 - count, kwnames):
        return call_slow(slow_call_soon_threadsafe, loop, args, count, kwnames)
    if mio_ring_is_full(&loop.ring):
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
    when = loop.loop_time() + <object>args[0]
    if loop.call_at_replaced:               # loop_time() has updated this flag
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


cdef inline PyObject *new_by_call(cls, PyObject **args, size_t count,
                                  PyObject *kwnames) except NULL:
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


cdef class NativeLoop(TracingReactor):

    # Attributes that BaseEventLoop's own code uses. Its __init__ assigns some of them, and these
    # assignments go to the fields here.
    cdef public object _thread_id
    cdef public object _task_factory

    def _open(self, options):
        """Make the Poll. Called before BaseEventLoop.__init__(), which registers the self-pipe."""
        self.ready_given = self.scheduled_given = False     # __init__() may be called twice
        self.open_reactor(options.selector, options.trigger, options.spin, options.io_uring)
        self.measure_durations(options.durations)

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

    # -- scheduling: the slow methods, which the fast methods above call in rare cases -----

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
        when = self.loop_time() + delay
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

    # -- hooks of the inherited code -------------------------------------------------

    def _opened(self):
        """Called when BaseEventLoop.__init__() has registered the self-pipe of the loop."""
        self.own_sources = self.slab.count

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

    def _make_stream_transport(self, sock, protocol, waiter, extra, server, context):
        sock_kind = kind_of(sock)
        set_nodelay(sock, sock_kind)
        transport = new_stream(self, sock, sock.fileno(), sock_kind, protocol, waiter,
                               None if extra is None else dict(extra), server, context)
        if not read_addresses(transport):           # now, while the socket has them
            transport.get_extra_info("sockname")    # reads both
        return transport

    def _resolves_to_itself(self, host, port):
        """Whether create_connection() would take *host* and *port* as an address of AF_INET, and
        then run only code of asyncio and mioloop that no tool or subclass has replaced."""
        return (is_ipv4_address(host, port) and not self.debug and resolver_is_asyncios()
                and self.connects_by_own_steps())

    def _make_client_transport(self, sock, protocol, waiter, context):
        """_make_socket_transport() for the socket that a create_connection() has made."""
        source = self.source_of(sock.fileno())
        if not self.has_only_native_transports() or not (
                source is None or isinstance(source, Watcher)):
            return self._make_socket_transport(sock, protocol, waiter, context=context)
        return self._make_stream_transport(sock, protocol, waiter, None, None, context)

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

    # -- state that inherited code reads and writes -------------------------------------

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

    # -- services of the loop that the lower layers use (reactor/services.pyx) ------------

    cdef int report(self, dict context) except -1:
        self.call_exception_handler(context)
        return 0

    cdef object new_future(self):
        return self.create_future()

    cdef object call_after(self, delay_s, callback):
        return self.call_later(delay_s, callback)


# -- installation of the fast methods --------------------------------------------------------

cdef object slow_call_soon = NativeLoop.call_soon
cdef object slow_call_soon_threadsafe = NativeLoop.call_soon_threadsafe
cdef object slow_call_later = NativeLoop.call_later
cdef object slow_call_at = NativeLoop.call_at
cdef object slow_create_task = base_events.BaseEventLoop.create_task

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
    """Set the fast methods on *loop_type*, a subclass of NativeLoop.

    They are made for exactly this type: the interpreter calls a C method directly only if the type
    of the object is the type that the method was made for.
    """
    cdef int i
    for i in range(FAST_METHODS):
        setattr(loop_type, fast_methods[i].ml_name.decode(),
                owned_object(PyDescr_NewMethod(<PyTypeObject *>loop_type, &fast_methods[i])))
    steps = {name: (getattr(loop_type, name), module) for name, module in (
        ("create_connection", base_events),
        ("_create_connection_transport", base_events),
        ("_ensure_fd_no_transport", selector_events),
        ("sock_connect", None),
        ("_make_socket_transport", None))}
    steps["_connect_sock"] = steps["_ensure_resolved"] = (None, base_events)
    set_own_methods((loop_type.call_soon, slow_call_soon), (loop_type.call_at, slow_call_at), steps)
