"""TLS over streams: R66 to R73. Sessions themselves are in test_tls_sessions.py."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import pathlib
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time
import weakref

import pytest

from tests.support.accounting import collector_off
from tests.support.connections import receive_all, reset, socket_pair
from tests.support.protocols import Recorder
from tests.support.tls import BlockingPeer, shaking_peer, tls_pair, tls_to_peer
from tests.support.waiting import turns

MIB = 1 << 20


async def test_data_goes_both_ways(loop, tls):
    """A first exchange over TLS."""
    upper = Recorder(loop, data_received=lambda p, data: p.transport.write(data.upper()))
    async with tls_pair(loop, tls, upper) as (client, server):
        client.transport.write(b"question")
        assert await client.received(8) == b"QUESTION"
        client.transport.close()
        assert await client.closed() is None
        assert await server.closed() is None
        assert server.calls[-1] == "connection_lost"


async def test_written_bytes_leave_before_an_abort(loop, tls):
    """R59: write(b'x'); abort() sends the x."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):
        transport.write(b"x")
        transport.abort()
        assert await peer.call(peer.sock.recv, 10) == b"x"


@pytest.mark.time_limit(30)
async def test_large_transfer_keeps_record_order(loop, tls):
    """R60: 8 MiB each way at once, in many writes."""
    data = os.urandom(MIB) * 8
    async with tls_pair(loop, tls) as (client, server):
        for protocol in (client, server):
            for i in range(0, len(data), 100_000):
                protocol.transport.write(data[i : i + 100_000])
        for protocol in (client, server):
            await protocol.until(lambda protocol=protocol: len(protocol.data) >= len(data))
            assert protocol.data == data
        client.transport.close()
        await client.closed()
        await server.closed()


def test_writes_inside_callbacks_keep_record_order(loop, run, tls):
    """R60: write() in data_received, writelines(), several a turn."""

    def answer(protocol, data):
        for i in range(len(data)):
            protocol.transport.write(data[i : i + 1] * 3)
        protocol.transport.writelines([b"<", data, b">"])

    async def main():
        async with tls_pair(loop, tls, Recorder(loop, data_received=answer)) as (client, _):
            expected = b""
            for i in range(50):
                message = b"%d" % i
                client.transport.write(message)
                for digit in message:
                    expected += bytes([digit]) * 3
                expected += b"<" + message + b">"
                assert await client.received(len(expected)) == expected

    run(loop, main())


def test_a_class_derived_from_bytes_can_be_written(loop, run, tls):
    """R50: with its own contents."""

    class Text(bytes):
        def __bytes__(self):
            return b"other"

    async def main():
        async with tls_pair(loop, tls) as (client, server):
            client.transport.write(Text(b"one"))
            client.transport.writelines([Text(b"two"), b"three"])
            assert await server.received(11) == b"onetwothree"

    run(loop, main())


@pytest.mark.known_difference("uvloop", "no eof_received")
async def test_end_of_file_without_close_notify(loop, tls):
    """R66: TCP EOF alone is eof_received, then connection_lost(None)."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (_, peer):
        await peer.call(peer.sock.sendall, b"last")
        assert await protocol.received(4) == b"last"
        raw = socket.socket(fileno=os.dup(peer.sock.fileno()))
        with raw:
            raw.shutdown(socket.SHUT_WR)
            assert await protocol.closed() is None
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_timeout_that_is_not_positive_is_refused(loop, tls, name, value):
    """R67: ValueError; from 3.11 on for both."""
    if name == "ssl_shutdown_timeout" and sys.version_info < (3, 11):
        pytest.skip("since 3.11")
    near, far = socket_pair("tcp")
    with far, near:
        with pytest.raises(ValueError, match=name):
            await loop.create_connection(
                asyncio.Protocol,
                sock=near,
                ssl=tls.client,
                server_hostname="localhost",
                **{name: value},
            )
        await turns()


async def test_handshake_timeout_ends_the_connect(loop, tls):
    """R67, section 4: ConnectionAbortedError 'SSL handshake is taking longer than ...'."""
    near, far = socket_pair("tcp")
    with far:  # and says nothing
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
            await loop.create_connection(
                asyncio.Protocol,
                sock=near,
                ssl=tls.client,
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )
        await turns()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
async def test_shutdown_timeout_ends_the_close(loop, tls):
    """R67: a peer that never answers close_notify."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol, ssl_shutdown_timeout=0.05) as (transport, _):
        started = loop.time()
        transport.close()
        await protocol.closed()
        assert loop.time() - started < 3


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
@pytest.mark.known_difference("uvloop", "waits for ever", run=False)
@pytest.mark.known_difference("asyncio", "waits for ever before 3.15", run=False)
@pytest.mark.parametrize("end", ["before close", "after close"])
async def test_shutdown_timeout_ends_the_close_of_a_peer_that_has_ended_and_does_not_read(
    loop, tls, end
):
    """R67: written data waits for the handshake below the session, without a limit of its own."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol, ssl_shutdown_timeout=0.1) as (transport, peer):
        while "pause_writing" not in protocol.calls:
            transport.write(bytes(1 << 22))
            await turns(2)
        if end == "before close":
            peer.sock.shutdown(socket.SHUT_WR)
            await turns(5)
            transport.close()
        else:
            transport.close()
            await turns(5)
            peer.sock.shutdown(socket.SHUT_WR)
        assert isinstance(await protocol.closed(), asyncio.TimeoutError)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="create_connection() itself leaves one")
def test_connect_that_fails_in_the_handshake_leaves_no_cycle(mioloop_loop, run, tls):
    """R69: the transport goes with the last reference to it."""
    loop = mioloop_loop
    transports = []

    async def main():
        async with shaking_peer(loop, tls.server, start=False) as (near, peer, _):
            connecting = asyncio.ensure_future(loop.create_connection(
                asyncio.Protocol, sock=near, ssl=tls.stranger, server_hostname="localhost"
            ))
            await turns(2)
            transports.append(weakref.ref(loop._transport_of_fd(near.fileno())))
            peer.start_handshake()
            failure = await asyncio.gather(connecting, return_exceptions=True)
            assert isinstance(failure.pop(), ssl.SSLCertVerificationError)
            del connecting

    with collector_off():
        run(loop, main())
        assert transports[0]() is None


async def test_no_data_after_close(loop, tls):
    """R68: data that arrives after close() is not delivered."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):
        await peer.call(peer.sock.sendall, b"before")
        await protocol.received(6)
        transport.close()
        with contextlib.suppress(OSError):
            await peer.call(peer.sock.sendall, b"after" * 1000)
        await turns()
        peer.sock.close()
        await protocol.closed()
        assert protocol.data == b"before"


