"""The sock_*() methods: each is a coroutine that tries first, and waits only if it would block.

A call is one object, SockCall: the coroutine that is awaited, and its place among the calls that
wait for one socket. It is not a Cython `async def`, which takes three objects for each call
(closure, coroutine, its awaitable) and a fourth one for the queue when it waits. Like a coroutine
of Python, it passes its result to a task by am_send, without a StopIteration.

Registration  is made at the first wait, edge-triggered, and kept: a later wait makes no system call
              except the poll. It is level-triggered while add_reader() or add_writer() watches the
              descriptor. It is removed when such a watch ends and no call waits, and when a
              transport takes the descriptor over.
Waking        An event only sets the future of the first call of its direction. The call receives
              when its task runs. A call that is cancelled before that has consumed no data
              (rule R30), and wakes the next call.
Order         Calls of one direction are served in the order of their arrival. On asyncio a second
              call replaces the first, which then waits for ever, and the data of two sendall() mix.
Closed        The program may close a socket without telling the loop, and its number may be used
              again (rule R29). So a watcher knows its socket object. If a call comes with another
              object, the reactor asks the poll whether the registration still exists. If it does
              not, the old watcher is dismissed.
"""

cimport cython
from cpython.buffer cimport (PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from mioloop.loop.coroutine_slots cimport set_resume
from mioloop.loop.sock_methods cimport *
from mioloop.reactor.core cimport *
from mioloop.reactor.python_api cimport *
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.source cimport Source
from mioloop.reactor.watcher cimport Watcher
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, give_back
from mioloop.transports.sendfile cimport FileSending, open_file
from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import errno
import socket as socket_module
import warnings
import weakref

from mioloop import stdlib
from mioloop.loop.coroutine_marks import mark_coroutine_function

cdef tuple NAMES = ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into",
                    "sock_accept", "sock_sendall", "sock_sendto", "sock_connect",
                    "sock_sendfile", "sock_connect")
# The property of the C base class: the property of the Python class makes an enum of the value.
cdef object type_of_socket = socket_module.SocketType.type.__get__
cdef int SOCK_STREAM = socket_module.SOCK_STREAM
cdef tuple WOULD_BLOCK = (BlockingIOError, InterruptedError)
cdef tuple CONNECT_GOES_ON = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
cdef set IP_FAMILIES = {socket_module.AF_INET}
if stdlib.HAS_IPV6:
    IP_FAMILIES.add(socket_module.AF_INET6)

# The states of a SockCall, each with the states that may follow it
MAY_BECOME = {
    "NEW": ("TRYING", "FINISHED"),
    "TRYING": ("WAITING", "WOKEN", "FINISHED"),
    "WAITING": ("WOKEN", "FINISHED"),
    "WOKEN": ("TRYING", "FINISHED"),
    "FINISHED": (),
}
cdef tuple STATES = tuple(MAY_BECOME)


