"""The states of a TLS connection, and which state may follow which.

There are five machines, and the first is the session itself. Each state is a field of TlsSession, and one
setter in tls_session.pyx changes it. In a debug build the setter refuses a step that the table in
tls_states.pyx lacks.
"""


cdef enum State:                # of the session
    UNCONNECTED                 # connection_made() was not called yet
    HANDSHAKE                   # the session is being negotiated
    OPEN                        # data flows in both directions
    FLUSHING                    # closing: the backlog is being encrypted
    SHUTDOWN                    # our close_notify is sent, the peer's is awaited
    CLOSING                     # the transport below sends its buffer, and closes
    FAILED                      # there is no session: connection_lost() follows, and fails the waiter
    LOST                        # connection_lost() was called


cdef enum Incoming:             # ciphertext from the transport below
    FLOWING
    HELD                        # pause_reading() was called: too much ciphertext is unread
    EXHAUSTED                   # the transport below has called eof_received()


cdef enum Outgoing:             # ciphertext to the transport below
    ACCEPTED
    REFUSED                     # the transport below has called pause_writing()


cdef enum Reading:              # plaintext for the application
    WANTED
    PAUSED                      # the application has called pause_reading()


cdef enum Told:                 # the last of these calls that the application's protocol got
    NOTHING
    CONNECTION_MADE
    EOF_RECEIVED
    CONNECTION_LOST


cdef dict STATES, INCOMING, OUTGOING, READING, TOLD

cpdef bint may_follow(dict table, int before, int after) except -1
