/* kqueue(2) over epoll(7), so that the kqueue selector runs its tests on Linux.
 *
 * The queue is an epoll descriptor. It watches one inner descriptor per knote:
 * for a file an epoll of its own, since epoll takes each file only once and a
 * kqueue has two filters for it; for EVFILT_USER an eventfd. An inner epoll that
 * is edge-triggered is readable until asked, which is just what EV_CLEAR means.
 *
 * Kept as strictly as FreeBSD does, where a careless caller would not notice:
 *   - EV_ADD of a knote that exists changes udata and nothing else: EV_CLEAR and
 *     EV_ONESHOT stay as they were;
 *   - EV_ONESHOT deletes the knote, and deleting it again is ENOENT;
 *   - a closed descriptor takes its knotes with it, also while a duplicate
 *     lives (close is wrapped: see CMakeLists.txt);
 *   - an event is one filter's; two filters of a file are two events.
 * One thing cannot be: Linux gives a socket's error away only by clearing it, so
 * fflags beside EV_EOF is ECONNRESET whatever the error was.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct knote {
    struct knote *next;
    uint64_t id;            /* outlives the knote in an epoll_event: never reused */
    int kq;
    uintptr_t ident;
    short filter;
    unsigned short flags;
    void *udata;
    int inner;
    bool watching;          /* the inner descriptor can become readable */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct knote *knotes;
static uint64_t next_id = 1;

int __real_close(int fd);
int __wrap_close(int fd);

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void leave_lock(void) { pthread_mutex_unlock(&lock); }

/* A kernel does not stop because a process forks; nor does this in the child. */
static void outlive_forks(void)
{
    pthread_atfork(take_lock, leave_lock, leave_lock);
}

int kqueue(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, outlive_forks);
    return epoll_create1(EPOLL_CLOEXEC);
}

static struct knote **find(int kq, uintptr_t ident, short filter)
{
    struct knote **at = &knotes;

    while (*at != NULL
           && ((*at)->kq != kq || (*at)->ident != ident || (*at)->filter != filter))
        at = &(*at)->next;
    return at;
}

static struct knote *find_id(uint64_t id)
{
    struct knote *knote = knotes;

    while (knote != NULL && knote->id != id) knote = knote->next;
    return knote;
}

static void drop(struct knote **at)
{
    struct knote *knote = *at;

    *at = knote->next;
    __real_close(knote->inner);     /* leaves the queue's epoll by itself */
    free(knote);
}

int __wrap_close(int fd)
{
    pthread_mutex_lock(&lock);
    for (struct knote **at = &knotes; *at != NULL;) {
        bool file = (*at)->filter != EVFILT_USER;

        if ((*at)->kq == fd || (file && (*at)->ident == (uintptr_t)fd)) drop(at);
        else at = &(*at)->next;
    }
    pthread_mutex_unlock(&lock);
    return __real_close(fd);
}

static int watch(struct knote *knote)
{
    struct epoll_event outer = { .events = EPOLLIN, .data.u64 = knote->id };
    struct epoll_event file = { .events = knote->filter == EVFILT_READ ? EPOLLIN | EPOLLRDHUP
                                                                      : EPOLLOUT };

    if (knote->watching) return 0;
    if (knote->filter == EVFILT_USER) {
        if (epoll_ctl(knote->kq, EPOLL_CTL_ADD, knote->inner, &outer) < 0) return errno;
    } else {
        if (knote->flags & EV_CLEAR) file.events |= EPOLLET;
        /* EPERM is a regular file: kqueue takes it, epoll does not. It is as
         * good as never ready here. */
        if (epoll_ctl(knote->inner, EPOLL_CTL_ADD, (int)knote->ident, &file) < 0
            && errno != EPERM)
            return errno;
    }
    knote->watching = true;
    return 0;
}

static int unwatch(struct knote *knote)
{
    int err;

    if (!knote->watching) return 0;
    knote->watching = false;
    if (knote->filter == EVFILT_USER)
        err = epoll_ctl(knote->kq, EPOLL_CTL_DEL, knote->inner, NULL);
    else
        err = epoll_ctl(knote->inner, EPOLL_CTL_DEL, (int)knote->ident, NULL);
    return err < 0 && errno != EPERM ? errno : 0;
}

static int add(int kq, const struct kevent *change, struct knote **out)
{
    struct epoll_event outer = { .events = EPOLLIN };
    struct knote *knote = calloc(1, sizeof *knote);
    int err = 0;

    if (knote == NULL) return ENOMEM;
    knote->id = next_id++;
    knote->kq = kq;
    knote->ident = change->ident;
    knote->filter = change->filter;
    knote->flags = change->flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH);
    knote->udata = change->udata;
    knote->inner = change->filter == EVFILT_USER ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
                                                 : epoll_create1(EPOLL_CLOEXEC);
    if (knote->inner < 0) { err = errno; goto out; }
    if (change->filter != EVFILT_USER) {
        outer.data.u64 = knote->id;
        if (epoll_ctl(kq, EPOLL_CTL_ADD, knote->inner, &outer) < 0) { err = errno; goto out; }
    }
    if (!(change->flags & EV_DISABLE)) err = watch(knote);

