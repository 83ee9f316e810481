#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mio.h"

#define HIGHEST_FD 1024

enum { PASSED, FAILED, SKIPPED };

const char *selector;

static struct test *first_test;
static struct test **next_test = &first_test;
static const char *running = "";
static pthread_t main_thread;
static jmp_buf end_of_test;
static atomic_bool failed;
static int count, failures, skips;

void test_add(struct test *test)
{
    *next_test = test;
    next_test = &test->next;
}

bool selector_is(const char *name)
{
    return selector != NULL && strcmp(selector, name) == 0;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    flockfile(stdout);
    printf("# %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    funlockfile(stdout);
    atomic_store(&failed, true);
    if (pthread_equal(pthread_self(), main_thread)) longjmp(end_of_test, FAILED);
}

void test_equal(const char *file, int line, const char *what, long long actual,
                long long expected)
{
    if (actual != expected)
        test_fail(file, line, "%s is %lld, not %lld", what, actual, expected);
}

_Noreturn void test_skip(const char *why)
{
    printf("# %s\n", why);
    longjmp(end_of_test, SKIPPED);
}

static void on_alarm(int signum)
{
    static const char message[] = "\nBail out! out of time in ";
    ssize_t written = write(STDOUT_FILENO, message, sizeof message - 1);

    (void)signum;
    if (written > 0) written = write(STDOUT_FILENO, running, strlen(running));
    if (written > 0) written = write(STDOUT_FILENO, "\n", 1);
    _exit(1);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < HIGHEST_FD; fd++)
        if (fcntl(fd, F_GETFD) != -1) n++;
    return n;
}

static void run(const struct test *test, const char *on)
{
    const char *suffix = on == NULL ? "" : " on ";
    volatile int before = open_descriptors();
    int outcome, after;

    selector = on;
    running = test->name;
    atomic_store(&failed, false);
    alarm(TEST_LIMIT_S);
    outcome = setjmp(end_of_test);
    if (outcome == PASSED) test->run();
    alarm(0);
    after = open_descriptors();
    if (outcome == PASSED && after != before) {
        printf("# %d descriptors were open before, %d are after\n", before, after);
        atomic_store(&failed, true);
    }
    count++;
    if (outcome == SKIPPED) skips++;
    if (atomic_load(&failed)) failures++;
    printf("%s %d - %s%s%s%s\n", atomic_load(&failed) ? "not ok" : "ok", count, test->name,
           suffix, on == NULL ? "" : on, outcome == SKIPPED ? " # SKIP" : "");
    fflush(stdout);
}

static bool asked_for(const char *name, char **names)
{
    if (*names == NULL) return true;
    for (; *names != NULL; names++)
        if (strcmp(name, *names) == 0) return true;
    return false;
}

/* Arguments: the selectors to run on, or none for all that the build has. */
int main(int argc, char **argv)
{
    const char *name;

    (void)argc;
    main_thread = pthread_self();
    signal(SIGALRM, on_alarm);
    signal(SIGPIPE, SIG_IGN);
    for (const struct test *test = first_test; test != NULL; test = test->next)
        if (!test->per_selector) run(test, NULL);
    for (int i = 0; (name = mio_selector_name(i)) != NULL; i++)
        for (const struct test *test = first_test; test != NULL; test = test->next)
            if (test->per_selector && asked_for(name, argv + 1)) run(test, name);
    printf("1..%d\n# %d passed, %d failed, %d skipped\n", count, count - failures - skips,
           failures, skips);
    return failures > 0 || count == 0;
}
