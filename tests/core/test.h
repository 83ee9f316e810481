/* test.h -- tests of the core: each is a promise, and its name says which.
 *
 *     TEST(stale_token_finds_nothing) { CHECK_EQ(mio_slab_get(...), 0); }
 *
 * POLL_TEST runs once for every selector of the build, in `selector`. A failed
 * check ends its test, except in a thread that the test started: there it is
 * recorded and the thread goes on. A test that leaves descriptors open fails;
 * so does one that takes longer than TEST_LIMIT_S.
 */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>

#define TEST_LIMIT_S 30

struct test {
    const char *name;
    void (*run)(void);
    bool per_selector;
    struct test *next;
};

void test_add(struct test *test);
void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void test_equal(const char *file, int line, const char *what, long long actual,
                long long expected);

/* Ends the test as "skip", for a promise that a selector cannot make. */
_Noreturn void test_skip(const char *why);

/* The selector under test; NULL in a TEST. */
extern const char *selector;
bool selector_is(const char *name);

#define ADD_TEST(name, per_selector)                                        \
    static void name(void);                                                 \
    __attribute__((constructor)) static void add_##name(void)               \
    {                                                                       \
        static struct test self = { #name, name, per_selector, 0 };         \
        test_add(&self);                                                    \
    }                                                                       \
    static void name(void)

#define TEST(name) ADD_TEST(name, false)
#define POLL_TEST(name) ADD_TEST(name, true)

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) test_fail(__FILE__, __LINE__, "%s", #condition);  \
    } while (0)

#define CHECK_EQ(actual, expected)                                          \
    test_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

#endif
