/* sources.h -- things to poll, and what was reported of them. */
#ifndef SOURCES_H
#define SOURCES_H

#include <pthread.h>

#include "mio.h"
#include "test.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND (1000 * MILLISECOND)

/* Long enough that only a lost event takes it, short of TEST_LIMIT_S. */
#define PATIENCE (5 * SECOND)

/* How long silence must last to count as "no event". */
#define SILENCE (5 * MILLISECOND)

#define READ_WRITE (MIO_READABLE | MIO_WRITABLE)

/* All descriptors are non-blocking and close-on-exec. */
struct pair { int left, right; };

struct pair unix_pair(void);
struct pair tcp_pair(void);
struct pair pipe_pair(void);        /* left is read from, right written to */
void close_pair(struct pair pair);
int tcp_socket(void);
int tcp_listener(void);
int tcp_connect(int listener);      /* may still be in progress */
int tcp_refused_port(void);         /* where nobody listens */
int udp_socket(void);
uint16_t port_of(int fd);
void connect_to(int fd, uint16_t port);

void send_text(int fd, const char *text);
size_t drain(int fd);               /* reads until "would block" or the end */
size_t fill(int fd);                /* writes until "would block" */
void reset_by_close(int fd);        /* closes; the peer sees a reset */

mio_poll *new_poll(void);           /* on the selector under test */

/* One poll, again after a signal; answers what mio_poll_poll() does. */
int poll_once(mio_poll *poll, mio_event *events, int capacity, int64_t timeout_ns);

/* Polls until every bit of `ready` was reported for the token, which must come
 * within PATIENCE; answers all bits that were. Other tokens fail the test. */
uint32_t expect_ready(mio_poll *poll, mio_token token, uint32_t ready);

/* One poll reports exactly this one event. */
void expect_event(mio_poll *poll, mio_token token, uint32_t ready);

/* Nothing is reported during SILENCE. */
void expect_silence(mio_poll *poll);

/* -- threads ------------------------------------------------------------- */

struct polling {
    mio_poll *poll;
    int64_t timeout_ns;
    mio_event events[16];
    int result;             /* once joined */
    int64_t took_ns;
    pthread_t thread;
    _Atomic int thread_id;
};

/* Starts a thread that polls once, and answers when it seems to be blocked: a
 * test must hold as well if it is not yet, and is only sharper if it is. */
void start_polling(struct polling *polling, mio_poll *poll, int64_t timeout_ns);
void join_polling(struct polling *polling);

#endif
