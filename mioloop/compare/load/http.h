/* http.h -- finds the end of an HTTP/1.1 response that arrives in pieces of any size. */
#ifndef MIO_HTTP_H
#define MIO_HTTP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int state;                  /* enum in http.c; 0 at the start of a response */
    int status;
    int chunked;
    int close;                  /* the server closes the connection after the response */
    int64_t length;             /* remaining bytes of the body or the chunk; -1: unknown */
    size_t line_size;           /* bytes of the current line so far */
    char line[1024];            /* longer lines are cut: no header that we read is longer */
} mio_http;

void mio_http_start(mio_http *http);

/* Returns the number of bytes of data that belong to this response, and sets
 * *done if the response is complete. -EPROTO if it is not HTTP/1.x. */
int64_t mio_http_feed(mio_http *http, const char *data, size_t size, int *done);

#endif
