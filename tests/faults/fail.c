/* fail.c -- preloaded into a child: chosen system calls fail, as if the machine lacked resources.
 *
 * fail_next(name, fd, error, times): the next `times` calls of accept4() on `fd`, or of
 * socket() (`fd` is its family) or epoll_ctl() for `fd`, fail with `error`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { PLANS = 16 };

static struct plan {
    char name[16];
    int fd, error, times;
} plans[PLANS];

int fail_next(const char *name, int fd, int error, int times)
{
    for (int i = 0; i < PLANS; i++) {
        if (plans[i].times == 0) {
            strncpy(plans[i].name, name, sizeof plans[i].name - 1);
            plans[i].fd = fd;
            plans[i].error = error;
            plans[i].times = times;
            return 0;
        }
    }
    return -1;
}

void fail_no_more(void)
{
    memset(plans, 0, sizeof plans);
}

/* How many times it is still to fail. */
int left_to_fail(const char *name, int fd)
{
    for (int i = 0; i < PLANS; i++)
        if (plans[i].times && plans[i].fd == fd && strcmp(plans[i].name, name) == 0)
            return plans[i].times;
    return 0;
}

static int fails(const char *name, int fd)
{
    for (int i = 0; i < PLANS; i++) {
        if (plans[i].times && plans[i].fd == fd && strcmp(plans[i].name, name) == 0) {
            plans[i].times--;
            errno = plans[i].error;
            return 1;
        }
    }
    return 0;
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    static int (*real)(int, struct sockaddr *, socklen_t *, int);

    if (fails("accept4", fd)) return -1;
    if (real == NULL) real = (int (*)(int, struct sockaddr *, socklen_t *, int))
        dlsym(RTLD_NEXT, "accept4");
    return real(fd, addr, len, flags);
}

int socket(int family, int type, int protocol)
{
    static int (*real)(int, int, int);

    if (fails("socket", family)) return -1;
    if (real == NULL) real = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    return real(family, type, protocol);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    static int (*real)(int, int, int, struct epoll_event *);

    if (fails("epoll_ctl", fd)) return -1;
    if (real == NULL) real = (int (*)(int, int, int, struct epoll_event *))
        dlsym(RTLD_NEXT, "epoll_ctl");
    return real(epfd, op, fd, event);
}
