/* The load generator. Every socket is registered once, edge-triggered in both
 * directions, so that a request costs one send, one recv and a share of a poll.
 * Time that the generator uses is taken from the server that is measured. */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "http.h"
#include "latencies.h"
#include "mio.h"

#define EVENTS 256
#define RECV_SIZE (256 * 1024)
#define OPENING_MAX 64              /* below the backlog of any server */
#define TICK_NS 100000000LL         /* interval between two checks for overdue requests */
#define STAMP_SIZE 16               /* an echo request begins with connection and sequence */

enum state { CLOSED, CONNECTING, HANDSHAKE, IDLE, WAITING };

typedef struct {
    mio_channel channel;
    enum state state;
    int busy;                       /* a request is in flight, or waits for its connection */
    uint64_t sequence;
    size_t sent;
    size_t received;
    int64_t started_ns;
    mio_http http;
} connection;

struct mio_load {
    mio_load_options options;
    struct sockaddr_storage address;
    socklen_t address_size;
    mio_poll *poll;
    int emulates_edges;
    connection *connections;
    char *request;
    char *received;
    size_t answer_size;             /* ECHO: bytes of a complete answer */
    int ready;                      /* connections that are open */
    int opening;
    int lost;                       /* connections that failed; they are not opened again */
    int busy;
    int running;                    /* send the next request after an answer */
    int last;                       /* connection that began the last request, if some are idle */
    uint64_t opened;
    uint64_t requests;
    uint64_t failures;
    mio_latencies latencies;
    char message[256];
};

/* -- connections ------------------------------------------------------------------ */

static void send_request(mio_load *load, connection *conn, int64_t now);
static void open_connection(mio_load *load, connection *conn);

static void leave_state(mio_load *load, connection *conn)
{
    if (conn->state == CONNECTING || conn->state == HANDSHAKE) load->opening--;
    else if (conn->state != CLOSED) load->ready--;
    conn->state = CLOSED;
}

static void close_connection(mio_load *load, connection *conn)
{
    if (conn->channel.fd >= 0) mio_poll_closing(load->poll, conn->channel.fd);
    mio_channel_close(&conn->channel);
    leave_state(load, conn);
}

static void set_busy(mio_load *load, connection *conn, int busy)
{
    load->busy += busy - conn->busy;
    conn->busy = busy;
}

__attribute__((format(printf, 3, 4)))
static void fail(mio_load *load, connection *conn, const char *format, ...)
{
    char why[160];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (load->message[0] == '\0')
        snprintf(load->message, sizeof load->message, "connection %td, request %llu: %s",
                 conn - load->connections, (unsigned long long)conn->sequence, why);
    load->failures++;
    load->lost++;
    set_busy(load, conn, 0);
    close_connection(load, conn);
}

static void on_open(mio_load *load, connection *conn)
{
    leave_state(load, conn);
    conn->state = IDLE;
    load->ready++;
    if (conn->busy) send_request(load, conn, conn->started_ns);
}

static void on_connected(mio_load *load, connection *conn)
{
    int fd = conn->channel.fd;
    int err = 0;
    socklen_t size = sizeof err;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0) err = errno;
    if (err != 0) {
        fail(load, conn, "connect: %s", strerror(err));
        return;
    }
    if (load->options.tls == NULL) {
        on_open(load, conn);
        return;
    }
    if (mio_channel_open(&conn->channel, fd, load->options.tls) < 0) {
        fail(load, conn, "no memory for TLS");
        return;
    }
    conn->state = HANDSHAKE;
}

static void shake_hands(mio_load *load, connection *conn)
{
    int rc = mio_channel_handshake(&conn->channel);

    if (rc == 0) on_open(load, conn);
    else if (rc != -EAGAIN) fail(load, conn, "TLS handshake: %s", strerror(-rc));
}

/* With a connection for each request, closed connections keep their ports in
 * TIME_WAIT. One address has 28,000 ports, which last a few seconds, so bind to
 * 64 addresses of 127.0.0.0/8 in turn. */
static int choose_source(mio_load *load, int fd)
{
#if defined(__linux__) && defined(IP_BIND_ADDRESS_NO_PORT)
    const struct sockaddr_in *to = (struct sockaddr_in *)&load->address;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int on = 1;

    if (!load->options.reconnect || load->options.transport != MIO_LOAD_TCP
        || to->sin_family != AF_INET || ntohl(to->sin_addr.s_addr) >> 24 != 127)
        return 0;
    from.sin_addr.s_addr = htonl(0x7f000001u + (uint32_t)(load->opened % 64));
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0
        || bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
        return -errno;
#else
    (void)load;
    (void)fd;
#endif
    return 0;
}

