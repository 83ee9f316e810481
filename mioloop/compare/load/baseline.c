/* The baseline: a server that does the necessary work and nothing else: one recv
 * into a shared buffer, and one send from it. A server in Python has to do this
 * work, too, and adds its own. */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "mio.h"
#include "sysio.h"

#define EVENTS 256
#define RECV_SIZE (256 * 1024)
#define BACKLOG 1024
#define ACCEPT_MAX 64               /* at a time, before connected clients are served again */
#define LISTENER (MIO_TOKEN_MAX - 1)

typedef struct {
    mio_channel channel;
    mio_token token;
    int handshake;
    int matched;                    /* HTTP: bytes of "\r\n\r\n" that have been matched */
    char *unsent;
    size_t unsent_size;
    size_t unsent_sent;
} client;

struct mio_baseline {
    mio_baseline_options options;
    mio_poll *poll;
    mio_slab clients;
    int fd;
    int port;
    char *response;
    char *buffer;                   /* head_size bytes 'h', then the received bytes */
    atomic_int stopping;
};

int mio_baseline_open(const mio_baseline_options *options, mio_baseline **out)
{
    struct sockaddr_storage address;
    socklen_t size;
    mio_baseline *server;
    int err, on = 1;

    *out = NULL;
    server = calloc(1, sizeof *server);
    if (server == NULL) return -ENOMEM;
    server->fd = -1;
    server->options = *options;
    mio_slab_init(&server->clients);
    server->response = malloc(options->response_size + 1);
    server->buffer = malloc(options->head_size + RECV_SIZE);
    if (server->response == NULL || server->buffer == NULL) { err = -ENOMEM; goto out; }
    if (options->response_size > 0)
        memcpy(server->response, options->response, options->response_size);
    memset(server->buffer, 'h', options->head_size);
    err = mio_poll_new(NULL, &server->poll);
    if (err < 0) goto out;
    err = mio_address(options->transport, options->address, 0, &address, &size);
    if (err < 0) goto out;
    server->fd = err = mio_socket(options->transport, address.ss_family);
    if (err < 0) goto out;
    err = 0;
    if (setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || bind(server->fd, (struct sockaddr *)&address, size) < 0
        || (options->transport != MIO_LOAD_UDP && listen(server->fd, BACKLOG) < 0)) {
        err = -errno;
        goto out;
    }
    size = sizeof address;
    if (getsockname(server->fd, (struct sockaddr *)&address, &size) < 0) { err = -errno; goto out; }
    if (address.ss_family == AF_INET)
        server->port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    else if (address.ss_family == AF_INET6)
        server->port = ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    err = mio_poll_register(server->poll, server->fd, LISTENER, MIO_READABLE, MIO_LEVEL);

out:
    if (err < 0) { mio_baseline_close(server); server = NULL; }
    *out = server;
    return err;
}

int mio_baseline_port(const mio_baseline *server)
{
    return server->port;
}

static void drop(mio_baseline *server, client *conn)
{
    if (conn->channel.fd >= 0) mio_poll_closing(server->poll, conn->channel.fd);
    mio_channel_close(&conn->channel);
    mio_slab_remove(&server->clients, conn->token);
    free(conn->unsent);
    free(conn);
}

/* -- hot path: ready -> recv -> send ------------------------------------------------ */

/* Send, and keep the bytes that the socket does not take. Nonzero: drop the client. */
static int answer(client *conn, const char *data, size_t size)
{
    ssize_t n = 0;
    char *grown;

    if (conn->unsent_size == 0) {
        n = mio_channel_send(&conn->channel, data, size);
        if (n == -EAGAIN) n = 0;
        if (n < 0) return -1;
        if ((size_t)n == size) return 0;
    }
    size -= (size_t)n;
    grown = realloc(conn->unsent, conn->unsent_size + size);
    if (grown == NULL) return -1;
    memcpy(grown + conn->unsent_size, data + n, size);
    conn->unsent = grown;
    conn->unsent_size += size;
    return 0;
}

static int answer_http(mio_baseline *server, client *conn, const char *data, size_t size)
{
    static const char end[] = "\r\n\r\n";
    size_t i;

    for (i = 0; i < size; i++) {
        if (data[i] == end[conn->matched]) conn->matched++;
        else conn->matched = data[i] == '\r';
        if (conn->matched < 4) continue;
        conn->matched = 0;
        if (answer(conn, server->response, server->options.response_size) < 0) return -1;
    }
    return 0;
}

static int flush(client *conn)
{
    ssize_t n;

    while (conn->unsent_sent < conn->unsent_size) {
        n = mio_channel_send(&conn->channel, conn->unsent + conn->unsent_sent,
                             conn->unsent_size - conn->unsent_sent);
        if (n == -EAGAIN) return 0;
        if (n < 0) return -1;
        conn->unsent_sent += (size_t)n;
    }
    conn->unsent_size = conn->unsent_sent = 0;
    return 0;
}

