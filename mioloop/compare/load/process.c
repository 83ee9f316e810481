#include "load.h"

#include <errno.h>
#ifdef __linux__
#include <signal.h>
#include <sys/prctl.h>
#endif

int mio_die_with_parent(void)
{
#ifdef __linux__
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
#else
    return -ENOSYS;
#endif
}
