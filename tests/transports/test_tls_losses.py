"""TLS hides no loss, in no state of the session; start_tls() of a transport that has ended.

R46, R47, R66, R67, R69, R72 and R98.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys

import pytest

from tests.support.connections import connection, reset, small_buffers, socket_pair
from tests.support.protocols import Recorder
from tests.support.releases import TLS_HIDES_A_LOSS
from tests.support.tls import BlockingPeer, tls_pair, tls_to_peer
from tests.support.waiting import turns

old_tls = pytest.mark.known_difference(
    "asyncio", "hangs: is_closing() hides the loss", until=(3, 14), run=False
)
uvloop_hides = pytest.mark.known_difference("uvloop", "is_closing() hides the loss", run=False)


class Foreign(asyncio.Transport):
    """A transport of the program's own: it hands everything on to one of the loop's."""

    _start_tls_compatible = True

    def __init__(self, transport):
        self.below = transport
        super().__init__()

    def __getattr__(self, name):
        return getattr(self.below, name)


for name in (
    "write",
    "writelines",
    "close",
    "abort",
    "is_closing",
    "pause_reading",
    "resume_reading",
    "is_reading",
    "set_protocol",
    "get_protocol",
    "get_extra_info",
):

    def hand_on(self, *args, _name=name):
        return getattr(self.below, _name)(*args)

    setattr(Foreign, name, hand_on)


async def write_until_it_is_told(writer):
    """The actions of a handler that knows nothing but write() and drain()."""
    for _ in range(10_000):
        writer.write(b"-" * 1000)
        await writer.drain()


@contextlib.asynccontextmanager
async def streams_to_peer(loop, tls, over):
    """A StreamWriter over TLS, and a function that resets the connection."""
    near, far = socket_pair("tcp")
    peer = BlockingPeer(loop, far, tls.server, server_side=True)
    shaking = asyncio.ensure_future(peer.handshake())
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    if over == "socket":
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
    elif over == "foreign transport":
        below, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        transport = await loop.start_tls(
            Foreign(below), protocol, tls.client, server_hostname="localhost"
        )
        protocol.connection_made(transport)
    await shaking
    try:
        yield asyncio.StreamWriter(transport, protocol, reader, loop), lambda: reset(peer.sock)
    finally:
        transport.abort()
        peer.sock.close()
        await turns()


@old_tls
@uvloop_hides
@pytest.mark.parametrize("over", ["socket", "foreign transport"])
async def test_a_loss_that_a_write_notices_ends_a_loop_of_writes(loop, tls, over):
    """R46: drain() raises, although nothing else lets the loop run."""
    async with streams_to_peer(loop, tls, over) as (writer, lose):
        writer.write(b"x")
        await turns()
        lose()
        with pytest.raises(ConnectionError):
            await write_until_it_is_told(writer)
        assert writer.is_closing()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
@old_tls
@uvloop_hides
async def test_a_loss_below_tls_in_tls_ends_a_loop_of_writes(loop, tls):
    """R46: through two sessions."""
    async with tls_pair(loop, tls) as (client, server):
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        _, inner = await asyncio.gather(
            loop.start_tls(server.transport, server, tls.server, server_side=True),
            loop.start_tls(
                client.transport, protocol, tls.client, server_hostname="localhost"
            ),
        )
        protocol.connection_made(inner)
        writer = asyncio.StreamWriter(inner, protocol, reader, loop)
        server.transport.abort()
        with pytest.raises(ConnectionError):
            for _ in range(1000):       # the server needs turns to close; then none is left
                await asyncio.sleep(0)
                await asyncio.wait_for(write_until_it_is_told(writer), 5)
        assert inner.is_closing() and writer.is_closing()
        client.lost.set_result(None)    # it is the protocol of StreamWriter that was told


@pytest.mark.known_difference(
    "asyncio", "is_closing() hides the loss", only=("write", "close of"), when=TLS_HIDES_A_LOSS)
@pytest.mark.known_difference(
    "asyncio", "is_closing() hides the loss", until=(3, 10), only=("read",))
@pytest.mark.known_difference("uvloop", "is_closing() hides the loss")
@pytest.mark.parametrize("notice", ["write", "read", "close of the transport below"])
def test_is_closing_is_true_as_soon_as_the_loss_is_noticed(loop, run, tls, notice):
    """R46: before connection_lost() is called."""
    closing = []

    async def main():
        protocol = Recorder(loop)
        async with tls_to_peer(loop, tls, protocol) as (transport, peer):
            below = transport._ssl_protocol._transport
            protocol.hooks["connection_lost"] = lambda *_: closing.append(transport.is_closing())
            if notice == "read":
                loop.call_soon(reset, peer.sock)
                await protocol.closed()
                return
            if notice == "write":
                below.pause_reading()
                reset(peer.sock)
                for _ in range(100):
                    transport.write(b"-" * 70_000)
                    if below.is_closing():
                        break
            else:
                below.abort()
            assert below.is_closing()
            assert transport.is_closing() and "connection_lost" not in protocol.calls
            transport.write(b"ignored")
            await protocol.closed()

    run(loop, main())
    assert closing == [True]


@pytest.mark.known_difference("uvloop", "warns from another write on")
@pytest.mark.known_difference("asyncio", "is silent after connection_lost()", until=(3, 10))
def test_writes_after_a_loss_are_counted_and_warned_about(loop, run, tls, caplog):
    """R47: from the fifth on, before connection_lost() as after it."""

    async def main():
        protocol = Recorder(loop)
        async with tls_to_peer(loop, tls, protocol) as (transport, _):
            transport._ssl_protocol._transport.abort()
            for _ in range(8):
                transport.write(b"x")
            before = [record.message for record in caplog.records]
            assert before == ["socket.send() raised exception."] * len(before)
            assert 3 <= len(before) <= 4
            await protocol.closed()
            caplog.clear()
            for _ in range(8):
                transport.write(b"x")
            after = [record.message for record in caplog.records]
            assert after == ["SSL connection is closed"] * len(after)
            assert 3 <= len(after) <= 4
            assert transport.get_write_buffer_size() == 0

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(loop, main())


@pytest.mark.known_difference("asyncio", "is_closing() is false while writes are dropped")
@pytest.mark.known_difference("uvloop", "is_closing() is false while writes are dropped")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 sends after the end of file")
async def test_is_closing_where_a_paused_transport_drops_written_data(loop, tls):
    """R47, R66: after the peer's end of file nothing is sent; earlier data is still read."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):
        transport.pause_reading()
        await peer.call(peer.sock.sendall, b"the last words")
        peer.sock.shutdown(socket.SHUT_WR)
        await protocol.until(transport.is_closing)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        assert await protocol.received(14) == b"the last words"
        assert await protocol.closed() is None
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