@pytest.mark.known_difference("uvloop", "no eof_received", until=(3, 10))
async def test_no_write_after_the_end_of_file(loop, tls):
    """R66: TCP EOF without close_notify ends both ways; eof_received() can write until 3.10."""
    sent = b"too late" if sys.version_info < (3, 11) else b""
    answer = Recorder(loop, eof_received=lambda p: p.transport.write(b"too late"))
    async with tls_to_peer(loop, tls, answer) as (_, peer):
        with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)
            assert await answer.closed() is None
        with contextlib.suppress(OSError):      # it has shut down, and we say no close_notify
            assert await peer.call(peer.sock.recv, 100) == sent


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio 3.10 waits for its close_notify")
@pytest.mark.known_difference("uvloop", "downloads until it times out", run=False)
@pytest.mark.parametrize("when", ["later", "unread", "resumed"])
async def test_peer_that_sends_on_after_our_close_is_an_error(loop, tls, when):
    """R68: OpenSSL refuses records that come after close(), or are unread then; we are told."""
    data = bytes(MIB)
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):

        def send():
            with contextlib.suppress(OSError):
                peer.sock.sendall(data)

        if when == "later":
            transport.close()
            await peer.call(send)
        else:
            transport.pause_reading()
            sending = asyncio.ensure_future(peer.call(send))
            await protocol.until(lambda: transport.get_read_buffer_size() >= 262144)
            if when == "resumed":
                transport.resume_reading()
            transport.close()
            await sending
        failure = await protocol.closed()
        assert isinstance(failure, ssl.SSLError)
        assert failure.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
        assert len(protocol.data) < MIB


def test_stranger_is_refused(loop, run, tls):
    """R69: the caller gets the error, no connection_made, no descriptor left."""
    made = []

    def factory():
        made.append(Recorder(loop))
        return made[-1]

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls.server)
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                factory,
                *server.sockets[0].getsockname(),
                ssl=tls.stranger,
                server_hostname="localhost",
            )
        await turns(20)
        server.close()
        await server.wait_closed()

    run(loop, main())
    client = made[0] if made else None
    assert all("connection_made" not in protocol.calls for protocol in made), client


@pytest.mark.parametrize("bytes_sent", [b"", b"this is not TLS at all, but plain text\r\n" * 3])
async def test_server_survives_clients_that_speak_no_tls(loop, tls, bytes_sent):
    """R69: nothing is reported outside debug, and the next client is served."""
    protocols = []

    def factory():
        protocols.append(Recorder(loop))
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls.server)
    address = server.sockets[0].getsockname()
    with socket.create_connection(address, timeout=5) as far:
        far.sendall(bytes_sent)
        far.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            await receive_all(far)
    transport, client = await loop.create_connection(
        lambda: Recorder(loop), *address, ssl=tls.client, server_hostname="localhost"
    )
    transport.close()
    await client.closed()
    for protocol in protocols:
        if protocol.made.done():
            await protocol.closed()
    server.close()
    await server.wait_closed()
    await turns()


