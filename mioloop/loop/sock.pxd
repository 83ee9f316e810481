from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source, Watcher


cdef enum Operation:
    RECV
    RECV_INTO
    RECVFROM
    RECVFROM_INTO
    ACCEPT
    SENDALL             # this and what follows waits until writable
    SENDTO
    CONNECT
    SENDFILE


cdef enum Step:
    FAILED = -1
    RETURNED
    WAITING


cdef class SockReactor(Reactor):
    """The sock_*() methods of the loop."""
    cdef SockWatcher watcher_for(self, object sock, int fd)
    cdef int refuse(self, int fd, Source source) except -1


cdef class SockWatcher(Watcher):
    """The sock_*() calls that wait for one descriptor, and its registration between calls."""
    cdef Reactor reactor
    cdef object sock                    # a weak reference to it; None: it cannot have one
    cdef list readers                   # SockCalls in the order they came; the first is to try
    cdef list writers
    cdef uint32_t wanted                # edges that were needed once; they stay
    cdef uint32_t armed                 # those that the poll has; 0 while it is level-triggered

    cdef int enter(self, SockCall call) except -1
    cdef int join(self, SockCall call) except -1
    cdef int leave(self, SockCall call) except -1
    cdef int dismiss(self) except -1


cdef class SockCall:
    """One sock_*() call: a coroutine, and its place among those that wait for the socket."""
    cdef SockReactor loop
    cdef object sock
    cdef Operation operation
    cdef object argument                # size, buffer, data or address
    cdef object argument2               # recvfrom_into: size; sendto: address
    cdef bint plain                     # a socket.socket, not a class of the user's
    cdef bint started
    cdef bint finished
    cdef bint woken                     # the waiter is set: the socket is ready, or has gone away
    cdef bint connecting
    cdef bint turn_spent                # it would not block, but others are to have their turn
    cdef object waiter                  # the future that our task waits for
    cdef object result
    cdef SockWatcher watcher            # we are in one of its lists
    cdef Py_buffer view                 # of the data to send, if viewing
    cdef bint viewing
    cdef Py_ssize_t sent
    cdef object __weakref__

    cdef Step advance(self) except FAILED
    cdef bint must_queue(self, int fd) except -1
    cdef bint attempt(self, int fd) except -1
    cdef bint receive(self, int fd) except -1
    cdef bint receive_into(self, int fd) except -1
    cdef bint send_rest(self, int fd) except -1
    cdef bint call_socket(self) except -1
    cdef bint call_method(self) except -1
    cdef bint connect(self) except -1
    cdef bint send_file(self, int fd) except -1
    cdef int wait(self, int fd) except -1
    cdef int wake(self) except -1
    cdef int end(self) except -1