CAUSES = {
    "lost below": lambda transport: transport._ssl_protocol._transport.abort(),
    "closed below": lambda transport: transport._ssl_protocol._transport.close(),
    "abort": lambda transport: transport.abort(),
    "close": lambda transport: transport.close(),
    "error": lambda transport: transport._force_close(OSError("the test's")),
}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("state", ["HANDSHAKE", "OPEN", "FLUSHING", "SHUTDOWN", "CLOSING", "LOST"])
async def test_every_end_comes_once_in_every_state(mioloop_loop, tls, state, cause):
    """R45, R46: is_closing() is true at once, connection_lost() comes once, and nothing raises."""
    loop = mioloop_loop
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    with far:
        protocol = Recorder(loop)
        waiter = loop.create_future()
        transport = loop._make_ssl_transport(
            near, protocol, tls.client, waiter, server_hostname="localhost"
        )
        peer = BlockingPeer(loop, far, tls.server, server_side=True)
        await turns(2)
        if state != "HANDSHAKE":
            await peer.handshake()
            await waiter
        if state == "FLUSHING":
            transport.write(b"-" * 3_000_000)
        if state in ("SHUTDOWN", "FLUSHING"):
            transport.close()
        if state == "CLOSING":
            transport.write(b"-" * 3_000_000)   # the transport below cannot send it all
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until(transport.is_closing)
            await turns()
        if state == "LOST":
            transport.abort()
            await protocol.closed()
        CAUSES[cause](transport)
        assert transport.is_closing()
        CAUSES[cause](transport)
        if state == "HANDSHAKE":
            with pytest.raises(OSError):
                await waiter
            assert protocol.calls == []
        else:
            if cause.startswith("close"):       # a peer that does not read holds it up
                transport.abort()
            await protocol.closed()
        await turns()
        assert protocol.calls.count("connection_lost") == (state != "HANDSHAKE")
        assert near.fileno() == -1
        peer.sock.close()


@pytest.mark.known_difference("uvloop", "goes on, and leaks", run=False)
@pytest.mark.known_difference("asyncio", "shakes hands, and leaks", run=False)
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_session_that_is_closed_before_it_begins_does_not_begin(loop, tls, end):
    """R69: as when create_connection() is cancelled just then."""
    near, far = socket_pair("tcp")
    with far:
        protocol = Recorder(loop)
        transport = loop._make_ssl_transport(
            near, protocol, tls.client, loop.create_future(), server_hostname="localhost"
        )
        getattr(transport, end)()
        assert transport.is_closing()
        assert await loop.run_in_executor(None, far.recv, 100) == b""
        assert protocol.calls == []
        await turns()
        assert near.fileno() == -1