async def test_peer_that_resets_during_the_handshake(loop, tls):
    """R69: ConnectionResetError to the caller."""
    near, far = socket_pair("tcp")
    connecting = asyncio.ensure_future(
        loop.create_connection(
            lambda: Recorder(loop), sock=near, ssl=tls.client, server_hostname="localhost"
        )
    )
    await turns()
    reset(far)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(connecting, 5)
    await turns()


async def test_extra_info(loop, tls):
    """R70: sslcontext, peercert, cipher, compression, ssl_object, and the socket's."""
    async with tls_pair(loop, tls) as (client, server):
        get = client.transport.get_extra_info
        assert get("sslcontext") is tls.client
        assert ("DNS", "localhost") in get("peercert")["subjectAltName"]
        assert len(get("cipher")) == 3
        assert get("compression") is None
        assert isinstance(get("ssl_object"), ssl.SSLObject)
        assert get("peername") == server.transport.get_extra_info("sockname")
        assert get("socket") is not None
        assert get("no such thing", 7) == 7


async def test_tls_cannot_be_half_closed(loop, tls):
    """R71: can_write_eof() is False, write_eof() raises NotImplementedError."""
    async with tls_pair(loop, tls) as (client, _):
        assert client.transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()


@pytest.mark.known_difference("asyncio", "AttributeError after a second close")
async def test_no_method_raises_after_the_end(loop, tls):
    """R71: R47 holds for TLS."""
    async with tls_pair(loop, tls) as (client, server):
        transport = client.transport
        for state in ("closing", "lost"):
            transport.close()
            transport.close()
            transport.write(b"x")
            transport.writelines([b"x"])
            transport.is_closing()
            transport.pause_reading()
            transport.resume_reading()
            transport.get_extra_info("socket")
            transport.get_write_buffer_size()
            repr(transport)
            if state == "closing":
                await client.closed()
        transport.abort()
        transport.abort()
        await server.closed()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="another implementation before 3.11")
async def test_default_marks_of_tls(loop, tls):
    """R52: (131072, 524288) from 3.11."""
    async with tls_pair(loop, tls) as (client, _):
        assert client.transport.get_write_buffer_limits() == (131072, 524288)


@pytest.mark.time_limit(20)
async def test_flow_control_over_tls(loop, tls):
    """R52: pause_writing and resume_writing reach the application."""
    async with tls_pair(loop, tls) as (client, server):
        server.transport.pause_reading()
        while "pause_writing" not in client.calls:
            assert client.transport.get_write_buffer_size() < 64 * MIB
            client.transport.write(b"x" * MIB)
            await asyncio.sleep(0)
        server.transport.resume_reading()
        await client.until(lambda: "resume_writing" in client.calls)


