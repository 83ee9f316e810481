#include "mio.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Four children share a cache line or two, and the tree is half as deep as a binary
 * one. Most timers are removed before they are due, so removal must be fast. */
#define ARITY 4

#define FIRST_CAPACITY 64

void mio_timers_init(mio_timers *timers)
{
    memset(timers, 0, sizeof *timers);
}

void mio_timers_free(mio_timers *timers)
{
    for (size_t i = 0; i < timers->count; i++)
        timers->heap[i].timer->position = MIO_TIMER_IDLE;
    free(timers->heap);
    mio_timers_init(timers);
}

static bool earlier(const mio_timer_entry *a, const mio_timer_entry *b)
{
    if (a->deadline_ns != b->deadline_ns) return a->deadline_ns < b->deadline_ns;
    return a->sequence < b->sequence;
}

static void put(mio_timers *timers, size_t position, mio_timer_entry entry)
{
    timers->heap[position] = entry;
    entry.timer->position = position;
}

static void sift_up(mio_timers *timers, size_t position, mio_timer_entry entry)
{
    while (position > 0) {
        size_t parent = (position - 1) / ARITY;

        if (!earlier(&entry, &timers->heap[parent])) break;
        put(timers, position, timers->heap[parent]);
        position = parent;
    }
    put(timers, position, entry);
}

static void sift_down(mio_timers *timers, size_t position, mio_timer_entry entry)
{
    /* count entries fit in memory, so position * ARITY cannot overflow. */
    for (;;) {
        size_t child = position * ARITY + 1;
        size_t end = child + ARITY < timers->count ? child + ARITY : timers->count;
        size_t first = child;

        if (child >= timers->count) break;
        while (++child < end)
            if (earlier(&timers->heap[child], &timers->heap[first])) first = child;
        if (!earlier(&timers->heap[first], &entry)) break;
        put(timers, position, timers->heap[first]);
        position = first;
    }
    put(timers, position, entry);
}

/* Fills a hole in the heap: moves the entry up or down, as the order requires. */
static void place(mio_timers *timers, size_t position, mio_timer_entry entry)
{
    if (position > 0 && earlier(&entry, &timers->heap[(position - 1) / ARITY]))
        sift_up(timers, position, entry);
    else
        sift_down(timers, position, entry);
}

/* Compares the pointer too: a timer in zeroed memory, at position 0, counts as idle. */
static bool scheduled(const mio_timers *timers, const mio_timer *timer)
{
    return timer->position < timers->count
        && timers->heap[timer->position].timer == timer;
}

static int resize(mio_timers *timers, size_t capacity)
{
    mio_timer_entry *heap;

    if (capacity > SIZE_MAX / sizeof *heap) return -ENOMEM;
    heap = realloc(timers->heap, capacity * sizeof *heap);
    if (heap == NULL) return -ENOMEM;
    timers->heap = heap;
    timers->capacity = capacity;
    return 0;
}

static int grow(mio_timers *timers)
{
    if (timers->capacity == 0) return resize(timers, FIRST_CAPACITY);
    if (timers->capacity > SIZE_MAX / 2) return -ENOMEM;
    return resize(timers, timers->capacity * 2);
}

/* Gives memory back after a burst of timers: at a quarter full and not at a half, so
 * that a count that goes up and down around the limit does not resize every time.
 * If there is no memory for the smaller array, the larger one stays. */
static void shrink(mio_timers *timers)
{
    if (timers->capacity > FIRST_CAPACITY && timers->count <= timers->capacity / 4)
        resize(timers, timers->capacity / 2);
}

int mio_timers_add(mio_timers *timers, mio_timer *timer, int64_t deadline_ns)
{
    mio_timer_entry entry = { deadline_ns, timers->next_sequence, timer };

    if (scheduled(timers, timer)) {
        place(timers, timer->position, entry);
    } else {
        if (timers->count == timers->capacity) {
            int err = grow(timers);
            if (err < 0) return err;
        }
        sift_up(timers, timers->count++, entry);
    }
    timer->deadline_ns = entry.deadline_ns;
    timer->sequence = entry.sequence;
    timers->next_sequence++;
    return 0;
}

