"""The states of a transport, with names. states.pyx has the tables of what may follow."""

cdef enum Life:
    LIFE_STARTING       # connection_made() was not called yet, and nothing is received
    LIFE_OPEN
    LIFE_CLOSING        # close() or an error: nothing is delivered any more, written data is sent
    LIFE_LOST           # connection_lost() is scheduled
    LIFE_CLOSED         # connection_lost() was called, and the descriptor is closed


cdef enum ReadState:
    READ_FLOWING
    READ_PAUSED         # by pause_reading()
    READ_ENDED          # the stream has ended, and the protocol keeps the transport open
    READ_ENDED_PAUSED   # both


# The meaning of a readable descriptor. No state: it is decided when the transport is made.
cdef enum Incoming:
    INCOMING_DATA       # data for the protocol, or the end of it
    INCOMING_END        # of a write pipe: its reader has gone
    INCOMING_NOTHING    # of a write pipe that is a terminal: readable has no meaning


cdef enum WriteState:
    WRITE_FREE          # a write may be tried
    WRITE_SENT          # a burst has sent: flush() takes the result
    # In the states below a write must wait (BaseTransport.blocked()).
    WRITE_FULL          # the kernel accepts no more: wait until writable
    WRITE_FILE          # sendfile() has the turn, in the place of the buffer


cpdef bint may_follow(str machine, int before, int state) except -1
