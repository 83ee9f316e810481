"""What the program watches itself: descriptors (add_reader()) and mio sources (loop.watch())."""

cimport cython
from libc.stdint cimport uint32_t

from mioloop.reactor.core cimport MIO_TOKEN_MAX
from mioloop.loop.sock cimport SockReactor
from mioloop.reactor.handle cimport Handle, handle_of
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.source cimport Source
from mioloop.reactor.watcher cimport Watcher, remember_displaced, unwatch_fd, watch_fd
from mioloop.reactor.sealed cimport seal
from mioloop.transports.protocol_calls cimport enter_context, leave_context

from mioloop import stdlib

cdef object fileobj_to_fd = stdlib.fileobj_to_fd


cdef bint is_in(collection, thing) except -1:
    try:
        return thing in collection
    except TypeError:                       # no weak reference possible, or not hashable
        return False


@cython.final
cdef class WatchedEvented(Source):

    cdef int on_ready(self, uint32_t ready) except -1:
        cdef Handle handle = self.handle
        cdef Reactor reactor = <Reactor>handle.host
        self.told = True
        if handle._cancelled:
            return 0
        event = self.make_event(ready, self.token)
        context = handle._context
        if enter_context(context):
            leave_context(context)
        else:                           # a nested turn of this callback: the event must not be lost
            context = None
        once = handle_of(reactor, handle._callback, (event, *handle._args), context)
        if reactor.instrumented:
            return reactor.run_instrumented(once)
        return once.run()


cdef class WatchingReactor(SockReactor):

    # -- descriptors ----------------------------------------------------------------------

    def _add_reader(self, fd, callback, *args, context=None):
        return self.watch(fd, False, callback, args, context)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, True, callback, args, context)

    def _remove_reader(self, fd):
        return not self.closed and self.unwatch(fd, False)

    def _remove_writer(self, fd):
        return not self.closed and self.unwatch(fd, True)

    cdef Handle watch(self, fileobj, bint writing, callback, tuple args, context):
        cdef Watcher watcher
        cdef Handle handle
        self._check_closed()
        try:
            fd = fileobj_to_fd(fileobj)
        except ValueError:
            watcher = self.watcher_of_closed(fileobj)
            if watcher is None:
                raise
            handle = handle_of(self, callback, args, context)
            if writing and watcher.writer is not None:      # only the callback changes
                watcher.writer.cancel()
                watcher.writer = handle
                return handle
            if not writing and watcher.reader is not None:
                watcher.reader.cancel()
                watcher.reader = handle
                return handle
            return watch_fd(self, watcher.fd, writing, handle, fileobj)
        return watch_fd(self, fd, writing, handle_of(self, callback, args, context), fileobj)

    cdef bint unwatch(self, fileobj, bint writing) except -1:
        cdef Watcher watcher
        try:
            fd = fileobj_to_fd(fileobj)
        except ValueError:
            watcher = self.watcher_of_closed(fileobj)
            if watcher is not None:
                remember_displaced(self, fileobj)
                return unwatch_fd(self, watcher.fd, writing)
            if self.displaced is None or not is_in(self.displaced, fileobj):
                raise
            return False
        return unwatch_fd(self, fd, writing)

    cdef Watcher watcher_of_closed(self, fileobj):
        """The watcher of *fileobj*, which has been closed, or None.

        Rule R96: remove_reader() finds a closed object by its identity.
        """
        for fd in self.token_by_fd:
            source = self.source_of(fd)
            if isinstance(source, Watcher) and (<Watcher>source).fileobj is fileobj:
                return <Watcher>source
        return None

    def _watched_fds(self):
        """fd -> (fileobj, reader, writer), as add_reader() and add_writer() set them."""
        cdef Watcher watcher
        fds = {}
        for fd in self.token_by_fd:
            source = self.source_of(fd)
            if isinstance(source, Watcher):
                watcher = <Watcher>source
                if watcher.reader is not None or watcher.writer is not None:
                    fds[fd] = watcher.fileobj, watcher.reader, watcher.writer
        return fds

    def _transport_of_fd(self, int fd):
        """The native transport that uses *fd* now, or None."""
        source = self.source_of(fd)
        return source if hasattr(source, "is_closing") else None

    def _served_transports(self):
        """The transports of the connections that servers of this loop have accepted and count."""
        cdef size_t i
        cdef void *entry
        found = []
        for i in range(self.slab.used):
            entry = self.slab.entries[i].value
            if entry != NULL and getattr(<object>entry, "_server", None) is not None:
                found.append(<object>entry)
        return found

    # -- loop.watch() ------------------------------------------------------------------

    def _watch_evented(self, evented, callback, args, make_event):
        """A new token for *evented*, which the caller registers with it on loop.poll."""
        cdef WatchedEvented source = WatchedEvented.__new__(WatchedEvented)
        self._check_closed()
        source.evented = evented
        source.make_event = make_event
        source.handle = handle_of(self, callback, args, None)
        self.attach(source, -1)
        return source.token

    cdef WatchedEvented watched(self, token):
        source = self.lookup(token) if 0 <= token < MIO_TOKEN_MAX else None
        if not isinstance(source, WatchedEvented):
            raise ValueError(f"{token!r} is not a token of this loop: loop.watch() gives them out")
        return <WatchedEvented>source

    def _watched_evented(self, token):
        """The Evented of *token*. Raises ValueError if watch() has not given out *token*, or if
        unwatch() has taken it back."""
        return self.watched(token).evented

    def _forget_evented(self, token):
        cdef WatchedEvented source = self.watched(token)
        source.handle.cancel()
        self.detach(source, False)

    def check_token(self, token):
        """Called by loop.poll before a registration, which needs a token given out by watch()."""
        self.watched(token).told = False

    def is_armed(self, token, bint oneshot):
        """Whether the registration under *token* must be made again after a fork."""
        source = self.lookup(token)
        return isinstance(source, WatchedEvented) and not (
            oneshot and (<WatchedEvented>source).told)

    @property
    def _poll_address(self):
        self.poll_is_shared = True
        return <size_t>self.poll


seal(WatchedEvented)
