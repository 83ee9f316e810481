#include "sources.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int prepared(int fd)
{
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
    CHECK_EQ(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
    return fd;
}

struct pair unix_pair(void)
{
    int fds[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    return (struct pair){ prepared(fds[0]), prepared(fds[1]) };
}

struct pair pipe_pair(void)
{
    int fds[2];

    CHECK_EQ(pipe(fds), 0);
    return (struct pair){ prepared(fds[0]), prepared(fds[1]) };
}

void close_pair(struct pair pair)
{
    CHECK_EQ(close(pair.left), 0);
    CHECK_EQ(close(pair.right), 0);
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void bind_loopback(int fd)
{
    struct sockaddr_in address = loopback(0);

    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

int tcp_socket(void)
{
    return prepared(socket(AF_INET, SOCK_STREAM, 0));
}

int udp_socket(void)
{
    int fd = prepared(socket(AF_INET, SOCK_DGRAM, 0));

    bind_loopback(fd);
    return fd;
}

int tcp_listener(void)
{
    int fd = tcp_socket();

    bind_loopback(fd);
    CHECK_EQ(listen(fd, 16), 0);
    return fd;
}

uint16_t port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    return ntohs(address.sin_port);
}

void connect_to(int fd, uint16_t port)
{
    struct sockaddr_in address = loopback(port);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        CHECK_EQ(errno, EINPROGRESS);
}

int tcp_connect(int listener)
{
    int fd = tcp_socket();

    connect_to(fd, port_of(listener));
    return fd;
}

int tcp_refused_port(void)
{
    int fd = tcp_socket();
    uint16_t port;

    bind_loopback(fd);
    port = port_of(fd);
    close(fd);
    return port;
}

static int accept_soon(int listener)
{
    int64_t deadline = mio_clock_now() + PATIENCE;
    int fd;

    while ((fd = accept(listener, NULL, NULL)) < 0 && errno == EAGAIN) {
        CHECK(mio_clock_now() < deadline);
        sched_yield();
    }
    return prepared(fd);
}

struct pair tcp_pair(void)
{
    int listener = tcp_listener();
    struct pair pair = { .left = tcp_connect(listener) };

    pair.right = accept_soon(listener);
    close(listener);
    return pair;
}

void send_text(int fd, const char *text)
{
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

size_t drain(int fd)
{
    char buffer[65536];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, buffer, sizeof buffer)) > 0) total += (size_t)n;
    if (n < 0) CHECK_EQ(errno, EAGAIN);
    return total;
}

size_t fill(int fd)
{
    static const char buffer[65536];
    size_t total = 0;
    ssize_t n;

    while ((n = write(fd, buffer, sizeof buffer)) > 0) total += (size_t)n;
    CHECK_EQ(errno, EAGAIN);
    return total;
}

void reset_by_close(int fd)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(close(fd), 0);
}

mio_poll *new_poll(void)
{
    mio_poll *poll = NULL;

    CHECK_EQ(mio_poll_new(selector, &poll), 0);
    return poll;
}

int poll_once(mio_poll *poll, mio_event *events, int capacity, int64_t timeout_ns)
{
    int n;

    do n = mio_poll_poll(poll, events, capacity, timeout_ns);
    while (n == -EINTR);
    return n;
}

uint32_t expect_ready(mio_poll *poll, mio_token token, uint32_t ready)
{
    int64_t deadline = mio_clock_now() + PATIENCE;
    uint32_t seen = 0;

    while ((seen & ready) != ready) {
        mio_event events[64];
        int64_t rest = deadline - mio_clock_now();
        int n = poll_once(poll, events, 64, rest > 0 ? rest : 0);

        CHECK(n >= 0);
        for (int i = 0; i < n; i++) {
            CHECK_EQ(events[i].token, token);
            CHECK(events[i].ready != 0);
            seen |= events[i].ready;
        }
        if (n <= 0 && rest <= 0)
            test_fail(__FILE__, __LINE__, "token %llu was ready for %#x, not for %#x",
                      (unsigned long long)token, seen, ready);
    }
    return seen;
}

void expect_event(mio_poll *poll, mio_token token, uint32_t ready)
{
    mio_event events[16];

    CHECK_EQ(poll_once(poll, events, 16, PATIENCE), 1);
    CHECK_EQ(events[0].token, token);
    CHECK_EQ(events[0].ready, ready);
}

void expect_silence(mio_poll *poll)
{
    int64_t deadline = mio_clock_now() + SILENCE;

    /* More than once: a poll may end early without an event. */
    for (;;) {
        mio_event events[16];
        int64_t rest = deadline - mio_clock_now();
        int n = poll_once(poll, events, 16, rest > 0 ? rest : 0);

        if (n != 0)
            test_fail(__FILE__, __LINE__, "expected no event, got %d: token %llu, ready %#x", n,
                      (unsigned long long)(n > 0 ? events[0].token : 0),
                      n > 0 ? events[0].ready : 0);
        if (n != 0 || rest <= 0) return;
    }
}

static void *polling_thread(void *argument)
{
    struct polling *polling = argument;
    int64_t start = mio_clock_now();

    polling->thread_id = gettid();
    polling->result = poll_once(polling->poll, polling->events, 16, polling->timeout_ns);
    polling->took_ns = mio_clock_now() - start;
    return NULL;
}

/* 'S' in the third field of /proc/self/task/ID/stat: sleeping. */
static bool sleeping(int thread_id)
{
    char path[64], line[128];
    FILE *file;
    bool is_sleeping = false;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
    file = fopen(path, "r");
    if (file == NULL) return true;      /* ended already, or no /proc: do not wait for it */
    if (fgets(line, sizeof line, file) != NULL) {
        const char *state = strrchr(line, ')');
        is_sleeping = state != NULL && state[2] == 'S';
    }
    fclose(file);
    return is_sleeping;
}

void start_polling(struct polling *polling, mio_poll *poll, int64_t timeout_ns)
{
    polling->poll = poll;
    polling->timeout_ns = timeout_ns;
    polling->thread_id = 0;
    CHECK_EQ(pthread_create(&polling->thread, NULL, polling_thread, polling), 0);
    while (polling->thread_id == 0 || !sleeping(polling->thread_id)) sched_yield();
}

void join_polling(struct polling *polling)
{
    CHECK_EQ(pthread_join(polling->thread, NULL), 0);
}
