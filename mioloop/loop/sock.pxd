from libc.stdint cimport uint32_t

from mioloop.reactor.reactor cimport Reactor, Source, Watcher


cdef enum Operation:
    RECV
    RECV_INTO
    RECVFROM
    RECVFROM_INTO
    ACCEPT
    SENDALL             # this operation and the following ones wait until writable
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
    cdef object sock                    # a weak reference; None if the socket supports none
    cdef list readers                   # SockCalls in order of arrival; only the first tries
    cdef list writers
    cdef uint32_t wanted                # directions that a call has needed; they are kept
    cdef uint32_t armed                 # edges registered on the poll; 0 while level-triggered

    cdef int enter(self, SockCall call) except -1
    cdef int join(self, SockCall call) except -1
    cdef int leave(self, SockCall call) except -1
    cdef int wake_all(self) except -1


cdef class SockCall:
    """One sock_*() call: a coroutine, and its place among the calls that wait for the socket."""
    cdef SockReactor loop
    cdef object sock
    cdef Operation operation
    cdef object argument                # size, buffer, data or address
    cdef object argument2               # recvfrom_into: size; sendto: address
    cdef bint plain                     # sock is exactly a socket.socket, not a derived class
    cdef bint started
    cdef bint finished
    cdef bint woken                     # the waiter is set: the socket is ready or was closed
    cdef bint connecting
    cdef bint turn_spent                # pause for one turn, so that other callbacks can run
    cdef object waiter                  # the future that the awaiting task waits for
    cdef object result
    cdef SockWatcher watcher            # the watcher that has this call in one of its lists
    cdef Py_buffer view                 # the buffer of the data to send, if viewing
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
