#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STATUS_LINE, HEADERS, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILERS };

void mio_http_start(mio_http *http)
{
    http->state = STATUS_LINE;
    http->status = 0;
    http->chunked = 0;
    http->close = 0;
    http->length = -1;
    http->line_size = 0;
}

/* The value of the header in `line` if the header has this name, else NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t size = strlen(name);

    if (strncasecmp(line, name, size) != 0 || line[size] != ':') return NULL;
    line += size + 1;
    return line + strspn(line, " \t");
}

static int on_status_line(mio_http *http)
{
    if (strncmp(http->line, "HTTP/1.", 7) != 0 || strlen(http->line) < 12) return -EPROTO;
    http->status = atoi(http->line + 9);
    http->close = http->line[7] == '0';
    return http->status < 100 ? -EPROTO : 0;
}

static int on_header(mio_http *http)
{
    const char *value;
    char *end;

    if ((value = value_of(http->line, "content-length")) != NULL) {
        http->length = strtoll(value, &end, 10);
        if (end == value || http->length < 0) return -EPROTO;
    } else if ((value = value_of(http->line, "transfer-encoding")) != NULL) {
        http->chunked = strcasecmp(value, "chunked") == 0;
    } else if ((value = value_of(http->line, "connection")) != NULL) {
        http->close = strcasecmp(value, "close") == 0;
    }
    return 0;
}

/* Called for the empty line after the headers. Nonzero: the response has no body. */
static int on_headers_end(mio_http *http)
{
    if (http->status < 200) {           /* 100 Continue: the response follows */
        mio_http_start(http);
        return 0;
    }
    if (http->status == 204 || http->status == 304) return 1;
    if (http->chunked) {
        http->state = CHUNK_SIZE;
        return 0;
    }
    if (http->length < 0) return -EPROTO;       /* would end with the connection */
    http->state = BODY;
    return http->length == 0;
}

/* Called for each complete line. 1: the response is complete; -EPROTO: it is wrong. */
static int on_line(mio_http *http)
{
    char *end;

    switch (http->state) {
    case STATUS_LINE:
        http->state = HEADERS;
        return on_status_line(http);
    case HEADERS:
        return http->line[0] != '\0' ? on_header(http) : on_headers_end(http);
    case CHUNK_SIZE:
        http->length = strtoll(http->line, &end, 16);
        if (end == http->line || http->length < 0) return -EPROTO;
        http->state = http->length > 0 ? CHUNK : TRAILERS;
        return 0;
    case CHUNK_END:
        http->state = CHUNK_SIZE;
        return http->line[0] != '\0' ? -EPROTO : 0;
    default:
        return http->line[0] == '\0';
    }
}

int64_t mio_http_feed(mio_http *http, const char *data, size_t size, int *done)
{
    size_t at = 0;
    int rc;

    *done = 0;
    while (at < size && !*done) {
        if (http->state == BODY || http->state == CHUNK) {
            size_t part = size - at;

            if ((int64_t)part > http->length) part = (size_t)http->length;
            at += part;
            http->length -= (int64_t)part;
            if (http->length > 0) continue;
            if (http->state == BODY) *done = 1;
            else http->state = CHUNK_END;
            continue;
        }
        if (data[at] != '\n') {
            if (http->line_size < sizeof http->line - 1) http->line[http->line_size++] = data[at];
            at++;
            continue;
        }
        at++;
        if (http->line_size > 0 && http->line[http->line_size - 1] == '\r') http->line_size--;
        http->line[http->line_size] = '\0';
        http->line_size = 0;
        rc = on_line(http);
        if (rc < 0) return rc;
        *done = rc;
    }
    return (int64_t)at;
}
