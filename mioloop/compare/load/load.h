/* load.h -- the two C programs of `python -m mioloop compare`: a load generator,
 * and a plain server, the baseline that the event loops are compared to. Both
 * use the Poll core.
 *
 * The generator is a closed loop: each connection has one request in flight, and
 * sends the next one when the complete, correct answer has arrived. If `active`
 * is set, only that many connections have a request in flight; the next request
 * is sent by the next idle connection. If `interval_ns` is set, a connection
 * waits at least that long between the starts of two requests. A request fails
 * if its answer is wrong or has not arrived after timeout_ns; its connection is
 * closed and not opened again.
 *
 * Results  0 or a count on success, -errno on failure.
 * Time     int64_t nanoseconds, CLOCK_MONOTONIC.
 * Threads  a load or a baseline belongs to one thread; any thread may call
 *          mio_baseline_stop().
 * Memory   strings and buffers in the options are copied.
 */
#ifndef MIO_LOAD_H
#define MIO_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* cdef-begin: the cffi binding reads these lines, so they stay plain C. */

typedef struct mio_load mio_load;
typedef struct mio_baseline mio_baseline;
typedef struct mio_tls mio_tls;

/* The kind of the sockets. */
#define MIO_LOAD_TCP  0         /* address is IPv4 or IPv6 in digits */
#define MIO_LOAD_UNIX 1         /* address is a path */
#define MIO_LOAD_UDP  2

/* The protocol of the requests. */
#define MIO_LOAD_ECHO 0         /* the answer is head_size bytes 'h', then the request */
#define MIO_LOAD_HTTP 1         /* the answer is an HTTP/1.1 response of status 2xx */

/* -- TLS, by the libssl that Python has loaded ------------------------------- */

/* library: path of libssl. certificate: a PEM file with the certificate and the
 * key of a server; NULL for a client, which verifies nothing.
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
    int active;                 /* connections with a request in flight; 0: all */
    int64_t interval_ns;        /* least time between two requests of a connection */
    int reconnect;              /* open a new connection for each request */
    const char *request;        /* HTTP only; echo requests are generated */
    size_t request_size;
    size_t head_size;           /* ECHO: bytes before the echoed ones */
    int64_t timeout_ns;
    mio_tls *tls;               /* NULL: no TLS. Must outlive the load. */
} mio_load_options;

typedef struct {
    uint64_t requests;          /* with a complete and correct answer */
    uint64_t failures;
    int64_t elapsed_ns;         /* until the last answer */
    int64_t p50_ns;             /* median latency, rounded up by at most 1/128 */
    int64_t p99_ns;
    int64_t p999_ns;
    int64_t max_ns;
} mio_load_result;

/* *out is also set on failure, so that its message can be read; only if memory
 * ran out is it NULL. */
int mio_load_open(const mio_load_options *options, mio_load **out);

/* Connects every connection, and completes its TLS handshake. */
int mio_load_connect(mio_load *load);

/* Sends requests for duration_ns, then waits for the answers that are still
 * missing: on success no request is in flight when it returns. -ECANCELED if a
 * signal interrupts it. */
int mio_load_run(mio_load *load, int64_t duration_ns, mio_load_result *result);

const char *mio_load_message(const mio_load *load);     /* first failure; "" without one */
void mio_load_close(mio_load *load);                    /* NULL is fine */

/* -- baseline --------------------------------------------------------------------- */

typedef struct {
    int transport;
    int protocol;
    const char *address;        /* the system chooses the port */
    const char *response;       /* HTTP: the answer to every request */
    size_t response_size;
    size_t head_size;           /* ECHO: bytes 'h' before the echoed ones */
    mio_tls *tls;
} mio_baseline_options;

int mio_baseline_open(const mio_baseline_options *options, mio_baseline **out);
int mio_baseline_port(const mio_baseline *server);
int mio_baseline_serve(mio_baseline *server);   /* returns after mio_baseline_stop() */
void mio_baseline_stop(mio_baseline *server);
void mio_baseline_close(mio_baseline *server);

/* -- the processes that run them ------------------------------------------------ */

/* Have the system kill the calling process when its parent ends. -ENOSYS on
 * systems that cannot. */
int mio_die_with_parent(void);

/* cdef-end */
#endif
