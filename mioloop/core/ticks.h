/* ticks.h -- a counter that is cheaper to read than the clock.
 *
 * It counts up at a constant rate that is not known here. So a difference only has a meaning
 * beside another one: as a part of a time that the clock has measured.
 */
#ifndef MIO_TICKS_H
#define MIO_TICKS_H

#include <stdint.h>

#include "mio.h"

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

static inline uint64_t mio_ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return (uint64_t)mio_clock_now();
#endif
}

#endif
