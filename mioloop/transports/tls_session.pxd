from mioloop.reactor.reactor cimport Reactor
from mioloop.transports.flow_control cimport FlowControl
from mioloop.transports.stream cimport StreamFilter, StreamTransport
from mioloop.transports.tls_engine cimport Engine
from mioloop.transports.tls_states cimport *
from mioloop.transports.write_buffer cimport WriteBuffer

cdef bint sends_after_eof


cdef class TlsSession(StreamFilter):
    """The state of a TLS session, and its end by force. TlsProtocol is the one derived class.

    The functions of tls_writing, tls_reading, tls_closing and tls_handshake drive a session. Each
    of these modules uses only the ones before it.
    """
    # the states: see tls_states.pxd. Only the setters below change them.
    cdef State state
    cdef Incoming incoming
    cdef Outgoing outgoing
    cdef Reading reading
    cdef Told told

    cdef Reactor reactor
    cdef Engine engine
    cdef object __weakref__
    cdef dict __dict__                      # attributes set by the program; created with the first
    cdef readonly object _app_transport     # the TlsTransport; None after connection_lost()
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

    # reading
    cdef Py_ssize_t read_high, read_low     # marks in bytes of ciphertext
    cdef tuple read_limits                  # (low, high) as they were set

    # writing
    cdef WriteBuffer backlog                # plaintext; made when bytes wait for the first time
    cdef FlowControl flow                   # of the backlog
    cdef tuple write_limits                 # (low, high) as they were set
    cdef int writes_after_end

    cdef int enter(self, State state) except -1
    cdef int set_incoming(self, Incoming incoming) except -1
    cdef int set_outgoing(self, Outgoing outgoing) except -1
    cdef int set_reading(self, Reading reading) except -1
    cdef int set_told(self, Told told) except -1
    cdef int check(self) except -1
    cdef bint closed(self) noexcept
    cdef bint closes(self) except -1

    cdef int take_protocol(self, protocol) except -1
    cdef int resume(self) except -1
    cdef int resume_later(self) except -1
    cdef int wake_waiter(self, exc) except -1
    cdef int cancel_timeout(self) except -1

    cdef int abort(self, exc) except -1
    cdef int fatal(self, exc, str message) except -1
    cdef int report(self, str message, exc) except -1
    cdef int end(self, exc) except -1
