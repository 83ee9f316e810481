"""Datagram transport: UDP, AF_UNIX and other datagrams between one socket and one protocol.

Reading    One system call receives a batch. Its datagrams are delivered one in a turn, as on
           asyncio. A batch of one that is not full shows that no more is waiting. If the program
           may use the socket too, datagrams are received one by one: datagrams that were not
           delivered stay in the socket.
Writing    sendto() sends within the call (R93). A datagram that the kernel does not accept waits
           in a queue, whole and in order.
Errors     error_received() gets each OSError, and the transport stays open (R63).
Addresses  Numeric addresses of AF_INET and AF_INET6 are converted here. Any other address is
           passed unchanged to the socket object.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EBADF
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy, memset

from mioloop.reactor.core cimport *
from mioloop.reactor.python_api cimport Py_DECREF, Py_REFCNT, raised
from mioloop.reactor.reactor cimport EDGE, ONESHOT, Reactor
from mioloop.reactor.source cimport SourceFigures
from mioloop.reactor.read_buffers cimport READ_SIZE, borrow, bytes_of, give_back
from mioloop.transports.address cimport (
    from_python, mio_address, new_address_cache, packed, to_python)
from mioloop.transports.base cimport BaseTransport, WritingTransport
from mioloop.transports.protocol_calls cimport (
    call_method_with_two, enter_context, leave_context)
from mioloop.transports.states cimport *
from mioloop.transports.sysio cimport *
from mioloop.reactor.sealed cimport seal

import os
import sys
from asyncio import transports, trsock
from collections import deque

from mioloop import stdlib

cdef extern from "<sys/socket.h>" nogil:
    const int AF_INET
    const int AF_INET6
    const int AF_UNIX

cdef enum:
    MOST_SENDS = 64             # in a turn: a long queue must not delay other transports
    MIO_HELD = 1 << 30          # readiness beside that of an event: datagrams are held

# By the Python version: whether an empty datagram is sent, and the bytes that are counted for each
# queued datagram beside its data.
cdef bint SENDS_EMPTY = sys.version_info >= (3, 13)
cdef Py_ssize_t HEADER_BYTES = 8 if sys.version_info >= (3, 13) else 0

cdef double RETRY_S = 0.001


class Transport(stdlib.FlowControlMixin, transports.Transport, transports.DatagramTransport):
    """The class that isinstance() sees in place of the native one, see `__class__` there."""

    __slots__ = ()


@cython.final
cdef class DatagramTransport(WritingTransport):

    cdef int add_figures(self, SourceFigures *figures) noexcept:
        figures.datagrams += 1
        return WritingTransport.add_figures(self, figures)

    # -- readable: on_ready -> read -> receive (recvmmsg) -> deliver: datagram_received() ----

    cdef int on_ready(self, uint32_t ready) except -1:
        if self.trigger == ONESHOT:
            self.armed = 0              # the registration is spent
        try:
            if ready & MIO_HELD or wakes_reader(ready):
                self.read(ready)
            if self.blocked() and wakes_writer(ready):
                self.flush_in_context()
        finally:
            if self.trigger == ONESHOT:
                self.go_on_polling()
        assert self.is_consistent()
        return 0

    cdef int read(self, uint32_t ready) except -1:
        """Call the protocol once, in the context of the last resume_reading()."""
        cdef object context = self.context      # resume_reading() in a callback may replace it
        cdef Py_ssize_t n
        cdef bint entered, unread, returned = False, was_held = len(self.held) > 0

        if not self.reads():
            self.deferred_readiness |= ready
            return 0
        entered = enter_context(context)
        try:
            n = self.receive()
            returned = True
        finally:
            if entered:
                leave_context(context)
            if not returned:            # KeyboardInterrupt: the loop may be run again
                self.reactor.defer(self, ready)
        if was_held:                    # the socket itself was not read
            n = READ_SIZE if ready & ~MIO_HELD else 1
        if not self.held:
            return self.after_read(n, ready)
        unread = n == READ_SIZE or ready & (MIO_READ_CLOSED | MIO_HUP | MIO_ERROR | MIO_PRIORITY)
        ready = MIO_HELD | MIO_READABLE if unread and self.trigger == EDGE else MIO_HELD
        if self.reads():
            self.reactor.defer(self, ready)
        else:
            self.deferred_readiness |= ready
        return 0

    cdef Py_ssize_t receive(self) except? -2:
        """Receive a batch, and deliver its first datagram. Return the count for after_read().

        A program may count on a turn between two deliveries, so the rest is held (R92).
        """
        cdef Reactor reactor = self.reactor
        cdef mio_datagram batch[MIO_DATAGRAM_BATCH]
        cdef mio_address senders[MIO_DATAGRAM_BATCH]
        cdef bytes buffer
        cdef int wanted = MIO_DATAGRAM_BATCH, count, i
        cdef Py_ssize_t size

        if self.held:
            return self.deliver_held()
        if self.family == AF_UNIX or self.program_has_socket():
            wanted = 1                  # a Unix socket's may be as large as the whole buffer
        elif self.family != AF_INET and self.family != AF_INET6:
            return self.receive_by_socket()
        buffer = borrow(&reactor.buffers.received)
        size = READ_SIZE // wanted
        for i in range(wanted):
            batch[i].buf = PyBytes_AS_STRING(buffer) + i * size
            batch[i].len = size
            batch[i].peer = <sockaddr *>&senders[i]
            batch[i].peer_len = sizeof(mio_address)
        count = mio_recv_datagrams(self.fd, batch, wanted)
        if count < 0:
            give_back(&reactor.buffers.received, buffer)
            if count == -EAGAIN or count == -EWOULDBLOCK:
                self.reactor.drained(self, MIO_READABLE)
                return 0
            return self.receive_failed(OSError(-count, os.strerror(-count)))
        for i in range(1, count):       # makes no object that the garbage collector counts
            self.held.append(self.data_of(&batch[i]))
            self.held.append(packed(&senders[i], batch[i].peer_len))
        data = self.data_of(&batch[0])
        give_back(&reactor.buffers.received, buffer)
        self.deliver(data, self.sender_of(&senders[0], batch[0].peer_len))
        return READ_SIZE if count == wanted else count

    cdef bint program_has_socket(self) noexcept:
        """Return whether the program may use the socket.

        The program has asked for the socket, or it holds a reference: the transport and `extra`
        hold only two. True also once the loop may not prefetch any more.
        """
        return self.asked or not self.reactor.prefetches or Py_REFCNT(<PyObject *>self.owner) > 2

    cdef int share_socket(self) except -1:
        self.asked = True
        if self.held:
            self.reactor.prefetches = False     # too late for the datagrams of this batch
        return 0

    def get_extra_info(self, name, default=None):
        if name == "socket":
            self.share_socket()
        return BaseTransport.get_extra_info(self, name, default)

    cdef bytes data_of(self, mio_datagram *datagram):
        self.reactor.traffic.bytes_in += datagram.len
        return bytes_of(&self.reactor.buffers, <char *>datagram.buf, datagram.len)

    cdef object sender_of(self, mio_address *address, socklen_t length):
        """Return the sender's address: one object for all datagrams of a peer, while cached."""
        if (length != self.sender_length or length == 0
                or memcmp(&self.sender_address, address, length) != 0):
            if self.peers is None and self.sender_length:
                self.peers = new_address_cache()
            if self.peers is None:
                self.sender = to_python(address, length)
            else:
                self.sender = self.peers.lookup(address, length)
            self.sender_length = min(length, <socklen_t>sizeof(mio_address))
            memcpy(&self.sender_address, address, self.sender_length)
        return self.sender

    cdef int deliver(self, object data, object address) except -1:
        cdef object protocol = self._protocol       # the call may replace it
        cdef PyObject *result = call_method_with_two(protocol, "datagram_received", data, address)

        if result == NULL:
            return self.delivery_failed()
        Py_DECREF(result)
        return 0

    # -- hot path: sendto -> send -------------------------------------------------

    def sendto(self, data, addr=None):
        """Send *data* as one datagram after all queued datagrams. Never blocks.

        If the endpoint was made with a remote address, *addr* must be that address or None. A
        numeric address is not looked up anywhere.
        """
        if not PyBytes_Check(data):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(
                    f"data argument must be a bytes-like object, not {type(data).__name__!r}")
            data = bytes(data)
        if PyBytes_GET_SIZE(data) == 0 and not SENDS_EMPTY:
            return
        if self.address is not None:
            if addr is not None and addr != self.address:
                raise ValueError(f"Invalid address: must be None or {self.address}")
            addr = self.address
        # Like asyncio, an endpoint without a fixed address sends until connection_lost().
        if self._conn_lost and (self.address is not None or self.fd < 0):
            self.count_lost_write()
            return
        if not self.unsent:
            try:
                if self.send(data, addr) != -EAGAIN:
                    return
            except OSError as exc:
                self._protocol.error_received(exc)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.fatal(exc, "Fatal write error on datagram transport")
                return
            if self._conn_lost:         # the queue is not sent any more
                return
            self.wait_for_room()
        self.unsent.append((data, addr))
        self.flow.size += PyBytes_GET_SIZE(data) + HEADER_BYTES
        self.pause_protocol_if_full()

    cdef bint find(self, address, const sockaddr **to, socklen_t *length) except -1:
        """Set *to* and *length* to the system's form of *address*, valid until the next call.

        *to* is NULL for the peer of a connected socket. Return False if only the socket object can
        convert the address.
        """
        to[0] = NULL
        length[0] = 0
        if self.named_peer or (self.connected and address is None):
            return True
        if address is self.sender and self.sender_length and address is not None:
            to[0] = <sockaddr *>&self.sender_address
            length[0] = self.sender_length
            return True
        if address is not self.addressee or self.addressee_length == 0:
            self.addressee_length = 0
            if not from_python(address, self.family, &self.addressee_address, length):
                return False
            self.addressee = address
            self.addressee_length = length[0]
        to[0] = <sockaddr *>&self.addressee_address
        length[0] = self.addressee_length
        return True

    cdef Py_ssize_t send(self, data, address) except? -2:
        """Send one datagram. Return its size, or -EAGAIN; raise any other error."""
        cdef const sockaddr *to
        cdef socklen_t length
        cdef Py_ssize_t n

        if not self.find(address, &to, &length):
            return self.send_by_socket(data, address)
        n = mio_sendto(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), to, length)
        if n >= 0:
            self.reactor.traffic.bytes_out += n
            return n
        if n == -EAGAIN or n == -EWOULDBLOCK:
            return -EAGAIN
        raise OSError(-n, os.strerror(-n))

    cdef Py_ssize_t send_by_socket(self, data, address) except? -2:
        try:
            return self.owner.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return -EAGAIN

    cdef int flush_in_context(self) except -1:
        """Call flush() in the context of the call that found the socket full."""
        cdef object context = self.writer_context
        cdef bint entered = context is not None and enter_context(context)

        try:
            self.flush()
        finally:
            if entered:
                leave_context(context)
        return 0

    cdef int flush(self) except -1:
        """Send queued datagrams. Wait for a turn if there are many, or until there is room."""
        cdef int i
        cdef Py_ssize_t n

        if self._conn_lost:
            return 0
        for i in range(MOST_SENDS):
            if not self.unsent:
                return self.all_sent()
            data, address = self.unsent[0]
            try:
                n = self.send(data, address)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.unsent.popleft()
                self.flow.size -= PyBytes_GET_SIZE(data) + HEADER_BYTES
                self.sending_failed(exc)
                if self._conn_lost:
                    return 0
                continue
            if n == -EAGAIN:
                self.wait_for_room()
                return self.resume_protocol_if_drained()
            self.unsent.popleft()
            self.flow.size -= PyBytes_GET_SIZE(data) + HEADER_BYTES
        if not self.unsent:
            return self.all_sent()
        if self.blocked():
            return self.reactor.defer(self, MIO_WRITABLE)
        return self.wait_for_room()

    cdef int all_sent(self) except -1:
        if self.after_drain() and self.closes():
            self.schedule_connection_lost(None)
        return 0

    cdef int wait_for_room(self) except -1:
        """Wait until the kernel accepts more.

        The kernel does not know the destination of an unconnected Unix socket: it reports the
        socket as writable although that peer's queue is full. So a timer tries again.
        """
        if self.family == AF_UNIX and not self.connected:
            if not self.retrying:
                self.retrying = True
                self.reactor.call_after(RETRY_S, self._retry)
            return 0
        return BaseTransport.block(self)

    def _retry(self):
        self.retrying = False
        if not self._conn_lost:
            self.flush()

    # -- cold path -----------------------------------------------------------------

    cdef int delivery_failed(self) except -1:
        try:
            raised()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.callback_failed("datagram_received", exc)
        return 0

    cdef int sending_failed(self, exc) except -1:
        if not isinstance(exc, OSError):
            return self.fatal(exc, "Fatal write error on datagram transport")
        try:
            self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self.callback_failed("error_received", failure)
        return 0

    cdef Py_ssize_t deliver_held(self) except? -2:
        """Deliver the next datagram that was received with an earlier one."""
        cdef mio_address address
        cdef socklen_t length = 0           # the sender has no name
        cdef bytes data = self.held.pop(0), sender = self.held.pop(0)

        memset(&address, 0, sizeof(address))
        if sender is not None:
            length = PyBytes_GET_SIZE(sender)
            memcpy(&address, PyBytes_AS_STRING(sender), length)
        return self.deliver(data, self.sender_of(&address, length))

    cdef Py_ssize_t receive_by_socket(self) except? -2:
        """Receive by the socket object: only it can convert addresses of this family."""
        try:
            data, address = self.owner.recvfrom(READ_SIZE)
            self.reactor.traffic.bytes_in += len(data)
        except (BlockingIOError, InterruptedError):
            self.reactor.drained(self, MIO_READABLE)
            return 0
        except OSError as exc:
            return self.receive_failed(exc)
        self.deliver(data, address)
        return READ_SIZE

    cdef Py_ssize_t receive_failed(self, exc) except? -2:
        """Report an error of the socket, such as a refusal by a peer; often no datagram waits."""
        if exc.errno == EBADF:          # closed by other code: the error would repeat for ever
            self.fatal(exc, "Fatal read error on datagram transport")
            return 0
        self.sending_failed(exc)
        return READ_SIZE

    cdef int discard(self) except -1:
        self.held.clear()
        self.unsent.clear()
        self.flow.size = 0
        return 0

    @property
    def _address(self):
        return self.address

    @property
    def _sock(self):
        self.share_socket()
        return None if self.fd < 0 else self.owner

    @property
    def _sock_fd(self):
        self.share_socket()
        return self.fd

    @property
    def _buffer(self):
        """An immutable copy of the datagrams that the kernel has not accepted."""
        return tuple(self.unsent)

    @property
    def _buffer_size(self):
        return self.flow.size

    @property
    def max_size(self):
        """The most bytes that one read asks for."""
        return READ_SIZE

    @property
    def __class__(self):
        return Transport


cdef DatagramTransport new_datagram(Reactor reactor, object sock, object protocol, object address,
                                    object waiter, dict extra):
    """Return a transport on *sock*, which is non-blocking. Schedules connection_made().

    *address*, if not None, is the destination of all datagrams. *waiter*, if not None, is a future
    that is set when reading has begun.
    """
    cdef DatagramTransport self = DatagramTransport.__new__(DatagramTransport)
    self.owner = sock
    self.family = sock.family
    self.address = address or None
    self.held = []
    self.unsent = deque()
    self.extra = extra
    self.short_read_means_drained = True            # a batch that is not full means drained
    extra["socket"] = trsock.TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    try:
        peername = sock.getpeername()
        self.connected = True
    except OSError:
        peername = None
    extra.setdefault("peername", peername)
    self.named_peer = self.connected and bool(extra["peername"])
    self.set_protocol(protocol)
    self.start(reactor, sock.fileno(), reactor.trigger_mode, waiter)
    return self


seal(DatagramTransport)
