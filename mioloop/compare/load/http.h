/* http.h -- where an HTTP/1.1 response ends, fed in pieces of any size. */
#ifndef MIO_HTTP_H
#define MIO_HTTP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int state;                  /* enum in http.c; 0 at the start of a response */
    int status;
    int chunked;
    int close;                  /* the server closes the connection after it */
    int64_t length;             /* of the body or chunk that is left; -1 unknown */
    size_t line_size;           /* of the line that is being collected */
    char line[1024];            /* longer ones are cut: none that matter are */
} mio_http;

void mio_http_start(mio_http *http);

/* How many bytes of data belong to this response; *done is set when it is
 * complete. -EPROTO if it is not HTTP/1.x. */
int64_t mio_http_feed(mio_http *http, const char *data, size_t size, int *done);

#endif
