/* child.h -- start a program in a child process, without waiting until it runs.
 *
 * vfork() and posix_spawn() suspend their caller until the child has executed:
 * for seconds, if the program lies on a slow file system. fork() returns at
 * once, but copies the page tables first: 10 ms for a process of 200 MB, 35 ms
 * for one of 1 GB, and a fault for each page that the parent writes to next.
 * clone(CLONE_VM) without CLONE_VFORK does neither. The child runs in the
 * parent's memory, beside the parent, until execve() gives it a memory of its own.
 *
 * So the child may call no function of libc, not even a system call's wrapper:
 * errno and all other thread-local data belong to the parent thread. It reads
 * only the mio_child and its own stack.
 *
 * Results  a process id, or -errno.
 * Memory   the mio_child and all data it points to must not change until the
 *          write end of the report pipe is closed in the child (by exec, or by
 *          its end), or the child has been waited for.
 */
#ifndef MIO_CHILD_H
#define MIO_CHILD_H

#include <stddef.h>
#include <sys/types.h>

#if defined(__linux__) && \
    ((defined(__x86_64__) && !defined(__ILP32__)) || defined(__aarch64__))
#define MIO_CHILD_SUPPORTED 1
#else
#define MIO_CHILD_SUPPORTED 0
#endif

typedef struct {
    char **argv, **paths, **envp;       /* each ends with a NULL; paths are tried in order */
    const char *cwd;                    /* or NULL */
    const int *keep;                    /* ascending, from 0 up; includes report_write */
    int keep_count;
    int stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write;  /* or -1 */
    int report_read, report_write;      /* 3 and up, close-on-exec */
    int close_fds, restore_signals, new_session;
    int process_group, umask;           /* or -1 */
    /* -- mio_child_start() sets the following fields */
    unsigned long signal_mask;          /* in the kernel's form: 64 signals */
    void *stack;
} mio_child;

pid_t mio_child_start(mio_child *child);
void mio_child_free(mio_child *child);  /* frees the stack that mio_child_start() allocated */

#endif
