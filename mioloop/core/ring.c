#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int mio_ring_open(mio_ring *ring, size_t capacity)
{
    void **items;

    if (capacity == 0 || (capacity & (capacity - 1)) != 0) return -EINVAL;
    items = malloc(capacity * sizeof *items);
    if (items == NULL) return -ENOMEM;
    *ring = (mio_ring){ .items = items, .capacity = capacity };
    return 0;
}

void mio_ring_free(mio_ring *ring)
{
    free(ring->items);
    memset(ring, 0, sizeof *ring);
}

int mio_ring_grow(mio_ring *ring)
{
    mio_ring more = { .capacity = 2 * ring->capacity, .count = ring->count };
    size_t i;

    if (ring->capacity == 0) return -EINVAL;
    if (more.capacity > (size_t)-1 / sizeof *more.items) return -ENOMEM;
    more.items = malloc(more.capacity * sizeof *more.items);
    if (more.items == NULL) return -ENOMEM;
    for (i = 0; i < ring->count; i++) more.items[i] = *mio_ring_at(ring, i);
    free(ring->items);
    *ring = more;
    return 0;
}
