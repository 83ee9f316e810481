from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.stream cimport StreamFilter, StreamTransport
from mioloop.transports.tls_engine cimport Engine


cdef enum State:                # of the session; TlsProtocol has a table of the transitions
    UNCONNECTED
    HANDSHAKE
    OPEN
    FLUSHING
    SHUTDOWN
    CLOSING
    LOST


cdef enum Incoming:             # the state of reading from the transport below
    FLOWING
    HELD                        # it is paused: `read_high` bytes of ciphertext are unread
    EXHAUSTED                   # it has called eof_received()


cdef enum Told:                 # the last of these calls that the application's protocol got
    NOTHING
    CONNECTION_MADE
    EOF_RECEIVED
    CONNECTION_LOST


cdef class TlsProtocol(StreamFilter):
    """The TLS session between a transport and an application's protocol.

    Only enter() changes `state`. In a debug build it refuses a transition that this table lacks:

        state        meaning                                next state, and its cause
        UNCONNECTED  connection_made() was not called yet   HANDSHAKE  connection_made()
                                                            CLOSING    close(), abort(), or the
                                                                       transport below is closing
                                                            LOST       connection_lost()
        HANDSHAKE    the session is being negotiated        OPEN       the handshake is done
                                                            LOST       connection_lost(), which
                                                                       follows every failure
        OPEN         data flows in both directions          FLUSHING   close(), a close_notify, or
                                                                       the end of file
                                                            CLOSING    abort(), or an error
                                                            LOST       connection_lost()
        FLUSHING     the backlog is being encrypted         SHUTDOWN   all of it is encrypted
                                                            CLOSING    abort(), an error, or the
                                                                       end of file
                                                            LOST       connection_lost()
        SHUTDOWN     our close_notify is sent, the peer's   CLOSING    it arrived; abort(), an
                     is awaited                                        error, or the end of file
                                                            LOST       connection_lost()
        CLOSING      the transport below sends its buffer,  LOST       connection_lost()
                     and closes
        LOST         connection_lost() was called
    """
    cdef Reactor reactor
    cdef Engine engine
    cdef State state
    cdef Incoming incoming
    cdef Told told
    cdef object __weakref__
    cdef dict __dict__                      # attributes set by the program; created with the first
    cdef readonly TlsTransport _app_transport
    cdef readonly object _transport         # the transport below; None before connection_made()
    cdef StreamTransport stream             # `_transport` if it is a StreamTransport, else None

    # the handshake and the shutdown
    cdef object context                     # ssl.SSLContext
    cdef object waiter                      # future that is set after the handshake, or None
    cdef object handshake_timeout_s
    cdef object shutdown_timeout_s
    cdef object timeout                     # TimerHandle of the handshake or of the shutdown
    cdef object handshake_began             # loop time, in debug mode
    cdef dict extra                         # extra info of the session that was asked for

    # the application
    cdef object callback_context            # the connection's, for all callbacks (R58)
    cdef readonly object _app_protocol
    cdef bint app_buffered                  # it is a BufferedProtocol
    cdef object app_data_received           # bound once, not looked up per read
    cdef int writes_after_end

    # reading
    cdef bint reading_paused                # the application has called pause_reading()
    cdef Py_ssize_t read_high, read_low

    # writing
    cdef object backlog                     # deque of bytes, not yet encrypted
    cdef Py_ssize_t backlog_bytes
    cdef Py_ssize_t first_encrypted         # bytes of backlog[0] that are already encrypted
    cdef bint writing_paused                # the application's pause_writing() was called
    cdef bint below_full                    # the transport below has called pause_writing()
    cdef Py_ssize_t high_bytes, low_bytes
    cdef tuple write_limits, read_limits    # (low, high) as they were set

    cdef int enter(self, State state) except -1
    cdef int check(self) except -1
    cdef bint closes(self) except -1
    cdef int take_protocol(self, protocol) except -1
    cdef int set_write_limits(self, high, low) except -1
    cdef int set_read_limits(self, high, low) except -1
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
    """The transport that the application sees."""
    cdef readonly TlsProtocol _ssl_protocol
    cdef readonly bint _closed
    cdef object __weakref__
    cdef dict __dict__                      # attributes set by the program; created with the first