cdef class SockReactor(Reactor):

    def sock_recv(self, sock, n):
        """Receive up to *n* bytes; b"" at the end of the stream."""
        return new_call(self, RECV, sock, n, None)

    def sock_recv_into(self, sock, buf):
        """Receive into *buf*; returns the number of bytes."""
        return new_call(self, RECV_INTO, sock, buf, None)

    def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram of up to *bufsize* bytes; returns it and its sender."""
        return new_call(self, RECVFROM, sock, bufsize, None)

    def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into *buf*; returns the number of bytes and the sender."""
        return new_call(self, RECVFROM_INTO, sock, buf, nbytes)

    def sock_sendall(self, sock, data):
        """Send all of *data*. It must not be changed meanwhile, because it is not copied.

        After an error or a cancellation, the number of bytes sent is unknown.
        """
        return new_call(self, SENDALL, sock, data, None)

    def sock_sendto(self, sock, data, address):
        """Send a datagram to *address*; returns the number of bytes sent."""
        return new_call(self, SENDTO, sock, data, address)

    def sock_accept(self, sock):
        """Accept a connection; returns its socket, non-blocking, and the peer's address."""
        return new_call(self, ACCEPT, sock, None, None)

    async def sock_connect(self, sock, address):
        """Connect to *address*; the host name of an IP socket is resolved."""
        check_socket(sock, self.debug)
        if sock.family in IP_FAMILIES:
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
            address = resolved[0][4]
        await new_call(self, CONNECT, sock, address, None)

    def _sock_connect_resolved(self, sock, address):
        """sock_connect() to an *address* that asyncio would not resolve."""
        return new_call(self, CONNECT, sock, address, None)

    async def _sock_sendfile_native(self, sock, file, offset, count):
        cdef FileSending sending = open_file(file, offset, count)

        if sending is None:
            return 0
        try:
            return await new_call(self, SENDFILE, sock, sending, None)
        finally:
            sending.leave_position()

    cdef SockWatcher watcher_for(self, object sock, int fd):
        """The watcher where calls on *sock* wait; makes one if there is none.

        Raises RuntimeError if a transport uses the descriptor (rule R28).
        """
        cdef SockWatcher watcher, new
        cdef Watcher old = None
        cdef Source source = self.source_of(fd)

        if type(source) is SockWatcher:
            watcher = <SockWatcher>source
            if watcher.reader is not None or watcher.writer is not None:
                self.refuse(fd, None)       # a stdlib transport may have set these callbacks
            if watcher.sock is not None and watcher.sock() is sock:
                return watcher
        elif source is not None and not isinstance(source, Watcher):
            self.refuse(fd, source)
        self._check_closed()
        if source is not None:
            old = <Watcher>source
            if not is_current(self, old):
                old.hand_over(self, None)
                old = None
            elif type(old) is SockWatcher:
                remember(<SockWatcher>old, sock)
                return <SockWatcher>old
        self.refuse(fd, None)
        new = SockWatcher.__new__(SockWatcher)
        new.reactor = self
        new.readers = []
        new.writers = []
        remember(new, sock)
        if old is not None:
            new.reader, new.writer = old.reader, old.writer
        self.attach(new, fd)
        return new

    cdef bint has_only_native_transports(self) except -1:
        """False if `_ensure_fd_no_transport` may refuse a descriptor that no source has."""
        return False

    cdef int refuse(self, int fd, Source source) except -1:
        """Raise RuntimeError if a transport that is not closing has the descriptor."""
        if source is not None or not self.has_only_native_transports():
            self._ensure_fd_no_transport(fd)
        if source is not None:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {source!r}")
        return 0


cdef bint is_current(Reactor reactor, Watcher watcher) except -1:
    """Ask the poll whether the file of *watcher* is still open.

    False if it was closed, and another file has its number now.
    """
    if not watcher.registered:              # there is no registration that could be stale
        return True
    if type(watcher) is SockWatcher and (<SockWatcher>watcher).armed:
        return reactor.reregister_if_same(watcher, (<SockWatcher>watcher).armed, MIO_EDGE)
    return reactor.reregister_if_same(watcher, watcher.interest(), MIO_LEVEL)


cdef int remember(SockWatcher watcher, object sock) except -1:
    try:
        watcher.sock = weakref.ref(sock)
    except TypeError:
        watcher.sock = None
    return 0


