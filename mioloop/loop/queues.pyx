"""loop._ready, the ready queue in the form of asyncio's deque, and handles that are not native.

A tool that drives a loop by hand (nest_asyncio) takes handles from loop._ready and puts handles in.
The stdlib makes some handles itself, for example for signal handlers: a native handle wraps each.
"""

cimport cython
from cpython.object cimport PyObject

from mioloop.reactor.core cimport mio_ring_at
from mioloop.reactor.handle cimport Handle, ThreadSafeHandle, TimerHandle, handle_of
from mioloop.reactor.python_api cimport Py_DECREF
from mioloop.reactor.reactor cimport Reactor
from mioloop.reactor.sealed cimport seal

import collections

cdef object deque = collections.deque


cdef bint isinstance_native(handle):
    """Compare the real type: isinstance() goes by `__class__`, which is the stdlib's class."""
    return type(handle) in (Handle, TimerHandle, ThreadSafeHandle)


def run_foreign(handle):
    """Run an asyncio.Handle that is not native, unless it has been cancelled."""
    if not handle._cancelled:
        handle._run()


cdef object shown(PyObject *handle):
    if ((<Handle>handle).callback == <PyObject *>run_foreign
            and (<Handle>handle).arg_count == 1):
        return <object>(<Handle>handle).arg[1]
    return <object>handle


cdef Handle native_handle(Reactor reactor, handle):
    if isinstance_native(handle):
        return <Handle>handle
    if not hasattr(handle, "_run") or not hasattr(handle, "_cancelled"):
        raise TypeError(f"an asyncio.Handle is required, not {handle!r}")
    return handle_of(reactor, run_foreign, (handle,), None)


cdef int push_back(Reactor reactor, Handle handle) except -1:
    if type(handle) is TimerHandle:
        reactor.forget_timer(<TimerHandle>handle)   # it has come from loop._scheduled
    return reactor.push(<PyObject *>handle)


def walk(ReadyView view, size_t first, size_t count):
    """Iterate over the queue. Raises RuntimeError if the queue changes meanwhile."""
    cdef Reactor reactor = view.reactor
    cdef size_t i
    for i in range(count + 1):
        if reactor.ring.first != first or reactor.ring.count != count:
            raise RuntimeError("deque mutated during iteration")
        if i < count:
            yield shown(<PyObject *>mio_ring_at(&reactor.ring, i)[0])


@cython.final
cdef class ReadyView:
    """loop._ready: a view of the ready queue, for tools that expect asyncio's deque."""
    __hash__ = None

    @property
    def __class__(self):
        return deque

    maxlen = None

    # -- the operations of asyncio's own turn: without a copy ----------------------

    def __len__(self):
        return self.reactor.ring.count

    def __bool__(self):
        return self.reactor.ring.count > 0

    def append(self, handle):
        push_back(self.reactor, native_handle(self.reactor, handle))

    def popleft(self):
        cdef PyObject *first
        if self.reactor.ring.count == 0:
            raise IndexError("pop from an empty deque")
        first = self.reactor.pop()
        try:
            return shown(first)
        finally:
            Py_DECREF(first)                # the ring's reference

    def clear(self):
        while self.reactor.ring.count:
            Py_DECREF(self.reactor.pop())

    # -- all other operations: on a copy that is a deque ----------------------------

    def copy(self):
        cdef Reactor reactor = self.reactor
        cdef size_t i
        handles = deque()
        for i in range(reactor.ring.count):
            handles.append(shown(<PyObject *>mio_ring_at(&reactor.ring, i)[0]))
        return handles

    cdef object change(self, method, tuple args):
        """Apply *method* of deque to a copy of the queue, and queue the resulting handles."""
        cdef Reactor reactor = self.reactor
        cdef size_t first = reactor.ring.first, count = reactor.ring.count
        cdef list handles, old = []
        changed = self.copy()
        result = method(changed, *args)
        handles = [native_handle(reactor, handle) for handle in changed]
        if reactor.ring.first != first or reactor.ring.count != count:
            raise RuntimeError("deque mutated during iteration")
        while reactor.ring.count:
            old.append(<object>reactor.pop())
            Py_DECREF(<PyObject *>old[-1])  # the ring's reference; `old` keeps each handle alive
        for handle in handles:
            push_back(reactor, <Handle>handle)
        if changed and reactor.ring.first == first:
            self.rotate_storage()
        return result

    cdef int rotate_storage(self) except -1:
        """Begin at another place of the ring, so that an iterator notices the change."""
        cdef PyObject *first
        cdef size_t count = self.reactor.ring.count
        while count:
            count -= 1
            first = self.reactor.pop()
            self.reactor.push(first)
            Py_DECREF(first)
        return 0

    def __iter__(self):
        return walk(self, self.reactor.ring.first, self.reactor.ring.count)

    def __reversed__(self):
        return reversed(self.copy())

    def __copy__(self):
        return self.copy()

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle the ready queue of a loop")

    def __getitem__(self, index):
        return self.copy()[index]

    def __setitem__(self, index, handle):
        self.change(deque.__setitem__, (index, handle))

    def __delitem__(self, index):
        self.change(deque.__delitem__, (index,))

    def __contains__(self, handle):
        return handle in self.copy()

    def __repr__(self):
        return repr(self.copy())

    def __eq__(self, other):
        return self.copy() == as_deque(other)

    def __ne__(self, other):
        return self.copy() != as_deque(other)

    def __lt__(self, other):
        return self.copy() < as_deque(other)

    def __le__(self, other):
        return self.copy() <= as_deque(other)

    def __gt__(self, other):
        return self.copy() > as_deque(other)

    def __ge__(self, other):
        return self.copy() >= as_deque(other)

    def __add__(self, other):
        return as_deque(self) + as_deque(other)

    def __mul__(self, times):
        return self.copy() * times

    def __rmul__(self, times):
        return self.copy() * times

    def __iadd__(self, handles):
        self.change(deque.extend, (handles,))
        return self

    def __imul__(self, times):
        self.change(deque.__imul__, (times,))
        return self

    def appendleft(self, handle):
        self.change(deque.appendleft, (handle,))

    def count(self, handle):
        return self.copy().count(handle)

    def extend(self, handles):
        self.change(deque.extend, (as_deque(handles),))

    def extendleft(self, handles):
        self.change(deque.extendleft, (as_deque(handles),))

    def index(self, handle, *between):
        return self.copy().index(handle, *between)

    def insert(self, index, handle):
        self.change(deque.insert, (index, handle))

    def pop(self):
        return self.change(deque.pop, ())

    def remove(self, handle):
        self.change(deque.remove, (handle,))

    def reverse(self):
        self.change(deque.reverse, ())

    def rotate(self, n=1):
        self.change(deque.rotate, (n,))


cdef object ready_view(Reactor reactor):
    cdef ReadyView view = ReadyView.__new__(ReadyView)
    view.reactor = reactor
    return view


cdef object as_deque(handles):
    return (<ReadyView>handles).copy() if type(handles) is ReadyView else handles


seal(ReadyView)