static int serve_client(mio_baseline *server, client *conn, uint32_t ready)
{
    size_t head = server->options.head_size;
    int emulates_edges = mio_poll_emulates_edges(server->poll);
    ssize_t n;
    int rc;

    while (conn->unsent_size == 0) {
        n = mio_channel_recv(&conn->channel, server->buffer + head, RECV_SIZE);
        if (n == -EAGAIN) {
            mio_poll_drained(server->poll, conn->channel.fd, MIO_READABLE);
            return 0;
        }
        if (n <= 0) return -1;
        if (server->options.protocol == MIO_LOAD_HTTP)
            rc = answer_http(server, conn, server->buffer + head, (size_t)n);
        else
            rc = answer(conn, server->buffer, head + (size_t)n);
        if (rc < 0) return -1;
        if (n < RECV_SIZE && (ready & MIO_ENDED) == 0 && conn->channel.ssl == NULL
            && !emulates_edges)
            break;
    }
    if (conn->unsent_size != 0) mio_poll_drained(server->poll, conn->channel.fd, MIO_WRITABLE);
    return 0;
}

static void on_ready(mio_baseline *server, client *conn, uint32_t ready)
{
    int rc;

    if (conn->handshake) {
        rc = mio_channel_handshake(&conn->channel);
        if (rc == -EAGAIN) return;
        if (rc < 0) { drop(server, conn); return; }
        conn->handshake = 0;
    }
    rc = 0;
    if (conn->unsent_size > 0) {
        rc = flush(conn);
        ready |= MIO_READABLE | MIO_ENDED;      /* nothing was read while bytes were unsent */
    }
    if (rc == 0 && ready & ~(uint32_t)MIO_WRITABLE) rc = serve_client(server, conn, ready);
    if (rc < 0) drop(server, conn);
}

static void serve_datagrams(mio_baseline *server)
{
    struct sockaddr_storage from;
    socklen_t size;
    ssize_t n;
    int i;

    for (i = 0; i < ACCEPT_MAX; i++) {
        size = sizeof from;
        n = recvfrom(server->fd, server->buffer, RECV_SIZE, 0, (struct sockaddr *)&from, &size);
        if (n < 0) return;
        /* If the datagram cannot be sent, it is lost, and its client reports the timeout. */
        (void)!sendto(server->fd, server->buffer, (size_t)n, 0, (struct sockaddr *)&from, size);
    }
}

static int accept_clients(mio_baseline *server)
{
    client *conn;
    int fd, i, err, on = 1;

    for (i = 0; i < ACCEPT_MAX; i++) {
        fd = mio_accept(server->fd, NULL, NULL);
        if (fd == -EAGAIN || fd == -ECONNABORTED) return 0;
        if (fd < 0) return fd;
        if (server->options.transport == MIO_LOAD_TCP)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        conn = calloc(1, sizeof *conn);
        if (conn == NULL) { close(fd); return -ENOMEM; }
        conn->token = MIO_TOKEN_MAX;
        conn->handshake = server->options.tls != NULL;
        err = mio_channel_open(&conn->channel, fd, server->options.tls);
        if (err == 0) err = mio_slab_insert(&server->clients, conn, &conn->token);
        if (err == 0)
            err = mio_poll_register(server->poll, fd, conn->token, MIO_READABLE | MIO_WRITABLE,
                                    MIO_EDGE);
        if (err < 0) { drop(server, conn); return err; }
    }
    return 0;
}

int mio_baseline_serve(mio_baseline *server)
{
    mio_event events[EVENTS];
    client *conn;
    int i, n, err;

    while (!atomic_load(&server->stopping)) {
        n = mio_poll_poll(server->poll, events, EVENTS, -1);
        if (n == -EINTR) continue;
        if (n < 0) return n;
        for (i = 0; i < n; i++) {
            if (events[i].token == LISTENER) {
                if (server->options.transport == MIO_LOAD_UDP) serve_datagrams(server);
                else if ((err = accept_clients(server)) < 0) return err;
                continue;
            }
            conn = mio_slab_get(&server->clients, events[i].token);
            if (conn != NULL) on_ready(server, conn, events[i].ready);
        }
    }
    return 0;
}

void mio_baseline_stop(mio_baseline *server)
{
    atomic_store(&server->stopping, 1);
    /* Fails only if the poll was freed, and then no thread waits in it. */
    mio_poll_wake(server->poll);
}

void mio_baseline_close(mio_baseline *server)
{
    uint32_t i;

    if (server == NULL) return;
    for (i = 0; i < server->clients.used; i++)
        if (server->clients.entries[i].value != NULL)
            drop(server, server->clients.entries[i].value);
    if (server->fd >= 0) close(server->fd);
    mio_poll_free(server->poll);
    mio_slab_free(&server->clients);
    free(server->response);
    free(server->buffer);
    free(server);
}