@cython.final
cdef class SockWatcher(Watcher):

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.readers and wakes_reader(ready):
            (<SockCall>self.readers[0]).wake()
        if self.writers and wakes_writer(ready):
            (<SockCall>self.writers[0]).wake()
        return Watcher.on_ready(self, ready)

    cdef uint32_t interest(self) noexcept:
        return ((MIO_READABLE if self.readers or self.reader is not None else 0)
                | (MIO_WRITABLE if self.writers or self.writer is not None else 0))

    cdef int update(self, Reactor reactor) except -1:
        if self.reader is not None or self.writer is not None:
            self.armed = 0
            return reactor.register(self, self.interest(), MIO_LEVEL)
        self.wanted |= self.interest()
        if self.armed != self.wanted:
            self.armed = 0
            reactor.register(self, self.wanted, MIO_EDGE)
            self.armed = self.wanted
        return 0

    cdef int enter(self, SockCall call) except -1:
        """Put *call* into its list, if it is not in a list already."""
        if call.watcher is None:
            (self.writers if call.operation >= SENDALL else self.readers).append(call)
            call.watcher = self
        return 0

    cdef int join(self, SockCall call) except -1:
        """Let *call* wait for readiness. It has just found that it would block."""
        cdef bint writing = call.operation >= SENDALL

        self.enter(call)
        if call.operation == CONNECTING:    # a read probably follows: this saves a system call
            self.wanted |= MIO_READABLE
        self.update(self.reactor)
        return self.reactor.drained(self, MIO_WRITABLE if writing else MIO_READABLE)

    cdef int leave(self, SockCall call, bint woken) except -1:
        """Remove *call*, which has ended. If an event had *woken* it, wake the next call."""
        cdef list calls = self.writers if call.operation >= SENDALL else self.readers

        call.watcher = None
        calls.remove(call)
        if not self.attached:               # the loop is closed
            return 0
        if woken and calls:
            (<SockCall>calls[0]).wake()
        if self.reader is not None or self.writer is not None:
            try:
                self.update(self.reactor)   # level-triggered: keep only the interest that is needed
            except OSError:                 # the owner has closed the descriptor
                self.hand_over(self.reactor, None)
        elif not self.registered and self.interest() == 0:
            self.reactor.detach(self, False)
        return 0

    cdef int hand_over(self, Reactor reactor, Source successor) except -1:
        if successor is not None and self.armed:
            # Edges for a token that is gone do no harm: registering replaces them in one call.
            successor.registered, self.registered = self.registered, False
        reactor.detach(self, False)
        return self.wake_all()

    cdef int wake_all(self) except -1:
        """Wake all waiting calls, because no event will come here: they must try again."""
        cdef SockCall call
        for calls in (self.readers, self.writers):
            for call in calls:
                call.watcher = None
                call.wake()
            calls.clear()
        return 0


