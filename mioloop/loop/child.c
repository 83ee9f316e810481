/* child.c -- the steps of a child between clone() and execve(). Their order and
 * the reports match CPython's _posixsubprocess.fork_exec(). */
#include "child.h"

#include <errno.h>

#if MIO_CHILD_SUPPORTED

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* The child shares the sanitizer's shadow memory, too, and its frames never return: their red zones
 * would stay there for the next user of that memory. */
#define IN_CHILD __attribute__((no_sanitize("address", "undefined")))

enum {
    STACK_BYTES = 65536,
    SIGNALS = 64,
    SIGNAL_SET_BYTES = SIGNALS / 8,     /* the kernel's; libc's sigset_t is larger */
    FAILED_STATUS = 255,
};

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Make a system call. Returns its result, or -errno as the kernel does. */
IN_CHILD static inline long call(long number, long a, long b, long c, long d)
{
#ifdef __x86_64__
    long result;
    register long r10 __asm__("r10") = d;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
                     : "memory");
    return x0;
#endif
}

#define CALL1(number, a) call(number, (long)(a), 0, 0, 0)
#define CALL2(number, a, b) call(number, (long)(a), (long)(b), 0, 0)
#define CALL3(number, a, b, c) call(number, (long)(a), (long)(b), (long)(c), 0)
#define CALL4(number, a, b, c, d) call(number, (long)(a), (long)(b), (long)(c), (long)(d))

IN_CHILD static long set_inheritable(int fd)
{
    long flags = CALL2(SYS_fcntl, fd, F_GETFD);

    return flags < 0 ? flags : CALL3(SYS_fcntl, fd, F_SETFD, flags & ~FD_CLOEXEC);
}

/* Duplicate *fd* to the descriptor *target*, and make it inheritable. */
IN_CHILD static long put(int fd, int target)
{
    if (fd == -1) return 0;
    return fd == target ? set_inheritable(fd) : CALL3(SYS_dup3, fd, target, 0);
}

/* Move *fd* to 3 or above if it is below *limit*: a standard stream would overwrite it. */
IN_CHILD static long above(int fd, int limit)
{
    return fd < 0 || fd >= limit ? fd : CALL3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
}

IN_CHILD static long set_up_descriptors(const mio_child *child)
{
    const int parents[] = {child->stdin_write, child->stdout_read, child->stderr_read,
                           child->report_read};
    long result, out, err;

    for (int i = 0; i < child->keep_count; i++) {
        if (child->keep[i] == child->report_write) continue;
        result = set_inheritable(child->keep[i]);
        if (result < 0) return result;
    }
    for (int i = 0; i < 4; i++) {
        if (parents[i] == -1) continue;
        result = CALL1(SYS_close, parents[i]);
        if (result < 0) return result;
    }
    out = above(child->stdout_write, child->stdout_write == 0 ? 1 : 0);
    if (out < -1) return out;
    err = above(child->stderr_write, 2);
    if (err < -1) return err;
    result = put(child->stdin_read, 0);
    if (result < 0) return result;
    result = put((int)out, 1);
    if (result < 0) return result;
    return put((int)err, 2);
}

/* Set the default action of each handled signal, because a handler is a function of the parent. */
IN_CHILD static void reset_signals(const mio_child *child)
{
    unsigned long action[8];            /* larger than the kernel's struct; the handler is first */
    const unsigned long ignored = (unsigned long)SIG_IGN;

    for (int number = 1; number <= SIGNALS; number++) {
        int restored = child->restore_signals && (number == SIGPIPE || number == SIGXFSZ);

        for (int i = 0; i < 8; i++) ((volatile unsigned long *)action)[i] = 0;
        if (CALL4(SYS_rt_sigaction, number, 0, action, SIGNAL_SET_BYTES) < 0) continue;
        if (action[0] == 0 || (action[0] == ignored && !restored)) continue;
        for (int i = 0; i < 8; i++) ((volatile unsigned long *)action)[i] = 0;
        CALL4(SYS_rt_sigaction, number, action, 0, SIGNAL_SET_BYTES);
    }
}

IN_CHILD static int is_kept(const mio_child *child, int fd)
{
    for (int i = 0; i < child->keep_count; i++) {
        if (child->keep[i] == fd) return 1;
    }
    return 0;
}