void mio_timers_remove(mio_timers *timers, mio_timer *timer)
{
    size_t hole = timer->position;
    mio_timer_entry last;

    if (!scheduled(timers, timer)) return;
    timer->position = MIO_TIMER_IDLE;
    last = timers->heap[--timers->count];
    if (hole < timers->count) place(timers, hole, last);
    shrink(timers);
}

/* The due timers are at the top of the heap: the children of one that is not due are not due. */
static size_t count_due(const mio_timers *timers, size_t position, int64_t now_ns)
{
    size_t n = 1, child = position * ARITY + 1;

    if (position >= timers->count || timers->heap[position].deadline_ns > now_ns) return 0;
    for (int i = 0; i < ARITY; i++) n += count_due(timers, child + i, now_ns);
    return n;
}

size_t mio_timers_count_due(const mio_timers *timers, int64_t now_ns)
{
    return count_due(timers, 0, now_ns);
}

static size_t copy_due(const mio_timers *timers, size_t position, int64_t now_ns,
                       mio_timer_entry *due)
{
    size_t n = 1, child = position * ARITY + 1;

    if (position >= timers->count || timers->heap[position].deadline_ns > now_ns) return 0;
    due[0] = timers->heap[position];
    for (int i = 0; i < ARITY; i++) n += copy_due(timers, child + i, now_ns, due + n);
    return n;
}

/* A merge sort: it makes one pass over entries that are in order already, as those of equal
 * delays are. */
static void sort(mio_timer_entry *entries, mio_timer_entry *scratch, size_t n)
{
    size_t middle = n / 2, left = 0, right = middle;

    if (n < 2) return;
    sort(entries, scratch, middle);
    sort(entries + middle, scratch, n - middle);
    if (!earlier(&entries[middle], &entries[middle - 1])) return;
    memcpy(scratch, entries, middle * sizeof *entries);
    for (size_t i = 0; left < middle; i++) {
        if (right < n && earlier(&entries[right], &scratch[left]))
            entries[i] = entries[right++];
        else
            entries[i] = scratch[left++];
    }
}

/* Removes the due entries from the array in one pass, and copies them in its order. */
static void split(mio_timers *timers, int64_t now_ns, mio_timer_entry *due)
{
    size_t kept = 0;

    for (size_t i = 0; i < timers->count; i++) {
        if (timers->heap[i].deadline_ns <= now_ns)
            *due++ = timers->heap[i];
        else
            put(timers, kept++, timers->heap[i]);
    }
    timers->count = kept;
    for (size_t i = kept < 2 ? 0 : (kept - 2) / ARITY + 1; i-- > 0;)
        sift_down(timers, i, timers->heap[i]);
    while (timers->capacity > FIRST_CAPACITY && kept <= timers->capacity / 4) {
        size_t before = timers->capacity;

        shrink(timers);
        if (timers->capacity == before) break;
    }
}

int mio_timers_take_due(mio_timers *timers, int64_t now_ns, size_t n, mio_timer_entry **out)
{
    mio_timer_entry *due;

    if (n == 0 || n > SIZE_MAX / 2 / sizeof *due) return n == 0 ? -EINVAL : -ENOMEM;
    due = malloc((n + n / 2) * sizeof *due);
    if (due == NULL) return -ENOMEM;
    if (n >= timers->count / 8) {
        split(timers, now_ns, due);
    } else {
        copy_due(timers, 0, now_ns, due);
        for (size_t i = 0; i < n; i++) mio_timers_remove(timers, due[i].timer);
    }
    for (size_t i = 0; i < n; i++) due[i].timer->position = MIO_TIMER_IDLE;
    sort(due, due + n, n);
    *out = due;
    return 0;
}
