/* What the kernel says of a socket or pipe, and the readiness it becomes.
 *
 * epoll and poll(2) agree bit by bit. kqueue has no words for error and hang-up
 * of most things, so there the promise is only what a program needs: readable,
 * writable, and that the peer will send nothing more.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sources.h"

enum { A = 3 };

#define PORTABLE (MIO_READABLE | MIO_WRITABLE | MIO_READ_CLOSED)

/* Reported within PATIENCE: all of `ready`, and nothing else but `also`. */
static void expect_flags(mio_poll *poll, uint32_t ready, uint32_t also)
{
    uint32_t seen;

    if (selector_is("kqueue")) {
        expect_ready(poll, A, ready & PORTABLE);
        return;
    }
    seen = expect_ready(poll, A, ready);
    if ((seen & ~(ready | also)) != 0)
        test_fail(__FILE__, __LINE__, "ready for %#x, of which %#x is too much", seen,
                  seen & ~(ready | also));
}

static mio_poll *watching(int fd, uint32_t interest, uint32_t opts)
{
    mio_poll *poll = new_poll();

    CHECK_EQ(mio_poll_register(poll, fd, A, interest, opts), 0);
    return poll;
}

#define ON_EDGE_AND_LEVEL(name)                                 \
    static void name(uint32_t opts);                            \
    POLL_TEST(name##_with_edge) { name(MIO_EDGE); }             \
    POLL_TEST(name##_with_level) { name(MIO_LEVEL); }           \
    static void name(uint32_t opts)

ON_EDGE_AND_LEVEL(connected_socket_is_writable)
{
    int listener = tcp_listener(), fd = tcp_connect(listener);
    mio_poll *poll = watching(fd, READ_WRITE, opts);

    expect_flags(poll, MIO_WRITABLE, 0);
    mio_poll_free(poll);
    close(fd);
    close(listener);
}

ON_EDGE_AND_LEVEL(waiting_connection_makes_a_listener_readable)
{
    int listener = tcp_listener(), fd;
    mio_poll *poll = watching(listener, MIO_READABLE, opts);

    expect_silence(poll);
    fd = tcp_connect(listener);
    expect_flags(poll, MIO_READABLE, 0);
    mio_poll_free(poll);
    close(fd);
    close(listener);
}

ON_EDGE_AND_LEVEL(half_close_of_the_peer_is_read_closed_and_no_hang_up)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, READ_WRITE, opts);

    expect_flags(poll, MIO_WRITABLE, 0);
    CHECK_EQ(shutdown(pair.right, SHUT_WR), 0);
    expect_flags(poll, MIO_READABLE | MIO_READ_CLOSED, MIO_WRITABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

ON_EDGE_AND_LEVEL(close_of_the_peer_is_read_closed_and_no_hang_up)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, MIO_READABLE, opts);

    expect_silence(poll);
    close(pair.right);
    expect_flags(poll, MIO_READABLE | MIO_READ_CLOSED, 0);
    CHECK_EQ(drain(pair.left), 0);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(unread_data_of_a_closed_peer_is_reported_with_the_close)
{
    struct pair pair = tcp_pair();
    mio_poll *poll;

    send_text(pair.right, "last words");
    close(pair.right);
    poll = watching(pair.left, MIO_READABLE, opts);
    expect_flags(poll, MIO_READABLE | MIO_READ_CLOSED, 0);
    CHECK_EQ(drain(pair.left), 10);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(writable_interest_alone_hears_no_half_close)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, MIO_WRITABLE, opts);
    mio_event event;

    expect_ready(poll, A, MIO_WRITABLE);
    CHECK_EQ(shutdown(pair.right, SHUT_WR), 0);
    if (poll_once(poll, &event, 1, SILENCE) == 1) CHECK_EQ(event.ready, MIO_WRITABLE);
    mio_poll_free(poll);
    close_pair(pair);
}

ON_EDGE_AND_LEVEL(both_directions_down_is_hang_up)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, READ_WRITE, opts);

    CHECK_EQ(shutdown(pair.left, SHUT_WR), 0);
    CHECK_EQ(shutdown(pair.right, SHUT_WR), 0);
    expect_flags(poll, READ_WRITE | MIO_READ_CLOSED | MIO_HUP, 0);
    mio_poll_free(poll);
    close_pair(pair);
}

ON_EDGE_AND_LEVEL(reset_is_error_and_hang_up_and_ready_for_both)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, READ_WRITE, opts);
    char byte;

    reset_by_close(pair.right);
    expect_flags(poll, READ_WRITE | MIO_READ_CLOSED | MIO_ERROR | MIO_HUP, 0);
    CHECK_EQ(read(pair.left, &byte, 1), -1);
    CHECK_EQ(errno, ECONNRESET);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(write_to_a_closed_peer_ends_in_error_and_hang_up)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, READ_WRITE, opts);

    close(pair.right);
    send_text(pair.left, "draws the reset");
    expect_flags(poll, READ_WRITE | MIO_READ_CLOSED | MIO_ERROR | MIO_HUP, 0);
    CHECK_EQ(write(pair.left, "x", 1), -1);
    CHECK_EQ(errno, EPIPE);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(refused_connect_is_writable_with_error_and_hang_up)
{
    int fd = tcp_socket();
    mio_poll *poll;
    int error = 0;
    socklen_t size = sizeof error;

    connect_to(fd, tcp_refused_port());
    poll = watching(fd, MIO_WRITABLE, opts);
    expect_flags(poll, MIO_WRITABLE | MIO_ERROR | MIO_HUP, 0);
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    CHECK_EQ(error, ECONNREFUSED);
    mio_poll_free(poll);
    close(fd);
}

