/* spin.h -- how long a wait polls without blocking before it blocks.
 *
 * A wait that ends by an event within `most_ns` makes the next spin longer, up to
 * `most_ns`. Any other wait halves it, down to 0. Blocking waits count, too, so that
 * a loop that has stopped spinning notices when spinning would pay again.
 */
#ifndef MIO_SPIN_H
#define MIO_SPIN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t most_ns;        /* 0: never spins */
    int64_t budget_ns;      /* of the next wait: 0 to most_ns */
} mio_spin;

/* The time at which a wait that begins now stops spinning; timeout_ns is -1 without limit. */
static inline int64_t mio_spin_limit(const mio_spin *spin, int64_t now_ns, int64_t timeout_ns)
{
    if (timeout_ns >= 0 && timeout_ns < spin->budget_ns) return now_ns + timeout_ns;
    return now_ns + spin->budget_ns;
}

/* To be called after a wait of `waited_ns`; `ended`: by an event or a wake-up. */
static inline void mio_spin_learn(mio_spin *spin, bool ended, int64_t waited_ns)
{
    int64_t more_ns = 2 * spin->budget_ns;

    if (ended && waited_ns <= spin->most_ns) {
        if (more_ns < spin->most_ns / 8) more_ns = spin->most_ns / 8;
        spin->budget_ns = more_ns < spin->most_ns ? more_ns : spin->most_ns;
    } else if (spin->budget_ns > spin->most_ns / 64) {
        spin->budget_ns /= 2;
    } else {
        spin->budget_ns = 0;
    }
}

#endif
