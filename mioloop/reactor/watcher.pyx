"""Descriptors that the program owns: add_reader(), add_writer()."""

from mioloop.reactor.core cimport *
from mioloop.reactor.sealed cimport seal

import weakref


cdef class Watcher(Source):

    cdef uint32_t interest(self) noexcept:
        return ((MIO_READABLE if self.reader is not None else 0)
                | (MIO_WRITABLE if self.writer is not None else 0))

    cdef int update(self, Reactor reactor) except -1:
        # An unchanged interest is registered, too: the fd may have been closed and used again.
        return reactor.register(self, self.interest(), MIO_LEVEL)

    cdef int hand_over(self, Reactor reactor, Source successor) except -1:
        """Release this watcher, because *successor* takes the descriptor over."""
        return reactor.detach(self, False)

    cdef int give_way(self, HandleOwner reactor, Source successor) except -1:
        remember_displaced(<Reactor>reactor, self.fileobj)
        return self.hand_over(<Reactor>reactor, successor)

    cdef int on_ready(self, uint32_t ready) except -1:
        if wakes_reader(ready) and self.reader is not None:
            self.fire(self.reader, False)
        if wakes_writer(ready) and self.writer is not None:
            self.fire(self.writer, True)
        return 0

    cdef int fire(self, Handle handle, bint writing) except -1:
        cdef Reactor reactor = <Reactor>handle.host
        if handle._cancelled:               # handle.cancel() was called, not remove_reader()
            unwatch_fd(reactor, self.fd, writing)
        elif reactor.instrumented:
            reactor.run_instrumented(handle)
        else:
            handle.run()
        return 0


cdef Handle watch_fd(Reactor reactor, int fd, bint writing, Handle handle, object fileobj):
    """Set the reader or writer callback of *fd*, level-triggered.

    *fileobj*: the object that the program passed. After fileobj.close() the watcher is found by
    the identity of this object (rule R96).
    """
    cdef Watcher watcher
    cdef Handle old = None
    cdef Source source = reactor.source_of(fd)
    if source is not None and not isinstance(source, Watcher):
        raise RuntimeError(f"File descriptor {fd!r} is used by transport {source!r}")
    watcher = Watcher.__new__(Watcher) if source is None else <Watcher>source
    if writing:
        old, watcher.writer = watcher.writer, handle
    else:
        old, watcher.reader = watcher.reader, handle
    try:
        if source is None:
            reactor.attach(watcher, fd)
        watcher.update(reactor)
    except BaseException:
        if writing:
            watcher.writer = old
        else:
            watcher.reader = old
        if source is None:
            reactor.detach(watcher, False)
        raise
    if watcher.fileobj is not fileobj:
        if watcher.fileobj is not None:
            remember_displaced(reactor, watcher.fileobj)
        watcher.fileobj = fileobj
    if old is not None:
        old.cancel()
    return handle


cdef bint unwatch_fd(Reactor reactor, int fd, bint writing) except -1:
    """Drop the reader or writer callback of *fd*; False if there was none."""
    cdef Watcher watcher
    cdef Handle old
    cdef Source source = reactor.source_of(fd)
    if not isinstance(source, Watcher):
        return False
    watcher = <Watcher>source
    if writing:
        old, watcher.writer = watcher.writer, None
    else:
        old, watcher.reader = watcher.reader, None
    if old is None:
        return False
    if watcher.reader is None and watcher.writer is None:
        watcher.fileobj = None
    old.cancel()
    if watcher.interest() == 0:
        reactor.detach(watcher, False)
    else:
        try:
            watcher.update(reactor)
        except OSError:                 # the owner has closed the descriptor
            if watcher.reader is None and watcher.writer is None:
                watcher.hand_over(reactor, None)
            else:                       # the other callback is still to be removed
                reactor.unregister(watcher)
    return True


cdef int remember_displaced(Reactor reactor, object fileobj) except -1:
    """Remember that *fileobj* has no watch any more.

    remove_reader(fileobj) then returns False although *fileobj* has been closed.
    """
    if fileobj is None or isinstance(fileobj, int):
        return 0
    if reactor.displaced is None:
        reactor.displaced = weakref.WeakSet()
    try:
        reactor.displaced.add(fileobj)
    except TypeError:                   # no weak reference possible, or not hashable
        pass
    return 0


seal(Watcher)