ON_EDGE_AND_LEVEL(never_connected_socket_is_writable_and_hung_up)
{
    int fd;
    mio_poll *poll;

    if (selector_is("kqueue")) test_skip("kqueue says nothing of a socket that was never used");
    fd = tcp_socket();
    poll = watching(fd, MIO_WRITABLE, opts);
    expect_flags(poll, MIO_WRITABLE | MIO_HUP, 0);
    mio_poll_free(poll);
    close(fd);
}

ON_EDGE_AND_LEVEL(closed_peer_of_a_unix_stream_is_hang_up)
{
    struct pair pair = unix_pair();
    mio_poll *poll = watching(pair.left, READ_WRITE, opts);

    close(pair.right);
    expect_flags(poll, READ_WRITE | MIO_READ_CLOSED | MIO_HUP, 0);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(closed_writer_of_an_empty_pipe_is_hang_up_without_readable)
{
    struct pair pair = pipe_pair();
    mio_poll *poll = watching(pair.left, MIO_READABLE, opts);

    expect_silence(poll);
    close(pair.right);
    if (selector_is("kqueue")) {
        expect_ready(poll, A, MIO_READ_CLOSED);
    } else {
        expect_flags(poll, MIO_HUP, MIO_READ_CLOSED);
    }
    CHECK_EQ(drain(pair.left), 0);
    mio_poll_free(poll);
    close(pair.left);
}

ON_EDGE_AND_LEVEL(closed_reader_of_a_pipe_is_writable_with_error)
{
    struct pair pair = pipe_pair();
    mio_poll *poll = watching(pair.right, MIO_WRITABLE, opts);

    expect_flags(poll, MIO_WRITABLE, 0);
    mio_poll_drained(poll, pair.right, MIO_WRITABLE);
    close(pair.left);
    expect_flags(poll, MIO_WRITABLE | MIO_ERROR, 0);
    mio_poll_free(poll);
    close(pair.right);
}

ON_EDGE_AND_LEVEL(urgent_byte_is_readable_and_priority)
{
    struct pair pair;
    mio_poll *poll;
    char byte;

    if (selector_is("kqueue")) test_skip("kqueue has no priority");
    pair = tcp_pair();
    poll = watching(pair.left, MIO_PRIORITY, opts);
    expect_silence(poll);
    CHECK_EQ(send(pair.right, "!", 1, MSG_OOB), 1);
    expect_flags(poll, MIO_READABLE | MIO_PRIORITY, 0);
    CHECK_EQ(recv(pair.left, &byte, 1, MSG_OOB), 1);
    CHECK_EQ(read(pair.left, &byte, 1), -1);
    CHECK_EQ(errno, EAGAIN);
    mio_poll_free(poll);
    close_pair(pair);
}

ON_EDGE_AND_LEVEL(urgent_byte_without_priority_interest_is_silent)
{
    struct pair pair = tcp_pair();
    mio_poll *poll = watching(pair.left, MIO_READABLE, opts);

    CHECK_EQ(send(pair.right, "!", 1, MSG_OOB), 1);
    if (selector_is("kqueue")) { /* its read filter counts the byte: spurious, so legal */
        mio_event event;
        CHECK(poll_once(poll, &event, 1, SILENCE) >= 0);
    } else if (opts & MIO_LEVEL) {
        expect_silence(poll);
    } else {    /* an edge may wake for it, but says nothing of priority */
        mio_event event;
        if (poll_once(poll, &event, 1, SILENCE) == 1) CHECK_EQ(event.ready & MIO_PRIORITY, 0);
    }
    mio_poll_free(poll);
    close_pair(pair);
}

ON_EDGE_AND_LEVEL(refused_datagram_is_an_error)
{
    int fd = udp_socket(), gone = udp_socket();
    uint16_t port = port_of(gone);
    mio_poll *poll;

    close(gone);
    connect_to(fd, port);
    poll = watching(fd, MIO_READABLE, opts);
    expect_silence(poll);
    CHECK_EQ(send(fd, "x", 1, 0), 1);
    if (selector_is("kqueue")) {
        expect_ready(poll, A, MIO_READABLE);
    } else {
        expect_flags(poll, MIO_ERROR, 0);
    }
    CHECK_EQ(send(fd, "x", 1, 0), -1);
    CHECK_EQ(errno, ECONNREFUSED);
    mio_poll_free(poll);
    close(fd);
}

ON_EDGE_AND_LEVEL(listener_shut_down_is_hang_up)
{
    int listener;
    mio_poll *poll;

    if (selector_is("kqueue")) test_skip("only Linux can shut a listener down");
    listener = tcp_listener();
    poll = watching(listener, READ_WRITE, opts);
    CHECK_EQ(shutdown(listener, SHUT_RDWR), 0);
    expect_flags(poll, MIO_WRITABLE | MIO_HUP, MIO_READABLE | MIO_READ_CLOSED);
    mio_poll_free(poll);
    close(listener);
}

ON_EDGE_AND_LEVEL(datagram_makes_a_socket_readable)
{
    int from = udp_socket(), to = udp_socket();
    mio_poll *poll = watching(to, MIO_READABLE, opts);

    connect_to(from, port_of(to));
    expect_silence(poll);
    CHECK_EQ(send(from, "", 0, 0), 0);
    expect_flags(poll, MIO_READABLE, 0);
    mio_poll_free(poll);
    close(from);
    close(to);
}

ON_EDGE_AND_LEVEL(full_pipe_becomes_writable_when_it_is_emptied)
{
    struct pair pair = pipe_pair();
    size_t filled = fill(pair.right);
    mio_poll *poll = watching(pair.right, MIO_WRITABLE, opts);

    expect_silence(poll);
    CHECK_EQ(drain(pair.left), filled);
    expect_flags(poll, MIO_WRITABLE, 0);
    mio_poll_free(poll);
    close_pair(pair);
}
