from mioloop.reactor.flush_policy cimport FlushPolicy
from mioloop.reactor.flush_queue cimport FlushQueue


# A loop that runs now, in this or another thread. Part of its reactor.
ctypedef struct Run:
    unsigned long thread                # the thread that runs it
    FlushPolicy *policy
    FlushQueue *flushes
    Run *next


cdef int begin_run(Run *run) noexcept
cdef int end_run(Run *run) noexcept

# Number of forks between the first process and this one. A child shares its parent's epoll until
# Reactor.renew(), so it must not change registrations.
cdef unsigned int forks

# Number of children of this process and of its parents. A child holds the open files of the moment
# of its fork. A descriptor that the parent closes after the fork keeps its registration.
cdef unsigned int children_forked