/* For systems without close_range(): Linux before 5.9, and sandboxes that refuse it. */
IN_CHILD static void close_listed(const mio_child *child)
{
    static const char path[] = "/proc/self/fd";
    char entries[1024] __attribute__((aligned(8)));
    long directory, bytes;

    directory = CALL3(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        for (int fd = 3; fd < 65536; fd++) {
            if (!is_kept(child, fd)) CALL1(SYS_close, fd);
        }
        return;
    }
    while ((bytes = CALL3(SYS_getdents64, directory, entries, sizeof entries)) > 0) {
        for (long at = 0; at < bytes;) {
            /* struct linux_dirent64: ino, off, reclen at 16, type, name at 19 */
            const char *entry = entries + at, *digit = entry + 19;
            int fd = 0;

            at += *(const unsigned short *)(entry + 16);
            if (*digit < '0' || *digit > '9') continue;
            for (; *digit >= '0' && *digit <= '9'; digit++) fd = fd * 10 + (*digit - '0');
            if (fd > 2 && fd != directory && !is_kept(child, fd)) CALL1(SYS_close, fd);
        }
    }
    CALL1(SYS_close, directory);
}

/* Close all descriptors from 3 up that are not kept. So the child holds no
 * connection open that the parent closes while exec hangs. */
IN_CHILD static void close_descriptors(const mio_child *child)
{
    unsigned next = 3;

    for (int i = 0; i <= child->keep_count; i++) {
        unsigned kept = i < child->keep_count ? (unsigned)child->keep[i] : UINT_MAX;

        if (kept < next) continue;
        if (kept > next && CALL3(SYS_close_range, next, kept - 1, 0) < 0) {
            close_listed(child);
            return;
        }
        next = kept + 1;
    }
}

/* Execute the first path that can be executed. Returns only if all fail: with the error of the
 * first path that exists, else with the error of the last path. */
IN_CHILD static long execute(const mio_child *child)
{
    long error = -ENOENT, first = 0;

    for (char **path = child->paths; *path != NULL; path++) {
        error = CALL3(SYS_execve, *path, child->argv, child->envp);
        if (error != -ENOENT && error != -ENOTDIR && first == 0) first = error;
    }
    return first != 0 ? first : error;
}

/* Write "OSError:<errno in hex>:<reason>" to the report pipe. */
IN_CHILD static void report(const mio_child *child, long error, const char *reason)
{
    static const char kind[] = "OSError:", digits[] = "0123456789abcdef";
    volatile char text[64];             /* else the compiler may turn these loops into memcpy() */
    long length = 0;
    int shift = 12;

    for (const char *from = kind; *from; from++) text[length++] = *from;
    while (shift > 0 && (-error >> shift) == 0) shift -= 4;
    for (; shift >= 0; shift -= 4) text[length++] = digits[(-error >> shift) & 15];
    text[length++] = ':';
    for (; *reason; reason++) text[length++] = *reason;
    CALL3(SYS_write, child->report_write, text, length);    /* below PIPE_BUF: all or nothing */
}

IN_CHILD static int run(void *arg)
{
    const mio_child *child = arg;
    const char *reason = "noexec";
    long result = set_up_descriptors(child);

    if (result < 0) goto failed;
    if (child->cwd != NULL && (result = CALL1(SYS_chdir, child->cwd)) < 0) {
        reason = "noexec:chdir";
        goto failed;
    }
    if (child->umask >= 0) CALL1(SYS_umask, child->umask);
    reset_signals(child);
    result = CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &child->signal_mask, 0, SIGNAL_SET_BYTES);
    if (result < 0) goto failed;
    if (child->new_session && (result = CALL1(SYS_setsid, 0)) < 0) goto failed;
    if (child->process_group >= 0 &&
        (result = CALL2(SYS_setpgid, 0, child->process_group)) < 0) goto failed;
    if (child->close_fds) close_descriptors(child);
    reason = "";
    result = execute(child);

failed:
    report(child, result, reason);
    for (;;) CALL1(SYS_exit_group, FAILED_STATUS);
    return 0;
}

pid_t mio_child_start(mio_child *child)
{
    unsigned long all = ~0UL;
    pid_t pid;

    child->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (child->stack == MAP_FAILED) {
        child->stack = NULL;
        return -ENOMEM;
    }
    /* A signal handler that ran in the child would write to the parent's memory. */
    CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &child->signal_mask, SIGNAL_SET_BYTES);
    pid = clone(run, (char *)child->stack + STACK_BYTES, CLONE_VM | SIGCHLD, child);
    if (pid < 0) pid = -errno;
    CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &child->signal_mask, 0, SIGNAL_SET_BYTES);
    if (pid < 0) mio_child_free(child);
    return pid;
}

void mio_child_free(mio_child *child)
{
    if (child->stack != NULL) munmap(child->stack, STACK_BYTES);
    child->stack = NULL;
}

#else

pid_t mio_child_start(mio_child *child)
{
    (void)child;
    return -ENOSYS;
}

void mio_child_free(mio_child *child)
{
    (void)child;
}

#endif