/* If the server's backlog is full, conn->state stays CLOSED and nothing fails. */
static void open_connection(mio_load *load, connection *conn)
{
    int fd, rc, is_open;

    fd = mio_socket(load->options.transport, load->address.ss_family);
    conn->channel = (mio_channel){.fd = fd < 0 ? -1 : fd};
    if (fd < 0) { fail(load, conn, "socket: %s", strerror(-fd)); return; }
    rc = choose_source(load, fd);
    if (rc < 0) { fail(load, conn, "bind: %s", strerror(-rc)); return; }
    load->opened++;
    is_open = connect(fd, (struct sockaddr *)&load->address, load->address_size) == 0;
    if (!is_open && errno == EAGAIN) {          /* the backlog of a Unix socket is full */
        mio_channel_close(&conn->channel);
        return;
    }
    if (!is_open && errno != EINPROGRESS) {
        fail(load, conn, "connect: %s", strerror(errno));
        return;
    }
    conn->state = CONNECTING;
    load->opening++;
    rc = mio_poll_register(load->poll, fd, (mio_token)(conn - load->connections),
                           MIO_READABLE | MIO_WRITABLE, MIO_EDGE);
    if (rc < 0) { fail(load, conn, "epoll: %s", strerror(-rc)); return; }
    if (!is_open) return;
    on_connected(load, conn);
    if (conn->state == HANDSHAKE) shake_hands(load, conn);
}

/* -- requests ------------------------------------------------------------------------ */

static void stamp(const connection *conn, uint64_t index, char *out)
{
    memcpy(out, &index, sizeof index);
    memcpy(out + sizeof index, &conn->sequence, sizeof conn->sequence);
}

static int has_stamp(const mio_load *load)
{
    return load->options.protocol == MIO_LOAD_ECHO && load->options.request_size >= STAMP_SIZE;
}

static void flush(mio_load *load, connection *conn)
{
    size_t size = load->options.request_size;
    ssize_t n;

    if (has_stamp(load)) stamp(conn, (uint64_t)(conn - load->connections), load->request);
    while (conn->sent < size) {
        n = mio_channel_send(&conn->channel, load->request + conn->sent, size - conn->sent);
        if (n == -EAGAIN) {
            mio_poll_drained(load->poll, conn->channel.fd, MIO_WRITABLE);
            return;
        }
        if (n < 0) { fail(load, conn, "send: %s", strerror((int)-n)); return; }
        conn->sent += (size_t)n;
    }
}

static void send_request(mio_load *load, connection *conn, int64_t now)
{
    conn->sequence++;
    conn->sent = 0;
    conn->received = 0;
    conn->started_ns = now;
    conn->state = WAITING;
    set_busy(load, conn, 1);
    if (load->options.protocol == MIO_LOAD_HTTP) mio_http_start(&conn->http);
    flush(load, conn);
}

static void begin(mio_load *load, connection *conn, int64_t now)
{
    if (conn->state == IDLE) {
        send_request(load, conn, now);
        return;
    }
    conn->started_ns = now;
    set_busy(load, conn, 1);
    open_connection(load, conn);
    if (conn->state == CLOSED && conn->busy) fail(load, conn, "connect: the backlog is full");
}

/* The connection that sends the next request, after conn has become idle. Idle connections
 * take turns in a circle, so that each sends equally often. */
static connection *next_to_begin(mio_load *load, connection *conn)
{
    int i;

    if (load->options.active == load->options.connections) return conn;
    for (i = 0; i < load->options.connections; i++) {
        load->last = (load->last + 1) % load->options.connections;
        if (load->connections[load->last].state == IDLE) return &load->connections[load->last];
    }
    return conn;        /* no connection is idle: conn and the idle ones were closed */
}

/* Begin the requests that interval_ns makes due. Returns the time of the next one, or
 * INT64_MAX if no connection is idle. */
static int64_t begin_due(mio_load *load, int64_t now)
{
    int64_t first_ns = INT64_MAX, due_ns;
    int i;

    for (i = 0; i < load->options.connections; i++) {
        connection *conn = &load->connections[i];

        if (conn->busy || conn->state != IDLE) continue;
        due_ns = conn->started_ns + load->options.interval_ns;
        if (due_ns <= now) begin(load, conn, now);
        else if (due_ns < first_ns) first_ns = due_ns;
    }
    return first_ns;
}

static void on_answer(mio_load *load, connection *conn)
{
    int64_t now = mio_clock_now();
    int64_t latency = now - conn->started_ns;
    int again = load->options.reconnect;

    load->requests++;
    mio_latencies_add(&load->latencies, latency);
    set_busy(load, conn, 0);
    conn->state = IDLE;
    if (load->options.protocol == MIO_LOAD_HTTP && conn->http.close) again = 1;
    if (again) close_connection(load, conn);
    if (load->running && load->options.interval_ns == 0)
        begin(load, next_to_begin(load, conn), now);
}

