#include "mio.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ends the free list. No slot has this index, so no token is MIO_TOKEN_MAX. */
#define NO_SLOT UINT32_MAX

/* Not 0, so that the token 0 finds nothing. */
#define FIRST_GENERATION 1

#define FIRST_CAPACITY 16

void mio_slab_init(mio_slab *slab)
{
    memset(slab, 0, sizeof *slab);
    slab->first_free = NO_SLOT;
}

void mio_slab_free(mio_slab *slab)
{
    free(slab->entries);
    mio_slab_init(slab);
}

static int grow(mio_slab *slab)
{
    mio_slab_entry *entries;
    size_t capacity;

    if (slab->capacity == NO_SLOT) return -ENOMEM;
    if (slab->capacity == 0) capacity = FIRST_CAPACITY;
    else if (slab->capacity <= NO_SLOT / 2) capacity = (size_t)slab->capacity * 2;
    else capacity = NO_SLOT;
    if (capacity > SIZE_MAX / sizeof *entries) return -ENOMEM;
    entries = realloc(slab->entries, capacity * sizeof *entries);
    if (entries == NULL) return -ENOMEM;
    slab->entries = entries;
    slab->capacity = (uint32_t)capacity;
    return 0;
}

int mio_slab_insert(mio_slab *slab, void *value, mio_token *out)
{
    mio_slab_entry *entry;
    uint32_t index;

    if (value == NULL) return -EINVAL;      /* NULL marks a free slot */
    index = slab->first_free;
    if (index != NO_SLOT) {
        entry = &slab->entries[index];
        assert(entry->value == NULL);
        slab->first_free = entry->next_free;
    } else {
        if (slab->used == slab->capacity) {
            int err = grow(slab);
            if (err < 0) return err;
        }
        index = slab->used++;
        entry = &slab->entries[index];
        entry->generation = FIRST_GENERATION;
    }
    entry->value = value;
    entry->next_free = NO_SLOT;
    slab->count++;
    *out = (mio_token)entry->generation << 32 | index;
    return 0;
}

void *mio_slab_remove(mio_slab *slab, mio_token token)
{
    uint32_t index = (uint32_t)token;
    void *value = mio_slab_get(slab, token);
    mio_slab_entry *entry;

    if (value == NULL) return NULL;
    entry = &slab->entries[index];
    entry->value = NULL;
    slab->count--;
    /* A slot that has used up its generations is not used again: its first token would
     * find another value. This leaks 16 bytes after 2^32 insertions. */
    if (entry->generation == UINT32_MAX) return value;
    entry->generation++;
    entry->next_free = slab->first_free;
    slab->first_free = index;
    return value;
}
