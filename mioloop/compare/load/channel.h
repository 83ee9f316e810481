/* channel.h -- one set of calls for plain sockets and sockets with TLS.
 *
 * Results follow sysio.h: a count or -errno. recv returns 0 at the end of the
 * stream. -EAGAIN: wait for readiness. -EPROTO: TLS failed.
 */
#ifndef MIO_CHANNEL_H
#define MIO_CHANNEL_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "load.h"
#include "mio.h"

/* Readiness after which the end of the stream may follow the bytes. */
#define MIO_ENDED (MIO_ERROR | MIO_HUP | MIO_READ_CLOSED)

typedef struct {
    int fd;                     /* -1 if there is none */
    void *ssl;                  /* NULL: plain */
    mio_tls *tls;
} mio_channel;

/* Takes ownership of fd, also on failure. */
int mio_channel_open(mio_channel *channel, int fd, mio_tls *tls);
void mio_channel_close(mio_channel *channel);
int mio_channel_handshake(mio_channel *channel);    /* 0 when done */
ssize_t mio_channel_recv(mio_channel *channel, void *buf, size_t len);
/* After -EAGAIN the next call must send the same bytes again, at any address. */
ssize_t mio_channel_send(mio_channel *channel, const void *buf, size_t len);

/* Parse an address: digits and a port for TCP and UDP, a path for MIO_LOAD_UNIX. */
int mio_address(int transport, const char *text, int port, struct sockaddr_storage *out,
                socklen_t *len);
/* Make a socket: non-blocking, close-on-exec, and with TCP_NODELAY if it is TCP. */
int mio_socket(int transport, int family);

#endif
