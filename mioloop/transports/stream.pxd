from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.flow cimport WriteFlow


cdef class StreamTransport(WriteFlow):
    # the descriptor: `sock` owns it once there is one, until then we do
    cdef object sock                    # socket.socket, or None: made when asked for
    cdef tuple sock_kind                # (family, type, proto) to make it with
    cdef dict extra
    cdef object __weakref__             # Server keeps weak references from 3.13
    cdef object server                  # asyncio's Server, told when we come and go

    # reading
    cdef object context                 # the one that read callbacks share (R58)
    cdef object data_received           # bound once, not looked up per read
    cdef bint buffered_protocol
    cdef bint started                   # connection_made() was called: reading may begin
    cdef bint paused
    cdef bint eof_seen
    cdef bint keeps_data                # the protocol holds on to what it receives
    cdef uint32_t missed                # readiness that an edge announced while paused

    # writing
    cdef list chunks                    # bytes, none of them empty
    cdef Py_ssize_t first_sent          # bytes of chunks[0] that are gone
    cdef bint blocked                   # the system is full: wait until writable
    cdef bint eof_written
    cdef object empty_waiter            # sendfile waits for the buffer to drain

    # the registration
    cdef uint32_t armed                 # interest that the poll has
    cdef bint lent                      # sendfile drives the descriptor itself

    # the end
    cdef bint closing                   # close() or worse was called
    cdef readonly int _conn_lost        # connection_lost() is scheduled; then counts writes
    cdef bint protocol_connected

    cdef bint reading(self) noexcept
    cdef int serve(self, uint32_t ready) except -1
    cdef int read(self, uint32_t ready) except -1
    cdef Py_ssize_t read_bytes(self) except? -2
    cdef Py_ssize_t read_into_protocol(self) except? -2
    cdef int read_ended(self, Py_ssize_t n) except -1
    cdef int on_eof(self) except -1
    cdef int protocol_failed(self, str name) except -1
    cdef int call_protocol(self, str name, object method, object arg) except -1
    cdef int written(self) except -1
    cdef int flush_now(self) except -1
    cdef Py_ssize_t send_chunks(self, Py_ssize_t *tried) except? -2
    cdef int drop_sent(self, Py_ssize_t sent) except -1
    cdef int buffer_drained(self) except -1
    cdef int write_failed(self, exc) except -1
    cdef int block(self) except -1
    cdef int update_interest(self) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int lose(self, exc) except -1
    cdef int count_lost_write(self) except -1
    cdef int remember_addresses(self) except -1
    cdef int leave_server(self) except -1
    cdef int close_fd(self) except -1
    cdef object socket_object(self)


cdef StreamTransport new_stream(Reactor reactor, object sock, int fd, tuple sock_kind,
                                object protocol, object waiter, dict extra, object server)
