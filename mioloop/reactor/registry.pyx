"""Registry: the sources that a loop has, and their registrations on the poll.

A source has a token as long as it is attached, and a registration for its descriptor while it
waits for readiness. The slab finds the source of a token; a token of a source that was released
finds none, even if another source has its slot and its descriptor now. Only what a turn does is
above this layer (reactor.pyx).
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EBADF, EEXIST, ENOENT, EPERM

from mioloop.reactor.core cimport *
from mioloop.reactor.forking cimport children_forked, forks

import errno
import os


def selectors():
    """The names of the selectors of this build, the default first."""
    names = []
    while mio_selector_name(len(names)) != NULL:
        names.append(mio_selector_name(len(names)).decode())
    return names


def io_uring_problem():
    """The name of the errno with which the system refuses an io_uring; None if it allows one."""
    cdef mio_burst *burst
    cdef int rc = mio_burst_new(&burst)
    mio_burst_free(burst)
    return None if rc == 0 else errno.errorcode.get(-rc, str(-rc))


cdef int check(int rc) except -1:
    """Raise OSError for -errno. No other function of the Cython half does so for the core."""
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return rc


cdef class Registry(HandleOwner):

    def __cinit__(self, *args, **kwargs):
        mio_slab_init(&self.slab)
        self.closed = True                  # until the poll is made
        self.token_by_fd = {}
        self.deferred_sources = []

    # -- sources -------------------------------------------------------------------

    cdef Source lookup(self, mio_token token):
        """The source of *token*; None if it was released, even if another has its slot now."""
        cdef void *found = mio_slab_get(&self.slab, token)
        return None if found == NULL else <Source>found

    cdef int attach(self, Source source, int fd) except -1:
        """Give *source* a token and the descriptor *fd* (-1: none). The slab takes a reference."""
        cdef Source stale

        if self.closed:
            raise RuntimeError("Event loop is closed")
        stale = self.source_of(fd)
        if stale is not None:               # its file was closed and the number used again
            stale.give_way(self, source)
        check(mio_slab_insert(&self.slab, <void *>source, &source.token))
        if fd >= 0:
            try:
                self.token_by_fd[fd] = source.token
            except BaseException:           # no memory
                mio_slab_remove(&self.slab, source.token)
                raise
        source.attached = True
        self.keep_alive(source)
        source.fd = fd
        source.forked_before = children_forked
        return 0

    cdef int keep_alive(self, Source source) noexcept:
        """Let the slab own a reference, because the source may be served at any time."""
        if source.attached and not source.held:
            source.held = True
            Py_INCREF(source)
        return 0

    cdef int drop_reference(self, Source source) except -1:
        """Drop the slab's reference, because no event of *source* will come.

        The source is then freed when its user drops it, and its __del__ must call detach().
        """
        if source.held:
            source.held = False
            Py_DECREF(source)
        return 0

    cdef Source source_of(self, int fd):
        """The source that *fd* is registered for, or None."""
        token = self.token_by_fd.get(fd)
        return None if token is None else self.lookup(token)

    cdef int detach(self, Source source, bint closing) except -1:
        """Remove *source* from the slab and from the poll.

        *closing*: the caller closes the descriptor next, and this process has no duplicate of it.
        Edge-triggered, the kernel may then drop the registration by itself, which saves a system
        call. Level-triggered that is not safe: if a child holds a duplicate, the poll would report
        the descriptor for ever.
        """
        cdef bint held = source.held

        if not source.attached:
            return 0
        source.attached = source.held = False       # first: a later failure must not keep it there
        source.deferred = 0
        mio_slab_remove(&self.slab, source.token)
        try:
            if self.token_by_fd.get(source.fd) == source.token:
                del self.token_by_fd[source.fd]
            elif source.fd >= 0:                    # closed, and another source has the number
                source.registered = False
            if (closing and source.registered and self.fork_generation == forks
                    and self.forgets_closed(source)):
                mio_poll_closing(self.poll, source.fd)
                source.registered = False
            else:
                self.unregister(source)
        finally:
            if held:
                Py_DECREF(source)
        return 0

    cdef bint forgets_closed(self, Source source) noexcept:
        """Whether the kernel drops the registration when *source* closes its descriptor.

        It does unless a forked child holds the open file, too. In that case edges for a released
        token would continue to end the poll.
        """
        return self.trigger_mode == EDGE and source.forked_before == children_forked

    cdef int drop_sources(self) except -1:
        """Release all sources, when the loop is closed."""
        cdef uint32_t i = 0
        cdef Source source
        while i < self.slab.used:
            if self.slab.entries[i].value != NULL:
                source = <Source>self.slab.entries[i].value
                # No system call: the poll is freed with all its registrations.
                source.attached = source.registered = False
                source.deferred = 0
                mio_slab_remove(&self.slab, source.token)
                self.drop_reference(source)
                source = None
            i += 1
        return 0

    # -- readiness that no event will report -------------------------------------

    cdef int defer(self, Source source, uint32_t ready) except -1:
        """Call on_ready(ready) in the next turn, which will not block."""
        if source.deferred == 0:
            self.deferred_sources.append(source)
        source.deferred |= ready
        return 0

    cdef bint only_one_is_ready(self) noexcept:
        """Whether only one source is watched beside the loop's own, and its readiness is known."""
        cdef Source source

        if self.slab.count != self.own_sources + 1 or len(self.deferred_sources) != 1:
            return False
        source = <Source>self.deferred_sources[0]
        return (source.attached and source.deferred & ~MIO_WRITABLE
                and not source.polled_for & MIO_WRITABLE)

    cdef bint defer_repeated(self, Source source, uint32_t *ready) except -1:
        """Defer the part of *ready* that *source* was already served for in this turn (R92).

        Return whether a part of *ready* is left.
        """
        cdef uint32_t repeated = 0

        if source.resumed & MIO_WRITABLE:
            repeated |= ready[0] & MIO_WRITABLE
        if source.resumed & ~MIO_WRITABLE:
            repeated |= ready[0] & ~MIO_WRITABLE
        if repeated:
            self.defer(source, repeated)
            ready[0] &= ~repeated
        return ready[0] != 0

    cdef int serving_failed(self, Source source, exc) except -1:
        """Report *exc*, raised while *source* was served. Callbacks report their own exceptions."""
        self.serving = None
        self.report({"message": f"Fatal error: {source!r} could not be served", "exception": exc})
        return 0

    # -- registrations -------------------------------------------------------------

    cdef int register(self, Source source, uint32_t interest, uint32_t opts) except -1:
        """Register, or replace interest and options. Raises OSError as epoll_ctl(2) fails."""
        cdef int rc = -ENOENT
        if self.closed:
            raise RuntimeError("Event loop is closed")
        if self.fork_generation != forks:
            self.renew()
        if source.registered:
            rc = mio_poll_reregister(self.poll, source.fd, source.token, interest, opts)
        if rc == -ENOENT:                   # new, or the number of a closed file used again
            rc = mio_poll_register(self.poll, source.fd, source.token, interest, opts)
        if rc < 0:
            self.unregister(source)         # the old or the new interest may be registered
            check(rc)
        source.registered = True
        source.polled_for = interest
        source.poll_opts = opts
        return 0

    cdef bint reregister_if_same(self, Source source, uint32_t interest,
                                 uint32_t opts) except -1:
        """Register again. False if the registered file was closed, so that the poll forgot it."""
        cdef int rc
        if not source.registered:
            return False
        if self.fork_generation != forks:
            self.renew()
            return source.registered
        rc = mio_poll_reregister(self.poll, source.fd, source.token, interest, opts)
        if rc == -ENOENT:
            source.registered = False
            return False
        check(rc)
        return True

    cdef int report_again(self) except -1:
        """A callback of the source that is being served begins a turn (R100).

        The source may still be ready: it has not read to the end, or its registration is spent.
        asyncio's selector reports it in such a turn. An edge or a oneshot registration does so if
        it is made again.
        """
        cdef Source source = self.serving

        if source is None or not source.registered or source.poll_opts == MIO_LEVEL:
            return 0
        try:
            self.register(source, source.polled_for, source.poll_opts)
        except OSError:                 # the source fails when it registers next
            pass
        return 0

    cdef int unregister(self, Source source) noexcept:
        """Stop polling the descriptor. The source keeps its token.

        The poll may refuse: the owner has closed the descriptor (ENOENT, EBADF), and a plain file
        may have its number now (EPERM). No other error has a remedy, so all errors are ignored.
        """
        if source.registered:
            source.registered = False
            if self.fork_generation == forks:
                mio_poll_deregister(self.poll, source.fd)
        return 0

    cdef int drained(self, Source source, uint32_t ready) except -1:
        """*source* has consumed its readiness. Where edges are emulated, poll for it again."""
        if self.edges_emulated and self.fork_generation == forks:
            mio_poll_drained(self.poll, source.fd, ready)
        return 0

    # -- in a forked child --------------------------------------------------------

    cdef int renew(self) except -1:
        """Called at the first use of the poll in a forked child. The loop overrides this."""
        return self.renew_poll()

    cdef int renew_poll(self) except -1:
        """Replace the parent's poll by a new one, and register all sources there again.

        If this raises, the loop does not poll, and the next use of the poll tries again.
        """
        cdef Source source
        cdef uint32_t i
        cdef int rc

        if self.closed:
            raise RuntimeError("Event loop is closed")
        check(mio_poll_renew(self.poll))
        for i in range(self.slab.used):
            source = <Source>self.slab.entries[i].value if self.slab.entries[i].value else None
            if source is None or not source.registered:
                continue
            rc = mio_poll_register(self.poll, source.fd, source.token, source.polled_for,
                                   source.poll_opts)
            if rc == -EBADF or rc == -EPERM or rc == -EEXIST:   # closed, and perhaps used again
                source.registered = False
            else:
                check(rc)
        self.fork_generation = forks
        return 0
