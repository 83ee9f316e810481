from mioloop.loop.sock cimport SockReactor
from mioloop.reactor.handle cimport Handle
from mioloop.reactor.source cimport Source
from mioloop.reactor.watcher cimport Watcher


cdef class WatchedEvented(Source):
    """A mioloop.mio Evented on the loop's own Poll: see EventLoop.watch()."""
    cdef readonly object evented
    cdef Handle handle
    cdef object make_event                  # (ready, token) -> mio.Event
    cdef bint told                          # an event has come since the last registration


cdef class WatchingReactor(SockReactor):
    """add_reader() and its family, and what EventLoop.watch() needs."""
    cdef Handle watch(self, fileobj, bint writing, callback, tuple args, context)
    cdef bint unwatch(self, fileobj, bint writing) except -1
    cdef Watcher watcher_of_closed(self, fileobj)
    cdef WatchedEvented watched(self, token)