out:
    if (err != 0) {
        if (knote->inner >= 0) __real_close(knote->inner);
        free(knote);
        return err;
    }
    knote->next = knotes;
    knotes = knote;
    *out = knote;
    return 0;
}

static int apply(int kq, const struct kevent *change)
{
    static const uint64_t one = 1;
    struct knote **at, *knote;
    int err = 0;

    if (change->filter != EVFILT_READ && change->filter != EVFILT_WRITE
        && change->filter != EVFILT_USER)
        return EINVAL;
    at = find(kq, change->ident, change->filter);
    knote = *at;
    if (change->flags & EV_DELETE) {
        if (knote == NULL) return ENOENT;
        drop(at);
        return 0;
    }
    if (knote == NULL) {
        if (!(change->flags & EV_ADD)) return ENOENT;
        err = add(kq, change, &knote);
        if (err != 0) return err;
    } else {
        knote->udata = change->udata;
        if (change->flags & EV_DISABLE) {
            err = unwatch(knote);
        } else if (change->flags & (EV_ADD | EV_ENABLE)) {
            /* Looks at the file again, so that an edge already reported is
             * reported once more; a disabled knote stays so without EV_ENABLE. */
            if (knote->watching) {
                err = unwatch(knote);
                if (err == 0) err = watch(knote);
            } else if (change->flags & EV_ENABLE) {
                err = watch(knote);
            }
        }
        if (err != 0) return err;
    }
    if (change->filter == EVFILT_USER && (change->fflags & NOTE_TRIGGER)
        && write(knote->inner, &one, sizeof one) < 0 && errno != EAGAIN)
        return errno;
    return 0;
}

static bool report(struct knote *knote, struct kevent *event)
{
    struct epoll_event file;
    int unread = 0;

    *event = (struct kevent){ .ident = knote->ident, .filter = knote->filter,
                              .flags = knote->flags, .udata = knote->udata };
    if (knote->filter == EVFILT_USER) {
        uint64_t times;

        if (knote->flags & EV_CLEAR)
            return read(knote->inner, &times, sizeof times) == sizeof times;
        return true;
    }
    if (epoll_wait(knote->inner, &file, 1, 0) != 1) return false;
    if (file.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) event->flags |= EV_EOF;
    if (file.events & EPOLLERR) event->fflags = ECONNRESET;
    if (knote->filter == EVFILT_READ && ioctl((int)knote->ident, FIONREAD, &unread) == 0)
        event->data = unread;
    return true;
}

static int collect(int kq, struct kevent *events, int capacity)
{
    struct epoll_event *ready = calloc((size_t)capacity, sizeof *ready);
    int count = 0;
    int n, err;

    if (ready == NULL) return -1;
    n = epoll_wait(kq, ready, capacity, 0);
    err = errno;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n; i++) {
        struct knote *knote = find_id(ready[i].data.u64);

        if (knote == NULL || !knote->watching || !report(knote, &events[count])) continue;
        count++;
        if (knote->flags & EV_ONESHOT) drop(find(kq, knote->ident, knote->filter));
        else if (knote->flags & EV_DISPATCH) unwatch(knote);
    }
    pthread_mutex_unlock(&lock);
    free(ready);
    errno = err;
    return n < 0 ? -1 : count;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int await(int kq, struct kevent *events, int capacity, const struct timespec *timeout)
{
    int64_t start = timeout == NULL ? 0 : now_ns();

    for (;;) {
        struct pollfd queue = { .fd = kq, .events = POLLIN };
        struct timespec left = { 0, 0 };
        int n = collect(kq, events, capacity);

        if (n != 0) return n;
        if (timeout != NULL) {
            int64_t spent = now_ns() - start;
            int64_t rest = (int64_t)timeout->tv_nsec - spent % 1000000000;

            left.tv_sec = timeout->tv_sec - spent / 1000000000;
            if (rest < 0) { rest += 1000000000; left.tv_sec--; }
            left.tv_nsec = rest;
            if (left.tv_sec < 0 || (left.tv_sec == 0 && left.tv_nsec == 0)) return 0;
        }
        if (ppoll(&queue, 1, timeout == NULL ? NULL : &left, NULL) < 0) return -1;
        if (queue.revents & POLLNVAL) { errno = EBADF; return -1; }
    }
}

int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout)
{
    int receipts = 0;

    if (timeout != NULL && (timeout->tv_sec < 0 || timeout->tv_nsec < 0
                            || timeout->tv_nsec >= 1000000000)) {
        errno = EINVAL;
        return -1;
    }
    for (int i = 0; i < change_count; i++) {
        int err;

        pthread_mutex_lock(&lock);
        err = apply(kq, &changes[i]);
        pthread_mutex_unlock(&lock);
        if (err == 0 && !(changes[i].flags & EV_RECEIPT)) continue;
        if (receipts == event_count) {
            if (err == 0) continue;
            errno = err;
            return -1;
        }
        events[receipts] = changes[i];
        events[receipts].flags |= EV_ERROR;
        events[receipts].data = err;
        receipts++;
    }
    if (receipts > 0 || event_count == 0) return receipts;
    return await(kq, events, event_count, timeout);
}