/* Nonzero if `data`, which begins `at` bytes into the answer, is not the echo. */
static int is_wrong_echo(mio_load *load, connection *conn, const char *data, size_t size, size_t at)
{
    char stamped[STAMP_SIZE];
    size_t i, from, part, head = load->options.head_size;

    if (size > load->answer_size - at) return 1;
    for (; at < head && size > 0; at++, data++, size--) {
        if (*data != 'h') return 1;
    }
    if (size == 0) return 0;
    from = at - head;
    if (has_stamp(load) && from < STAMP_SIZE) {
        stamp(conn, (uint64_t)(conn - load->connections), stamped);
        part = STAMP_SIZE - from < size ? STAMP_SIZE - from : size;
        for (i = 0; i < part; i++) {
            if (data[i] != stamped[from + i]) return 1;
        }
        from += part;
        data += part;
        size -= part;
    }
    return memcmp(data, load->request + from, size) != 0;
}

static void on_data(mio_load *load, connection *conn, const char *data, size_t size)
{
    int done;
    int64_t used;

    if (load->options.protocol == MIO_LOAD_ECHO) {
        if (is_wrong_echo(load, conn, data, size, conn->received)) {
            fail(load, conn, "wrong bytes in the answer, after %zu of %zu", conn->received,
                 load->answer_size);
            return;
        }
        conn->received += size;
        if (conn->received == load->answer_size) on_answer(load, conn);
        return;
    }
    conn->received += size;
    used = mio_http_feed(&conn->http, data, size, &done);
    if (used < 0) fail(load, conn, "the answer is not HTTP/1.1, or of unknown length");
    else if (done && conn->http.status / 100 != 2)
        fail(load, conn, "answered with status %d", conn->http.status);
    else if ((size_t)used < size) fail(load, conn, "more bytes than the answer should have");
    else if (done) on_answer(load, conn);
}

static void receive(mio_load *load, connection *conn, uint32_t ready)
{
    uint64_t opened = load->opened;
    ssize_t n;

    for (;;) {
        n = mio_channel_recv(&conn->channel, load->received, RECV_SIZE);
        if (n == -EAGAIN) {
            mio_poll_drained(load->poll, conn->channel.fd, MIO_READABLE);
            return;
        }
        if (n < 0) { fail(load, conn, "recv: %s", strerror((int)-n)); return; }
        if (n == 0) {
            if (!conn->busy && load->options.protocol == MIO_LOAD_HTTP) {
                close_connection(load, conn);   /* keep-alive has expired; reopened on demand */
                return;
            }
            fail(load, conn, "closed by the server after %zu bytes of the answer", conn->received);
            return;
        }
        if (conn->state != WAITING) {
            fail(load, conn, "%zd bytes arrived without a request", n);
            return;
        }
        on_data(load, conn, load->received, (size_t)n);
        if (conn->channel.fd < 0 || load->opened != opened) return;     /* closed or replaced */
        /* A short read has drained the stream, unless the end of the stream follows. A
         * datagram socket has one answer for each request. */
        if (n < RECV_SIZE && (ready & MIO_ENDED) == 0 && conn->channel.ssl == NULL
            && !load->emulates_edges)
            return;
    }
}

static void on_ready(mio_load *load, connection *conn, uint32_t ready)
{
    switch (conn->state) {
    case CLOSED:
        break;
    case CONNECTING:
        if ((ready & (MIO_WRITABLE | MIO_ERROR | MIO_HUP)) == 0) break;
        on_connected(load, conn);
        if (conn->state == HANDSHAKE) shake_hands(load, conn);
        break;
    case HANDSHAKE:
        shake_hands(load, conn);
        break;
    case WAITING:
        if (conn->sent < load->options.request_size) flush(load, conn);
        if (conn->state != WAITING) break;
        /* fall through */
    case IDLE:
        if (ready & ~(uint32_t)MIO_WRITABLE) receive(load, conn, ready);
        break;
    }
}

static int turn(mio_load *load, int64_t timeout_ns)
{
    mio_event events[EVENTS];
    int i, n;

    n = mio_poll_poll(load->poll, events, EVENTS, timeout_ns);
    if (n == -EINTR) return -ECANCELED;
    for (i = 0; i < n; i++) on_ready(load, &load->connections[events[i].token], events[i].ready);
    return n < 0 ? n : 0;
}

static void fail_overdue(mio_load *load, int64_t now)
{
    int i;

    for (i = 0; i < load->options.connections; i++) {
        connection *conn = &load->connections[i];

        if (conn->busy && now - conn->started_ns > load->options.timeout_ns)
            fail(load, conn, "no answer in %.1f s, %zu bytes of it received",
                 (double)load->options.timeout_ns / 1e9, conn->received);
    }
}

/* -- interface to Python ---------------------------------------------------------------- */

