"""Descriptors closed behind the loop's back, and numbers that are used again: R27, R29, R33.

The kernel watches the open file and not its number: while a duplicate is open somewhere, a
registration outlives the number it was made for, and its events still come. Their token is stale,
and finds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from tests.support.connections import connection, socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


def at_number(fd, sock):
    """*sock* moved to the descriptor *fd*, which is free, or its own already."""
    if sock.fileno() == fd:
        return sock
    os.dup2(sock.fileno(), fd)
    sock.close()
    again = socket.socket(fileno=fd)
    again.setblocking(False)
    return again


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_event_of_a_closed_transport_s_duplicate_finds_nothing(loop, kind):
    """R29, R33: the next transport with the number, and perhaps the slot, is not disturbed."""
    old = Recorder(loop)
    near, far = socket_pair(kind)
    number = near.fileno()
    with far, near.dup():  # as a forked child would have one
        transport, _ = await loop.create_connection(lambda: old, sock=near)
        await turns()
        transport.close()
        await old.closed()

        new = Recorder(loop)
        near2, far2 = socket_pair(kind)
        again = at_number(number, near2)
        with far2:
            transport2, _ = await loop.create_connection(lambda: new, sock=again)
            assert transport2.get_extra_info("socket").fileno() == number
            for _ in range(3):
                far.sendall(b"for the old one")
                await turns()
            assert new.data == b""
            far2.sendall(b"for the new one")
            assert await new.received(15) == b"for the new one"
            transport2.close()
            await new.closed()
        assert old.calls == ["connection_made", "connection_lost"]


async def test_stale_events_do_not_keep_the_loop_busy(mioloop_loop):
    """R29: readiness of a duplicate that no source takes does not end every poll."""
    loop = mioloop_loop
    protocol = Recorder(loop)
    near, far = socket_pair("tcp")
    with far, near.dup():
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.close()
        await protocol.closed()
        far.sendall(b"to nobody")
        await turns()
        before = loop.stats()["polls"]
        await asyncio.sleep(0.05)
        assert loop.stats()["polls"] - before <= 3


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
@pytest.mark.known_difference("asyncio", "its selector still has the number", run=False)
@pytest.mark.parametrize("direction", ["reader", "writer"])
async def test_watched_number_that_a_transport_uses_now(loop, direction):
    """R29: closed without remove_reader(), the number is a connection's: only that is served."""
    left, right = socket.socketpair()
    fired = []
    number = left.fileno()
    duplicate = left.dup()
    getattr(loop, f"add_{direction}")(left, fired.append, True)
    await turns()
    fired.clear()
    left.close()
    near, far = socket_pair("tcp")
    again = at_number(number, near)
    protocol = Recorder(loop)
    with right, duplicate, far:
        await loop.create_connection(lambda: protocol, sock=again)
        fired.clear()
        right.sendall(b"for the old one")
        far.sendall(b"for the new one")
        assert await protocol.received(15) == b"for the new one"
        await turns()
        assert fired == []
        protocol.transport.close()
        await protocol.closed()


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
async def test_transport_whose_descriptor_was_closed_behind_its_back_can_be_dropped(loop):
    """R33: the number was closed; abort() and close() report nothing, and no caller hangs."""
    protocol = Recorder(loop)
    near, far = socket_pair("tcp")
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        number = transport.get_extra_info("socket").fileno()
        await turns()
        placeholder = os.open("/dev/null", os.O_RDONLY)
        os.dup2(placeholder, number)  # closed, and used again by another file
        os.close(placeholder)
        far.close()
        await turns()
        transport.write(b"to nobody")
        await turns()
        transport.abort()
        await protocol.closed()
        assert protocol.calls.count("connection_lost") == 1


@contextlib.contextmanager
def lowest_free(number):
    """The next descriptor that is opened is *number*, which is free."""
    fillers = []
    while (filler := os.dup(0)) != number:
        fillers.append(filler)
    os.close(number)
    yield
    for filler in fillers:
        os.close(filler)


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
@pytest.mark.known_difference("asyncio", "never reads from the new one", run=False)
def test_number_taken_from_a_live_transport_serves_a_connection_accepted_with_it(
    loop, run, reports
):
    """R29, R33: closed behind its back, the number is a new connection's; the old one has nothing.

    The loop reports that it cannot close the number; it never closes another owner's number.
    """

    async def main():
        old, new = Recorder(loop), Recorder(loop)
        near, far = socket_pair("tcp")
        server = await loop.create_server(lambda: new, "127.0.0.1", 0)
        with far, socket.socket() as client:
            await loop.create_connection(lambda: old, sock=near)
            number = old.transport.get_extra_info("socket").fileno()
            await turns()
            os.close(number)
            with lowest_free(number):
                client.connect(server.sockets[0].getsockname())
                await new.made
            assert new.transport.get_extra_info("socket").fileno() == number
            far.sendall(b"for the old one")
            client.sendall(b"for the new one")
            assert await new.received(15) == b"for the new one"
            new.transport.write(b"answer")
            assert await loop.run_in_executor(None, client.recv, 10) == b"answer"
            new.transport.close()
            await new.closed()
            old.transport.abort()
            await old.closed()
        assert old.data == b"" and new.data == b"for the new one"
        server.close()
        await server.wait_closed()

    run(loop, main())
    assert [report["exception"].errno for report in reports] == [errno.EBADF]


@pytest.mark.known_difference("uvloop", "aborts the process", run=False)
async def test_socket_object_closed_by_the_user_ends_in_an_error(loop):
    """R33: sock.close() under a live transport: a write or the end finds out, and closes it."""
    protocol = Recorder(loop)
    near, far = socket_pair("tcp")
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        near.close()
        await turns()
        transport.write(b"to nobody")
        await turns()
        transport.abort()
        await protocol.closed()
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.known_difference("asyncio", "raises")
async def test_listener_closed_by_the_user(loop):
    """R40: the server can still be closed, and its number be used again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        listener.close()
        server.close()
        await server.wait_closed()
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (_, far):
        far.sendall(b"x")
        assert await protocol.received(1) == b"x"


async def test_many_numbers_used_again_in_one_turn(loop):
    """R27, R29: a hundred ready transports; each callback replaces another that is ready too."""
    protocols, fars, extra = [], [], []

    def replace(protocol, data):
        victim = protocols.pop()
        if victim is protocol or victim.lost.done():
            return
        number = victim.transport.get_extra_info("socket").fileno()
        victim.transport.abort()
        victim.replaced = number

    for _ in range(100):
        near, far = socket_pair("unix")
        protocol = Recorder(loop, data_received=replace)
        await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
        protocols.append(protocol)
        fars.append(far)
    everyone = list(protocols)
    for far in fars:
        far.sendall(b"x")
    await turns()
    for _ in range(50):  # the lowest free numbers are the aborted transports'
        near, far = socket_pair("unix")
        protocol = Recorder(loop)
        await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
        extra.append((protocol, far))
    await turns()
    for protocol, far in extra:
        assert protocol.data == b""
        far.sendall(b"y")
        assert await protocol.received(1) == b"y"
        protocol.transport.close()
        await protocol.closed()
        far.close()
    for protocol, far in zip(everyone, fars):
        far.close()
        await protocol.closed()
        assert protocol.data in (b"", b"x")