async def test_reading_can_be_paused_over_tls(loop, tls):
    """R53: no data while paused."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):
        transport.pause_reading()
        await peer.call(peer.sock.sendall, b"data")
        await turns()
        assert protocol.data == b""
        transport.resume_reading()
        assert await protocol.received(4) == b"data"


async def test_tls_over_unix_sockets(loop, tls, tmp_path):
    """R43, R66: create_unix_server(ssl=)."""
    path = str(tmp_path / "socket")

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, path, ssl=tls.server)
    reader, writer = await asyncio.open_unix_connection(
        path, ssl=tls.client, server_hostname="localhost"
    )
    writer.write(b"line\n")
    assert await reader.read() == b"LINE\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await turns(10)


@pytest.mark.known_difference("uvloop", "returns its SSLProtocol")
async def test_accepted_socket_with_tls_gives_the_application_protocol(loop, tls):
    """R42: connect_accepted_socket(ssl=)."""
    async with shaking_peer(loop, tls.client, server_side=False) as (near, peer, shaking):
        transport, protocol = await loop.connect_accepted_socket(
            lambda: Recorder(loop), near, ssl=tls.server
        )
        await shaking
        assert isinstance(protocol, Recorder)
        assert transport.get_extra_info("ssl_object") is not None
        transport.write(b"x")
        assert await peer.call(peer.sock.recv, 1) == b"x"
        peer.sock.close()
        await protocol.closed()


@pytest.mark.known_difference("uvloop", "not implemented")
def test_sendfile_over_tls(loop, run, tls, tmp_path):
    """R74: fallback for TLS; RuntimeError if there may be none."""
    data = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def main(file):
        async with tls_pair(loop, tls) as (client, server):
            assert await loop.sendfile(client.transport, file) == len(data)
            assert await server.received(len(data)) == data
            with pytest.raises(RuntimeError):
                await loop.sendfile(client.transport, file, fallback=False)

    with open(path, "rb") as file:
        run(loop, main(file))


@pytest.mark.time_limit(30)
async def test_many_tls_sessions_at_once(loop, tls):
    """R69: 40 handshakes at once, a line each."""

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def session(address, i):
        reader, writer = await asyncio.open_connection(
            *address, ssl=tls.client, server_hostname="localhost"
        )
        writer.write(b"line %d\n" % i)
        assert await reader.read() == b"LINE %d\n" % i
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*(session(address, i) for i in range(40)))
    server.close()
    await server.wait_closed()
    await turns(10)


async def test_idle_tls_connection_does_not_spin(loop, tls):
    """An established, quiet connection uses no processor time."""
    async with tls_pair(loop, tls):
        await turns(10)
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.1


STEPS = 5


def bytes_of_an_idle_connection(tls, directory, way, count, **environment):
    """The cost of each of `count` more connections to a server that is run in *way*.

    The median of some steps: a page that the allocator takes at the wrong moment is not the rule.
    """
    targets = [50 + count * step // STEPS for step in range(STEPS + 1)]  # the first fill caches
    certificate = directory / "localhost.pem"
    tls.authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    script = pathlib.Path(__file__).with_name("idle_tls_server.py")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, script, certificate, *way],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        address = "127.0.0.1", int(server.stdout.readline())
        sizes, made = [], 0
        for target in targets:
            for _ in range(target - made):
                sock = stack.enter_context(socket.create_connection(address, timeout=10))
                client = tls.client.wrap_socket(sock, server_hostname="localhost")
                stack.enter_context(client)
                client.sendall(b"x" * 1024)
                assert client.recv(1024)
            made = target
            print(target, file=server.stdin, flush=True)
            sizes.append(int(server.stdout.readline()))
        server.stdin.close()
    return statistics.median(b - a for a, b in itertools.pairwise(sizes)) / (count // STEPS)


@pytest.fixture(scope="module")
def needed_by_ssl(certificates, tmp_path_factory):
    """The bytes of the ssl module's own objects, as "ssl" or "bio"; looked at once."""

    @functools.cache
    def needed(way, count):
        return bytes_of_an_idle_connection(
            certificates, tmp_path_factory.mktemp(way), [way], count
        )

    return needed


@pytest.mark.known_difference("asyncio", "has buffers for each")
@pytest.mark.known_difference("uvloop", "has buffers for each")
@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_idle_tls_connections_are_small(loop_kind, tls, needed_by_ssl, tmp_path, count):
    """R73: idle ones have no buffers: at most a fifth more than the ssl module's own objects.

    These are an ssl socket, or, for the engine of ssl.MemoryBIO, a session and two of them.
    """
    engine, objects = ("memory", "bio") if loop_kind.selector == "poll" else ("openssl", "ssl")
    way = [f"{name}={value}" for name, value in loop_kind.options.items()]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        needed = bytes_of_an_idle_connection(
            tls, tmp_path, way, count, MIOLOOP_TLS_ENGINE=engine
        )
        assert needed < 1.2 * needed_by_ssl(objects, count)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("callback", ["data_received", "eof_received", "connection_made"])
@pytest.mark.parametrize("method", ["close", "abort"])
async def test_transport_may_be_closed_in_a_callback(loop, tls, method, callback):
    """R60 for TLS."""
    protocol = Recorder(
        loop, **{callback: lambda p, *args: getattr(p.transport, method)() and None}
    )
    near, far = socket_pair("tcp")
    peer = BlockingPeer(loop, far, tls.server, server_side=True)
    shaking = asyncio.ensure_future(peer.handshake())
    try:
        await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
        await asyncio.wait([shaking])
        if shaking.exception() is None and callback != "connection_made":
            await peer.call(peer.sock.sendall, b"data")
            if callback == "eof_received":
                await protocol.received(4)
        peer.sock.close()
        await protocol.closed()
        assert protocol.calls.count("connection_lost") == 1
    finally:
        far.close()
        shaking.exception()
        gc.collect()
        await turns()


async def test_bytes_sent_right_after_a_close_notify_are_not_lost(loop, tls):
    """R66: data, close_notify and EOF in one segment."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (_, peer):

        def finish():
            peer.sock.sendall(b"last words" * 1000)
            with contextlib.suppress(OSError):
                peer.sock.unwrap()

        finishing = asyncio.ensure_future(peer.call(finish))
        assert await protocol.closed() is None
        assert protocol.data == b"last words" * 1000
        await finishing


async def test_tiny_records_are_all_delivered(loop, tls):
    """A peer that sends a record for each byte."""
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (_, peer):

        def dribble():
            for i in range(200):
                peer.sock.sendall(b"%d" % (i % 10))

        await peer.call(dribble)
        assert await protocol.received(200) == b"0123456789" * 20
