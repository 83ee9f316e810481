from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.stream cimport StreamFilter, StreamTransport
from mioloop.transports.tls_engine cimport Engine


cdef enum State:
    UNCONNECTED                 # connection_made() has not been called
    HANDSHAKE
    OPEN
    FLUSHING                    # closing: what was written is still being encrypted
    SHUTDOWN                    # our close_notify has been sent
    ENDED                       # the transport below us closes, or has closed


cdef class TlsProtocol(StreamFilter):
    """The TLS session between a transport and an application's protocol."""
    cdef Reactor reactor
    cdef Engine engine
    cdef State state
    cdef readonly TlsTransport _app_transport
    cdef readonly object _transport         # what carries us, None before it is connected
    cdef StreamTransport stream             # the same, if it is one of ours
    cdef bint eof_below                     # the transport has no more to read

    # the handshake and the shutdown
    cdef object context                     # ssl.SSLContext
    cdef object waiter                      # future of whoever waits for the handshake
    cdef object handshake_timeout_s
    cdef object shutdown_timeout_s
    cdef object timeout                     # TimerHandle of whichever goes on
    cdef object handshake_began             # loop time, in debug mode
    cdef dict extra                         # what was asked for of the session

    # the application
    cdef object callback_context            # of the transport that carries us (R58)
    cdef readonly object _app_protocol
    cdef bint app_buffered                  # it is a BufferedProtocol
    cdef object app_data_received             # bound once, not looked up per read
    cdef bint app_connected                 # connection_made() was called: the end will be told
    cdef bint app_eof                       # eof_received() was called
    cdef int writes_after_end

    # reading
    cdef bint reading_paused                # by the application
    cdef bint below_paused                  # by us: it has sent more than `read_high` meanwhile
    cdef Py_ssize_t read_high, read_low

    # writing
    cdef object backlog                     # deque of bytes, not yet encrypted
    cdef Py_ssize_t backlog_bytes
    cdef Py_ssize_t first_encrypted         # bytes of backlog[0] that are gone
    cdef bint writing_paused                # the application was told to pause
    cdef bint below_full                    # the transport told us to pause
    cdef Py_ssize_t high_bytes, low_bytes

    cdef int take_protocol(self, protocol) except -1
    cdef int go_on(self) except -1
    cdef int go_on_later(self) except -1
    cdef int shake_hands(self) except -1
    cdef int handshake_failed(self, exc) except -1
    cdef int handshake_done(self) except -1
    cdef int wake_waiter(self, exc) except -1
    cdef int cancel_timeout(self) except -1

    cdef int read(self) except -1
    cdef bint reads(self) noexcept
    cdef Py_ssize_t read_bytes(self) except -2
    cdef Py_ssize_t read_into_protocol(self) except -2
    cdef int watch_unread(self) except -1
    cdef int close_notify_received(self) except -1
    cdef int tell_eof(self) except -1
    cdef bint eof_reached(self) except -1

    cdef int write(self, bytes data) except -1
    cdef int encrypt(self, bint all_of_it) except -1
    cdef int send(self) except -1
    cdef int pause_if_full(self) except -1
    cdef int resume_if_drained(self) except -1

    cdef int start_shutdown(self) except -1
    cdef int flush(self) except -1
    cdef int discard_unread(self) except -1
    cdef int shut_down(self) except -1
    cdef int finish(self) except -1
    cdef int mark_closed(self) except -1
    cdef int abort(self, exc) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int report(self, str message, exc) except -1


cdef class TlsTransport:
    """What the application writes to."""
    cdef readonly TlsProtocol _ssl_protocol
    cdef readonly bint _closed
    cdef object __weakref__
