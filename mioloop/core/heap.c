#include <stdlib.h>

#include "mio.h"

/* glibc gives memory at the top of the heap back to the system whenever more than 128 KiB of
 * it is free, and streams of large messages then pay page faults for the same memory again
 * and again: 24 for each of 100 KiB. Once a large block has come and gone, the limit is twice
 * that block's size (malloc(3), M_MMAP_THRESHOLD): a process may keep 16 MiB. */
void mio_keep_heap(void)
{
    void *volatile block = malloc(8 << 20);

    free(block);
}
