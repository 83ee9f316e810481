#include "mio.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int64_t mio_clock_now(void)
{
    struct timespec now;
    int err = clock_gettime(CLOCK_MONOTONIC, &now);

    assert(err == 0);       /* EFAULT and EINVAL only: neither depends on input */
    (void)err;              /* unused where assert() is empty */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int mio_thread_delay_open(void)
{
#ifdef __linux__
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
#else
    return -1;
#endif
}

int64_t mio_thread_delay_ns(int fd)
{
    char text[80];
    long long delay;
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%*s %lld", &delay) == 1 ? delay : 0;
}
