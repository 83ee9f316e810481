/* ring.h -- a queue of pointers, first in, first out.
 *
 * A ring belongs to one thread at a time, and does not own its items. Without room
 * (mio_ring_free() has been called, or mio_ring_open() not yet) it is full and cannot grow.
 */
#ifndef MIO_RING_H
#define MIO_RING_H

#include <stddef.h>

typedef struct {
    void **items;
    size_t capacity;        /* a power of two; 0 without room */
    size_t first;
    size_t count;
} mio_ring;

/* Makes room for `capacity` items, a power of two: -EINVAL for another number, -ENOMEM.
 * The ring must be zeroed, or freed. */
int mio_ring_open(mio_ring *ring, size_t capacity);
void mio_ring_free(mio_ring *ring);

/* Doubles the room. -EINVAL if the ring has none, -ENOMEM. */
int mio_ring_grow(mio_ring *ring);

/* The i-th item from the front, i < count. */
static inline void **mio_ring_at(const mio_ring *ring, size_t i)
{
    return &ring->items[(ring->first + i) & (ring->capacity - 1)];
}

static inline int mio_ring_is_full(const mio_ring *ring)
{
    return ring->count == ring->capacity;
}

/* The ring must not be full. */
static inline void mio_ring_push(mio_ring *ring, void *item)
{
    *mio_ring_at(ring, ring->count) = item;
    ring->count++;
}

/* The ring must not be empty. */
static inline void *mio_ring_pop(mio_ring *ring)
{
    void *item = ring->items[ring->first];

    ring->first = (ring->first + 1) & (ring->capacity - 1);
    ring->count--;
    return item;
}

#endif