@cython.final
@cython.freelist(64)
cdef class SockCall:

    # -- the coroutine ----------------------------------------------------------------

    def __await__(self):
        return self

    def __next__(self):
        if self.advance() == WAITING:
            return self.waiter
        raise StopIteration(take_result(self))

    def send(self, value):
        """coroutine.send(): continue until the call is done, or return the future it waits for."""
        return self.__next__()

    def throw(self, exc, value=None, traceback=None):
        """coroutine.throw(): end the call with the given exception."""
        if self.state == CALL_FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.end()
        if value is None:
            value = exc if isinstance(exc, BaseException) else exc()
        elif not isinstance(value, BaseException):
            value = exc(value)
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        """coroutine.close(): end the call without receiving or sending."""
        self.end()

    @property
    def __name__(self):
        return NAMES[self.operation]

    @property
    def __qualname__(self):
        return f"EventLoop.{NAMES[self.operation]}"

    def __repr__(self):
        return f"<coroutine {self.__qualname__} of {self.sock!r}>"

    def __dealloc__(self):
        PyBuffer_Release(&self.view)
        if self.state == CALL_NEW:
            warnings.warn(f"coroutine '{NAMES[self.operation]}' was never awaited", RuntimeWarning)

    # -- the state ----------------------------------------------------------------------

    @property
    def _call_state(self):
        """The name of the state, a key of MAY_BECOME."""
        return STATES[<int>self.state]

    cdef int become(self, CallState state) except -1:
        assert STATES[<int>state] in MAY_BECOME[STATES[<int>self.state]], (
            f"{self!r}: {STATES[<int>state]} after {STATES[<int>self.state]}")
        self.state = state
        return self.check()

    cdef int check(self) except -1:
        """Assert what is true in each state (in a debug build)."""
        assert self.state != CALL_NEW or (self.watcher is None and self.waiter is None)
        assert self.state != CALL_WAITING or self.waiter is not None
        assert <PyObject *>self.view.obj == NULL or self.operation == SENDALL
        assert self.operation != CONNECTING or self.state != CALL_NEW
        return 0

    # -- trying and waiting ---------------------------------------------------------------

    cdef Step advance(self) except FAILED:
        """Try the operation. RETURNED: `result` is set. WAITING: call again when `waiter` is done.

        With a `waiter` of None, call again in the next turn.
        """
        cdef int fd
        cdef Outcome outcome = BLOCKED
        cdef CallState before = self.state
        if before == CALL_FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if before == CALL_WAITING or before == CALL_TRYING:
            raise RuntimeError("the future that a sock_*() waits for is not done")
        try:
            self.become(CALL_TRYING)
            if before == CALL_NEW:
                check_socket(self.sock, self.loop.debug)
            fd = self.sock.fileno() if self.plain else fileno(self.sock)
            if not self.must_queue(fd):
                outcome = self.attempt(fd)
            if outcome == DONE:
                self.end()
                return RETURNED
            self.wait(fd, outcome)
            return WAITING
        except BaseException:
            self.end()
            raise

    cdef bint must_queue(self, int fd) except -1:
        """Whether this call must wait before it tries: it may have been woken without readiness,
        and an earlier call may be waiting."""
        cdef Source source

        if self.watcher is not None:
            return False
        if self.operation == CONNECTING:    # SO_ERROR is not valid before the socket is ready
            return True
        if self.operation == CONNECT:
            return False
        source = self.loop.source_of(fd)
        if type(source) is not SockWatcher:
            return False
        if self.operation >= SENDALL:
            return bool((<SockWatcher>source).writers)
        return bool((<SockWatcher>source).readers)

    cdef int wait(self, int fd, Outcome outcome) except -1:
        cdef SockWatcher watcher = self.watcher
        if self.state == CALL_FINISHED:     # a method of the user's socket class called close()
            raise RuntimeError(f"{self.__name__}() was closed while it ran")
        if watcher is None:
            watcher = self.loop.watcher_for(self.sock, fd)
        if outcome == TURN_SPENT:
            self.become(CALL_WOKEN)
            self.waiter = None              # like a bare yield: continue in the next turn
            return watcher.enter(self)
        self.waiter = self.loop.new_future()
        self.become(CALL_WAITING)
        watcher.join(self)
        self.waiter._asyncio_future_blocking = True     # as Future.__await__() sets it
        return 0

    cdef int wake(self) except -1:
        if self.state == CALL_WAITING:
            self.become(CALL_WOKEN)
            if not self.waiter.done():      # if it was cancelled, the task calls throw() next
                self.waiter.set_result(None)
        return 0

    cdef int end(self) except -1:
        cdef SockWatcher watcher = self.watcher     # leave() drops a reference, maybe the last one
        cdef bint woken = self.state == CALL_WOKEN or self.state == CALL_TRYING
        if self.state != CALL_FINISHED:
            self.become(CALL_FINISHED)
        if watcher is not None:
            watcher.leave(self, woken)
        PyBuffer_Release(&self.view)        # does nothing if there is none
        self.waiter = self.sock = self.argument = self.argument2 = None
        return 0

    # -- the operations: True: `result` is set; False: the call would block ----------------

    cdef Outcome attempt(self, int fd) except RAISED:
        if self.operation == SENDFILE:
            return self.send_file(fd)
        return DONE if self.try_operation(fd) else BLOCKED

    cdef bint try_operation(self, int fd) except -1:
        if self.plain:
            if self.operation == RECV:
                return self.receive(fd)
            if self.operation == SENDALL:
                return self.send_rest(fd)
            if self.operation == RECV_INTO:
                return self.receive_into(fd)
        if self.operation == CONNECT or self.operation == CONNECTING:
            return self.connect()
        return self.call_socket()

    cdef bint receive(self, int fd) except -1:
        """Receive into the buffer that all reads share, then copy into bytes of the right size."""
        cdef SockReactor loop = self.loop
        cdef Py_ssize_t size = self.argument
        cdef Py_ssize_t n
        cdef bytes buffer

        if size < 0:
            raise ValueError("negative buffersize in recv")
        if size > READ_SIZE:
            if <int>type_of_socket(self.sock) != SOCK_STREAM:
                return self.call_socket()      # the rest of a datagram would be lost
            size = READ_SIZE
        buffer = borrow(&loop.buffers.received)
        n = mio_recv(fd, PyBytes_AS_STRING(buffer), size)
        try:
            if n < 0:
                return would_block(n)
            self.result = PyBytes_FromStringAndSize(PyBytes_AS_STRING(buffer), n)
        finally:
            give_back(&loop.buffers.received, buffer)
        return True

    cdef bint receive_into(self, int fd) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t n

        try:
            PyObject_GetBuffer(self.argument, &view, PyBUF_WRITABLE)
        except BufferError:
            return self.call_socket()       # raises the exception of socket.recv_into()
        n = mio_recv(fd, view.buf, view.len)
        PyBuffer_Release(&view)
        if n < 0:
            return would_block(n)
        self.result = n
        return True

    cdef bint send_rest(self, int fd) except -1:
        """Send the rest of the data. A short send leaves the socket full: an edge will follow."""
        cdef Py_ssize_t n

        if <PyObject *>self.view.obj == NULL:
            PyObject_GetBuffer(self.argument, &self.view, PyBUF_SIMPLE)
        n = mio_send(fd, <char *>self.view.buf + self.sent, self.view.len - self.sent)
        if n < 0:
            return would_block(n)
        self.sent += n
        return self.sent == self.view.len

    cdef Outcome send_file(self, int fd) except RAISED:
        cdef FileSending file = self.argument
        cdef Py_ssize_t n = file.send_part(fd)

        if n < 0:
            if is_would_block(n):
                return BLOCKED
            raise file.failure(-n)
        self.result = file.sent
        return TURN_SPENT if n > 0 else DONE

    cdef bint call_socket(self) except -1:
        try:
            if self.operation == SENDALL:
                return self.send_by_method()
            self.result = call_method(self.sock, self.operation, self.argument, self.argument2)
            return True
        except WOULD_BLOCK:
            return False

    cdef bint send_by_method(self) except -1:
        data = memoryview(self.argument).cast("B")
        self.sent += self.sock.send(data[self.sent:] if self.sent else self.argument)
        return self.sent == len(data)

    cdef bint connect(self) except -1:
        if self.operation == CONNECT:
            try:
                self.sock.connect(self.argument)
            except WOULD_BLOCK as exc:
                # EAGAIN is a failure: the queue of a Unix listener is full, and no event
                # reports when it has room.
                if exc.errno not in CONNECT_GOES_ON:
                    raise
                self.operation = CONNECTING
                return False
            return True
        error = self.sock.getsockopt(socket_module.SOL_SOCKET, socket_module.SO_ERROR)
        if error:
            raise OSError(error, f"Connect call failed {self.argument}")
        return True


