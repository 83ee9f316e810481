/* channel.h -- a socket, plain or under TLS, by one set of calls.
 *
 * Results as in sysio.h: a count or -errno; 0 from recv is the end of the
 * stream, -EAGAIN means "when it is ready", -EPROTO is a failure of TLS.
 */
#ifndef MIO_CHANNEL_H
#define MIO_CHANNEL_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "load.h"
#include "mio.h"

/* Readiness that says there may be an end behind the bytes. */
#define MIO_ENDED (MIO_ERROR | MIO_HUP | MIO_READ_CLOSED)

typedef struct {
    int fd;                     /* -1 if there is none */
    void *ssl;                  /* NULL: plain */
    mio_tls *tls;
} mio_channel;

/* Takes over fd; on failure too. */
int mio_channel_open(mio_channel *channel, int fd, mio_tls *tls);
void mio_channel_close(mio_channel *channel);
int mio_channel_handshake(mio_channel *channel);    /* 0 when done */
ssize_t mio_channel_recv(mio_channel *channel, void *buf, size_t len);
/* After -EAGAIN the next call repeats the same bytes, at any address. */
ssize_t mio_channel_send(mio_channel *channel, const void *buf, size_t len);

/* An address of MIO_LOAD_TCP, MIO_LOAD_UDP (digits, port) or MIO_LOAD_UNIX. */
int mio_address(int transport, const char *text, int port, struct sockaddr_storage *out,
                socklen_t *len);
/* Non-blocking, close-on-exec, TCP_NODELAY where it applies. */
int mio_socket(int transport, int family);

#endif