int mio_load_open(const mio_load_options *options, mio_load **out)
{
    mio_load *load;
    size_t i;
    int err;

    *out = NULL;
    if (options->connections < 1 || options->request_size < 1 || options->active < 0
        || options->active > options->connections || options->interval_ns < 0)
        return -EINVAL;
    load = calloc(1, sizeof *load);
    if (load == NULL) return -ENOMEM;
    *out = load;
    load->options = *options;
    load->options.address = NULL;
    load->options.request = NULL;
    if (options->active == 0) load->options.active = options->connections;
    load->last = load->options.active - 1;
    load->answer_size = options->head_size + options->request_size;
    load->connections = calloc((size_t)options->connections, sizeof *load->connections);
    load->request = malloc(options->request_size);
    load->received = malloc(RECV_SIZE);
    if (load->connections == NULL || load->request == NULL || load->received == NULL)
        return -ENOMEM;
    for (i = 0; i < (size_t)options->connections; i++) load->connections[i].channel.fd = -1;
    if (options->protocol == MIO_LOAD_HTTP)
        memcpy(load->request, options->request, options->request_size);
    else    /* bytes that differ from their neighbours, so that a shifted echo is detected */
        for (i = 0; i < options->request_size; i++) load->request[i] = (char)(i * 7 + i / 251);
    err = mio_address(options->transport, options->address, options->port, &load->address,
                      &load->address_size);
    if (err < 0) return err;
    err = mio_poll_new(NULL, &load->poll);
    if (err < 0) return err;
    load->emulates_edges = mio_poll_emulates_edges(load->poll);
    return 0;
}

int mio_load_connect(mio_load *load)
{
    int next = 0, before = 0, err;
    int64_t progress_ns = mio_clock_now();

    if (load->options.reconnect) return 0;
    while (load->ready < load->options.connections && load->lost == 0) {
        while (next < load->options.connections && load->opening < OPENING_MAX && load->lost == 0) {
            connection *conn = &load->connections[next];

            open_connection(load, conn);
            if (conn->state == CLOSED) break;
            next++;
        }
        err = turn(load, load->opening > 0 ? TICK_NS : TICK_NS / 100);
        if (err < 0) return err;
        if (load->ready != before) {
            before = load->ready;
            progress_ns = mio_clock_now();
        } else if (mio_clock_now() - progress_ns > load->options.timeout_ns) {
            snprintf(load->message, sizeof load->message,
                     "%d of %d connections could be made", load->ready,
                     load->options.connections);
            return -ETIMEDOUT;
        }
    }
    return load->lost > 0 ? -ECONNREFUSED : 0;
}

int mio_load_run(mio_load *load, int64_t duration_ns, mio_load_result *result)
{
    int64_t started_ns = mio_clock_now(), now = started_ns, checked_ns = started_ns;
    int64_t left_ns, wait_ns, due_ns;
    int i, begun = 0, err = 0;

    memset(&load->latencies, 0, sizeof load->latencies);
    load->requests = 0;
    load->running = 1;
    for (i = 0; i < load->options.connections && begun < load->options.active; i++) {
        if (load->lost > 0 && load->connections[i].state != IDLE) continue;
        begin(load, &load->connections[i], now);
        begun++;
    }
    for (;;) {
        now = mio_clock_now();
        left_ns = started_ns + duration_ns - now;
        if (left_ns <= 0) load->running = 0;
        wait_ns = load->running && left_ns < TICK_NS ? left_ns : TICK_NS;
        due_ns = INT64_MAX;
        if (load->running && load->options.interval_ns > 0) due_ns = begin_due(load, now);
        if (due_ns - now < wait_ns) wait_ns = due_ns - now;
        if (load->busy == 0 && due_ns == INT64_MAX) break;      /* done, or all have failed */
        if (now - checked_ns > TICK_NS) {
            fail_overdue(load, now);
            checked_ns = now;
        }
        err = turn(load, wait_ns);
        if (err < 0) break;
    }
    load->running = 0;
    *result = (mio_load_result){
        .requests = load->requests,
        .failures = load->failures,
        .elapsed_ns = now - started_ns,
        .p50_ns = mio_latencies_percentile(&load->latencies, 500),
        .p99_ns = mio_latencies_percentile(&load->latencies, 990),
        .p999_ns = mio_latencies_percentile(&load->latencies, 999),
        .max_ns = load->latencies.max_ns,
    };
    return err;
}

const char *mio_load_message(const mio_load *load)
{
    return load->message;
}

void mio_load_close(mio_load *load)
{
    int i;

    if (load == NULL) return;
    if (load->connections != NULL)
        for (i = 0; i < load->options.connections; i++)
            mio_channel_close(&load->connections[i].channel);
    mio_poll_free(load->poll);
    free(load->connections);
    free(load->request);
    free(load->received);
    free(load);
}