cdef object take_result(SockCall call):
    result, call.result = call.result, None
    return result


cdef SockCall new_call(SockReactor loop, Operation operation, object sock, object argument,
                       object argument2):
    cdef SockCall call = SockCall.__new__(SockCall)
    call.loop = loop
    call.operation = operation
    call.sock = sock
    call.argument = argument
    call.argument2 = argument2
    call.plain = is_plain(sock)
    return call


cdef PySendResult send_slot(PyObject *self, PyObject *arg, PyObject **result) except PYGEN_ERROR:
    """SockCall.send() for tasks, which call am_send."""
    cdef SockCall call = <SockCall>self
    cdef Step step

    result[0] = NULL
    step = call.advance()
    value = call.waiter if step == WAITING else take_result(call)
    Py_INCREF(<PyObject *>value)
    result[0] = <PyObject *>value
    return PYGEN_NEXT if step == WAITING else PYGEN_RETURN


cdef PyObject *next_slot(PyObject *self) except? NULL:
    """SockCall.__next__() for `await`, which calls tp_iternext from 3.11 on."""
    cdef SockCall call = <SockCall>self

    if call.advance() == WAITING:
        value = call.waiter
        Py_INCREF(<PyObject *>value)
        return <PyObject *>value
    value = take_result(call)
    if value is not None:                   # NULL without an exception means StopIteration(None)
        stop = StopIteration(value)
        PyErr_SetObject(PyExc_StopIteration, <PyObject *>stop)
    return NULL


set_resume(<PyTypeObject *>SockCall, next_slot, send_slot)


for name in NAMES[:CONNECT]:                # connect and sendfile are `async def`
    mark_coroutine_function(SockReactor.__dict__[name])


seal(SockWatcher)
seal(SockCall)
