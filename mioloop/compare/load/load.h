/* load.h -- the two C programs of `python -m mioloop compare`: a load generator
 * and the plain server that is its baseline, both on the Poll core.
 *
 * The generator is a closed loop: every connection has one request under way
 * and sends the next when the answer has come back whole and right. With
 * `active` only so many do, and the next request is of the next connection that
 * rests; with `interval_ns` a connection sends no sooner than that after its
 * last request. An answer that has not come after timeout_ns, or is wrong, has
 * failed, and so has its connection, which is not opened again.
 *
 * Results  0 or a count on success, -errno on failure.
 * Time     int64_t nanoseconds, CLOCK_MONOTONIC.
 * Threads  a load and a baseline belong to one thread; mio_baseline_stop() may be
 *          called from any.
 * Memory   strings and buffers given in options are copied.
 */
#ifndef MIO_LOAD_H
#define MIO_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* cdef-begin: the cffi binding reads these lines, so they stay plain C. */

typedef struct mio_load mio_load;
typedef struct mio_baseline mio_baseline;
typedef struct mio_tls mio_tls;

/* What the sockets are. */
#define MIO_LOAD_TCP  0         /* address is IPv4 or IPv6 in digits */
#define MIO_LOAD_UNIX 1         /* address is a path */
#define MIO_LOAD_UDP  2

/* What is said over them. */
#define MIO_LOAD_ECHO 0         /* the answer is head_size bytes 'h' and the request */
#define MIO_LOAD_HTTP 1         /* the answer is an HTTP/1.1 response of status 2xx */

/* -- TLS by the libssl that Python has loaded already ----------------------- */

/* library: path of libssl. certificate: for a server, a PEM file with its
 * certificate and key; NULL for a client, which verifies nothing.
 * -ENOENT if the library cannot be opened, -ENOSYS if a function is missing. */
int mio_tls_open(const char *library, const char *certificate, mio_tls **out);
void mio_tls_close(mio_tls *tls);                                /* NULL is fine */

/* Writes a new self-signed certificate for localhost and its key, P-256, to a
 * new PEM file that only the owner may read. */
int mio_tls_make_certificate(const char *library, const char *path);

/* -- load generator ---------------------------------------------------------- */

typedef struct {
    int transport;              /* MIO_LOAD_TCP ... */
    int protocol;               /* MIO_LOAD_ECHO ... */
    const char *address;
    int port;
    int connections;
    int active;                 /* with a request under way at any time; 0: all of them */
    int64_t interval_ns;        /* between two requests of a connection, at least */
    int reconnect;              /* a new connection for each request */
    const char *request;        /* HTTP; an echo makes its own */
    size_t request_size;
    size_t head_size;           /* ECHO: bytes before the echoed ones */
    int64_t timeout_ns;
    mio_tls *tls;               /* NULL: none. Outlives the load. */
} mio_load_options;

typedef struct {
    uint64_t requests;          /* answered whole and right */
    uint64_t failures;
    int64_t elapsed_ns;         /* until the last answer */
    int64_t p50_ns;             /* of the latencies, rounded up by at most 1/128 */
    int64_t p99_ns;
    int64_t p999_ns;
    int64_t max_ns;
} mio_load_result;

/* *out is set also on failure, for its message, unless memory ran out. */
int mio_load_open(const mio_load_options *options, mio_load **out);

/* Every connection is connected, and through its handshake. */
int mio_load_connect(mio_load *load);

/* Requests for duration_ns, then the answers to those still under way: nothing
 * is left unanswered when it returns, unless it failed. -ECANCELED if
 * interrupted by a signal. */
int mio_load_run(mio_load *load, int64_t duration_ns, mio_load_result *result);

const char *mio_load_message(const mio_load *load);     /* the first failure; "" if none */
void mio_load_close(mio_load *load);                    /* NULL is fine */

/* -- baseline --------------------------------------------------------------------- */

typedef struct {
    int transport;
    int protocol;
    const char *address;        /* a port is chosen by the system */
    const char *response;       /* HTTP: what every request is answered with */
    size_t response_size;
    size_t head_size;           /* ECHO: bytes 'h' before the echoed ones */
    mio_tls *tls;
} mio_baseline_options;

int mio_baseline_open(const mio_baseline_options *options, mio_baseline **out);
int mio_baseline_port(const mio_baseline *server);
int mio_baseline_serve(mio_baseline *server);         /* until mio_baseline_stop() */
void mio_baseline_stop(mio_baseline *server);
void mio_baseline_close(mio_baseline *server);

/* -- the processes that run them ------------------------------------------------ */

/* The calling process is killed when its parent ends. -ENOSYS where there is
 * no such thing. */
int mio_die_with_parent(void);

/* cdef-end */
#endif
