# The Cython mirror of core/mio.h. Only `reactor` is linked with the core: a module of
# another layer that calls one of these fails at its first import.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "mio.h" nogil:
    ctypedef struct mio_poll
    ctypedef uint64_t mio_token

    const uint64_t MIO_TOKEN_MAX
    const uint32_t MIO_READABLE, MIO_WRITABLE, MIO_ERROR, MIO_HUP, MIO_PRIORITY
    const uint32_t MIO_READY_ALL, MIO_READ_CLOSED
    const uint32_t MIO_EDGE, MIO_LEVEL, MIO_ONESHOT

    ctypedef struct mio_event:
        mio_token token
        uint32_t ready

    const char *mio_selector_name(int i)
    int mio_poll_new(const char *selector, mio_poll **out)
    int mio_poll_renew(mio_poll *poll)
    void mio_poll_free(mio_poll *poll)
    const char *mio_poll_selector(const mio_poll *poll)
    int mio_poll_register(mio_poll *poll, int fd, mio_token token, uint32_t interest, uint32_t opts)
    int mio_poll_reregister(mio_poll *poll, int fd, mio_token token, uint32_t interest, uint32_t opts)
    int mio_poll_deregister(mio_poll *poll, int fd)
    void mio_poll_closing(mio_poll *poll, int fd)
    int mio_poll_emulates_edges(const mio_poll *poll)
    void mio_poll_drained(mio_poll *poll, int fd, uint32_t ready)
    int mio_poll_poll(mio_poll *poll, mio_event *events, int capacity, int64_t timeout_ns)
    int mio_poll_wake(mio_poll *poll)
    int mio_poll_fd(mio_poll *poll)
    int64_t mio_clock_now()
    void mio_keep_heap()
    int mio_thread_delay_open()
    int64_t mio_thread_delay_ns(int fd)

    ctypedef struct mio_slab_entry:
        void *value

    ctypedef struct mio_slab:
        mio_slab_entry *entries
        uint32_t count
        uint32_t used

    void mio_slab_init(mio_slab *slab)
    void mio_slab_free(mio_slab *slab)
    int mio_slab_insert(mio_slab *slab, void *value, mio_token *out)
    void *mio_slab_remove(mio_slab *slab, mio_token token)
    void *mio_slab_get(const mio_slab *slab, mio_token token)

    const size_t MIO_TIMER_IDLE

    ctypedef struct mio_timer:
        int64_t deadline_ns
        uint64_t sequence
        size_t position
        void *owner

    ctypedef struct mio_timer_entry:
        int64_t deadline_ns
        mio_timer *timer

    ctypedef struct mio_timers:
        mio_timer_entry *heap
        size_t count

    void mio_timers_init(mio_timers *timers)
    void mio_timers_free(mio_timers *timers)
    int mio_timers_add(mio_timers *timers, mio_timer *timer, int64_t deadline_ns)
    void mio_timers_remove(mio_timers *timers, mio_timer *timer)
    size_t mio_timers_count_due(const mio_timers *timers, int64_t now_ns)
    int mio_timers_take_due(mio_timers *timers, int64_t now_ns, size_t n, mio_timer_entry **out)
    mio_timer *mio_timers_first(const mio_timers *timers)

cdef extern from "ring.h" nogil:
    ctypedef struct mio_ring:
        void **items
        size_t capacity
        size_t first
        size_t count

    int mio_ring_open(mio_ring *ring, size_t capacity)
    void mio_ring_free(mio_ring *ring)
    int mio_ring_grow(mio_ring *ring)
    void **mio_ring_at(const mio_ring *ring, size_t i)
    bint mio_ring_is_full(const mio_ring *ring)
    void mio_ring_push(mio_ring *ring, void *item)
    void *mio_ring_pop(mio_ring *ring)

cdef extern from "spin.h" nogil:
    ctypedef struct mio_spin:
        int64_t most_ns
        int64_t budget_ns

    int64_t mio_spin_limit(const mio_spin *spin, int64_t now_ns, int64_t timeout_ns)
    void mio_spin_learn(mio_spin *spin, bint ended, int64_t waited_ns)

cdef extern from "burst.h" nogil:
    ctypedef struct mio_burst

    ctypedef struct mio_transfer:
        void *buf
        size_t len
        Py_ssize_t result
        int fd

    enum:
        MIO_BURST_MOST
    int mio_burst_new(mio_burst **out)
    void mio_burst_free(mio_burst *burst)
    bint mio_burst_send(mio_burst *burst, mio_transfer *transfers, int count)
    bint mio_burst_recv(mio_burst *burst, mio_transfer *transfers, int count)


# The readiness that wakes a reader, and the readiness that wakes a writer. Error and hang-up wake
# both (rule R26), because a pipe without a writer reports only a hang-up, and a refused datagram
# reports only an error.

cdef inline uint32_t wakes_reader(uint32_t ready) noexcept nogil:
    return ready & (MIO_READABLE | MIO_READ_CLOSED | MIO_PRIORITY | MIO_ERROR | MIO_HUP)


cdef inline uint32_t wakes_writer(uint32_t ready) noexcept nogil:
    return ready & (MIO_WRITABLE | MIO_ERROR | MIO_HUP)

cdef extern from "peek.h" nogil:
    ctypedef struct mio_peek

    int mio_peek_new(int poll_fd, mio_peek **out)
    void mio_peek_free(mio_peek *peek)
    bint mio_peek_arm(mio_peek *peek)
    bint mio_peek_is_quiet(const mio_peek *peek)

cdef extern from "histogram.h" nogil:
    enum:
        MIO_HISTOGRAM_BUCKETS

    ctypedef struct mio_histogram:
        uint64_t *buckets
        uint64_t count
        int64_t sum_ns
        int64_t most_ns

    int64_t mio_histogram_limit_ns(int index)
    void mio_histogram_add(mio_histogram *histogram, int64_t duration_ns)

cdef extern from "ticks.h" nogil:
    uint64_t mio_ticks()