@pytest.mark.known_difference("asyncio", "waits for ever", until=(3, 14), run=False)
@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no ssl_shutdown_timeout")
@pytest.mark.parametrize("who", ["we", "the peer"])
async def test_shutdown_timeout_ends_the_close_of_the_transport_below(loop, tls, who):
    """R67: a peer that has closed its side, and does not read, cannot hold up close() for ever."""
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    protocol = Recorder(loop)
    peer = BlockingPeer(loop, far, tls.server, server_side=True)
    shaking = asyncio.ensure_future(peer.handshake())
    transport, _ = await loop.create_connection(
        lambda: protocol,
        sock=near,
        ssl=tls.client,
        server_hostname="localhost",
        ssl_shutdown_timeout=0.1,
    )
    await shaking
    transport.write(b"-" * 3_000_000)
    if who == "we":
        transport.close()
    peer.sock.shutdown(socket.SHUT_WR)
    assert isinstance(await protocol.closed(), (TimeoutError, asyncio.TimeoutError))
    peer.sock.close()
    await turns()


# -- start_tls() of a transport that is closing, lost, full or half-closed -------------------------


def start_tls(loop, transport, protocol, tls):
    return loop.start_tls(
        transport, protocol, tls.client, server_hostname="localhost", ssl_handshake_timeout=5
    )


@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits for ever", until=(3, 10), run=False)
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_start_tls_of_a_closing_transport_returns_none(loop, tls, end, paused):
    """R98, R45."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, _):
        if paused:
            transport.pause_reading()
        getattr(transport, end)()
        assert await start_tls(loop, transport, protocol, tls) is None
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]


@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits for ever", run=False)
@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_start_tls_of_a_lost_transport_returns_none(loop, tls, end):
    """R98."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, far):
        if end == "reset":
            reset(far)
        else:
            transport.close()
        await protocol.closed()
        await turns()
        assert await start_tls(loop, transport, protocol, tls) is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits for ever", run=False)
@pytest.mark.parametrize("when", ["closing", "lost"])
async def test_start_tls_of_a_closed_tls_transport_returns_none(loop, tls, when):
    """R98: TLS in TLS."""
    async with tls_pair(loop, tls) as (client, _):
        client.transport.abort()
        if when == "lost":
            await client.closed()
        assert await start_tls(loop, client.transport, client, tls) is None


@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits for ever", run=False)
async def test_start_tls_of_a_lost_foreign_transport_ends_at_the_timeout(loop, tls):
    """R98: a transport that does not say that its end has been told."""
    protocol = Recorder(loop)
    async with connection(loop, protocol) as (transport, _):
        transport.close()
        await protocol.closed()
        await turns()
        foreign = Foreign(transport)
        foreign.get_protocol = lambda: protocol
        with pytest.raises(ConnectionAbortedError):
            await loop.start_tls(
                foreign,
                protocol,
                tls.client,
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )


@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits until the timeout", since=(3, 11), run=False)
@pytest.mark.parametrize("full", [False, True])
def test_start_tls_after_write_eof_is_an_error_at_once(loop, run, tls, reports, full):
    """R98, R49: the handshake cannot be sent, and is not sent in the place of the end of file."""

    async def main():
        protocol = Recorder(loop)
        async with connection(loop, protocol) as (transport, _):
            if full:
                transport.write(b"-" * 10_000_000)
            transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                await start_tls(loop, transport, protocol, tls)
            protocol.lost.done() or protocol.lost.set_result(None)

    run(loop, main())
    assert [report["message"] for report in reports] == ["SSL handshake failed"]


@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
async def test_start_tls_after_the_peers_end_of_file_is_an_error_at_once(loop, tls):
    """R98: also if eof_received() has kept the transport open."""
    protocol = Recorder(loop, eof_received=lambda *_: True)
    async with connection(loop, protocol) as (transport, far):
        far.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(asyncio.shield(protocol.eof), 5)
        with pytest.raises(ConnectionResetError):
            await start_tls(loop, transport, protocol, tls)
        await turns()
        protocol.lost.done() or protocol.lost.set_result(None)


@pytest.mark.known_difference("uvloop", "never resumes", run=False)
@pytest.mark.known_difference(
    "asyncio", "fails an assertion and never resumes", since=(3, 11), run=False
)
async def test_start_tls_of_a_full_transport_resumes_the_writer(loop, tls):
    """R72, R52: a protocol that was paused before is told when it may write again."""
    size = 5_000_000
    near, far = socket_pair("tcp")
    small_buffers(near, far)
    protocol = Recorder(loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    transport.write(b"-" * size)
    assert protocol.calls == ["connection_made", "pause_writing"]

    def serve():
        count = 0
        while count < size:
            count += len(far.recv(min(65536, size - count)))
        return tls.server.wrap_socket(far, server_side=True)

    serving = loop.run_in_executor(None, serve)
    new = await start_tls(loop, transport, protocol, tls)
    await protocol.until(lambda: "resume_writing" in protocol.calls)
    with await serving as session:
        new.write(b"encrypted")
        assert await loop.run_in_executor(None, session.recv, 9) == b"encrypted"
        assert protocol.calls.count("pause_writing") == 1
        new.abort()
        await protocol.closed()
        await turns()
