from libc.stdint cimport uint32_t

from mioloop.loop.sock_methods cimport Operation
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.source cimport Source
from mioloop.reactor.watcher cimport Watcher


cdef enum CallState:
    CALL_NEW                # nothing was tried yet
    CALL_TRYING             # the operation runs
    CALL_WAITING            # it would block: `waiter` is not done
    CALL_WOKEN              # the socket is ready or was closed, or the turn was spent: try again
    CALL_FINISHED


cdef enum Outcome:          # of one attempt
    RAISED = -1
    BLOCKED                 # it would block
    DONE                    # `result` is set
    TURN_SPENT              # pause for one turn, so that other callbacks can run


cdef enum Step:
    FAILED = -1
    RETURNED
    WAITING


cdef class SockReactor(Reactor):
    """The sock_*() methods of the loop."""
    cdef SockWatcher watcher_for(self, object sock, int fd)
    cdef bint has_only_native_transports(self) except -1
    cdef int refuse(self, int fd, Source source) except -1


cdef class SockWatcher(Watcher):
    """The sock_*() calls that wait for one descriptor, and its registration between calls."""
    cdef Reactor reactor
    cdef object sock                    # a weak reference; None if the socket supports none
    cdef list readers                   # SockCalls in order of arrival; only the first tries
    cdef list writers
    cdef uint32_t wanted                # directions that a call has needed; they are kept
    cdef uint32_t armed                 # edges registered on the poll; 0 while level-triggered

    cdef int enter(self, SockCall call) except -1
    cdef int join(self, SockCall call) except -1
    cdef int leave(self, SockCall call, bint woken) except -1
    cdef int wake_all(self) except -1


cdef class SockCall:
    """One sock_*() call: a coroutine, and its place among the calls that wait for the socket.

    Only become() changes `state`. In a debug build it refuses a transition that the table
    MAY_BECOME lacks; ARCHITECTURE.md shows the table.
    """
    cdef SockReactor loop
    cdef object sock
    cdef Operation operation
    cdef object argument                # size, buffer, data or address
    cdef object argument2               # recvfrom_into: size; sendto: address
    cdef bint plain                     # sock is exactly a socket.socket, not a derived class
    cdef CallState state
    cdef object waiter                  # the future that the awaiting task waits for
    cdef object result
    cdef SockWatcher watcher            # the watcher that has this call in one of its lists
    cdef Py_buffer view                 # the buffer of the data to send; obj is NULL: none
    cdef Py_ssize_t sent
    cdef object __weakref__

    cdef int become(self, CallState state) except -1
    cdef int check(self) except -1
    cdef Step advance(self) except FAILED
    cdef bint must_queue(self, int fd) except -1
    cdef Outcome attempt(self, int fd) except RAISED
    cdef bint try_operation(self, int fd) except -1
    cdef bint receive(self, int fd) except -1
    cdef bint receive_into(self, int fd) except -1
    cdef bint send_rest(self, int fd) except -1
    cdef bint call_socket(self) except -1
    cdef bint send_by_method(self) except -1
    cdef bint connect(self) except -1
    cdef Outcome send_file(self, int fd) except RAISED
    cdef int wait(self, int fd, Outcome outcome) except -1
    cdef int wake(self) except -1
    cdef int end(self) except -1
