"""Negotiation in a TLS session, on both engines: names, certificates, tickets, failures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from mioloop.transports import tls_engine
from tests.support.connections import socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.tls import BlockingPeer, shaking_peer, tls_pair, tls_to_peer
from tests.support.waiting import turns

MIB = 1 << 20


def server_context(tls, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert(*names).configure_cert(context)
    return context


def client_context(tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.authority.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def served(loop, context, protocol):
    """A TLS server with one protocol, and its address."""
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()
        await turns()


# -- negotiation -----------------------------------------------------------------------------


async def test_application_protocol_is_agreed(loop, tls):
    """ALPN: both ends see the server's choice."""
    server_side, client_side = server_context(tls, "localhost"), client_context(tls)
    server_side.set_alpn_protocols(["h2", "http/1.1"])
    client_side.set_alpn_protocols(["http/1.1"])
    server = Recorder(loop)
    async with served(loop, server_side, server) as address:
        transport, client = await loop.create_connection(
            lambda: Recorder(loop), *address, ssl=client_side, server_hostname="localhost"
        )
        await asyncio.wait_for(server.made, 5)
        for protocol in (client, server):
            session = protocol.transport.get_extra_info("ssl_object")
            assert session.selected_alpn_protocol() == "http/1.1"
        transport.close()
        await client.closed()
        await server.closed()


def test_name_decides_the_certificate(loop, run, tls):
    """SNI: the context's callback runs inside the handshake and may change the context."""
    first, second = server_context(tls, "first.example"), server_context(tls, "second.example")
    asked = []

    def choose(session, name, context):
        asked.append(name)
        if name == "second.example":
            session.context = second

    first.sni_callback = choose

    async def main():
        for name in ("first.example", "second.example"):
            server = Recorder(loop)
            async with served(loop, first, server) as address:
                transport, client = await loop.create_connection(
                    lambda: Recorder(loop), *address, ssl=client_context(tls), server_hostname=name
                )
                certificate = transport.get_extra_info("peercert")
                assert certificate["subjectAltName"] == (("DNS", name),)
                transport.write(b"x" * 100_000)
                await server.received(100_000)
                transport.close()
                await client.closed()
                await server.closed()

    run(loop, main())
    assert asked == ["first.example", "second.example"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate_is_shown_to_the_server(loop, tls, version):
    """Certificates are asked for by the server's own context."""
    server_side, client_side = server_context(tls, "localhost"), client_context(tls)
    tls.authority.configure_trust(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.minimum_version = server_side.maximum_version = version
    tls.authority.issue_cert("me@example.org").configure_cert(client_side)
    server = Recorder(loop)
    async with served(loop, server_side, server) as address:
        transport, client = await loop.create_connection(
            lambda: Recorder(loop), *address, ssl=client_side, server_hostname="localhost"
        )
        await asyncio.wait_for(server.made, 5)
        shown = server.transport.get_extra_info("peercert")
        assert ("email", "me@example.org") in shown["subjectAltName"]
        session = server.transport.get_extra_info("ssl_object")
        assert session.version() == transport.get_extra_info("ssl_object").version()
        transport.close()
        await client.closed()
        await server.closed()


async def test_client_without_a_certificate_is_refused(loop, tls):
    """TLS 1.3: it learns so after its handshake, as an SSLError with the reason."""
    server_side = server_context(tls, "localhost")
    tls.authority.configure_trust(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.minimum_version = ssl.TLSVersion.TLSv1_3
    async with shaking_peer(loop, server_side) as (near, peer, shaking):
        protocol = Recorder(loop)
        await loop.create_connection(
            lambda: protocol, sock=near, ssl=client_context(tls), server_hostname="localhost"
        )
        failure = await protocol.closed()
        assert isinstance(failure, ssl.SSLError)
        assert "CERTIFICATE_REQUIRED" in failure.reason
        with pytest.raises(ssl.SSLError):
            await shaking


async def test_session_is_resumed_by_its_ticket(loop, tls):
    """A second connection with the first one's ticket makes no full handshake."""
    context = client_context(tls)
    server_protocols = []

    def greet():
        server_protocols.append(
            Recorder(loop, connection_made=lambda p, transport: transport.write(b"hello"))
        )
        return server_protocols[-1]

    server = await loop.create_server(greet, "127.0.0.1", 0, ssl=tls.server)
    address = server.sockets[0].getsockname()

    def visit(session):
        with socket.create_connection(address, timeout=5) as sock:
            with context.wrap_socket(
                sock, server_hostname="localhost", session=session
            ) as wrapped:
                assert wrapped.recv(5) == b"hello"  # after it the ticket has come
                return wrapped.session, wrapped.session_reused

    session, reused = await loop.run_in_executor(None, visit, None)
    assert session is not None and not reused
    _, reused = await loop.run_in_executor(None, visit, session)
    assert reused
    for protocol in server_protocols:
        await protocol.closed()
    server.close()
    await server.wait_closed()
    await turns()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is needed")
@pytest.mark.parametrize("allowed", [True, False])
async def test_renegotiation_is_the_contexts_decision(mioloop_loop, tls, allowed):
    """TLS 1.2: it goes on in the middle of a transfer, or is refused, and data is whole."""
    loop = mioloop_loop
    context = server_context(tls, "localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if allowed and ssl.OPENSSL_VERSION_INFO >= (3,):
        context.options |= 0x100        # SSL_OP_ALLOW_CLIENT_RENEGOTIATION: no longer the default
    elif not allowed:
        context.options |= ssl.OP_NO_RENEGOTIATION
    protocol = Recorder(loop, data_received=lambda p, data: p.transport.write(data.upper()))
    async with served(loop, context, protocol) as (host, port):
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"{host}:{port}", "-legacy_renegotiation"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

        def say(line):
            client.stdin.write(line)
            client.stdin.flush()

        def renegotiate():
            say(b"R\n")            # to s_client itself, which says so
            while client.stderr.readline() != b"RENEGOTIATING\n":
                pass
            if allowed:
                say(b"after\n")

        try:
            say(b"before\n")
            assert await protocol.received(7) == b"before\n"
            await asyncio.wait_for(loop.run_in_executor(None, renegotiate), 5)
            if allowed:
                assert await protocol.received(13) == b"before\nafter\n"
                client.stdin.close()
            await protocol.closed()
            answer = await loop.run_in_executor(None, client.stdout.read)
            assert b"BEFORE\n" in answer
            assert (b"AFTER\n" in answer) == allowed
        finally:
            client.kill()
            client.wait()
            with contextlib.suppress(BrokenPipeError):
                client.stdin.close()
            client.stdout.close()
            client.stderr.close()


# -- failures ---------------------------------------------------------------------------------


async def test_peer_is_told_why_its_certificate_was_refused(mioloop_loop, tls):
    """The alert leaves before the connection closes."""
    loop = mioloop_loop
    async with shaking_peer(loop, tls.server) as (near, peer, shaking):
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                lambda: Recorder(loop), sock=near, ssl=tls.stranger, server_hostname="localhost"
            )

        def read_on():
            with contextlib.suppress(ConnectionResetError):
                while peer.sock.recv(100):
                    pass

        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA|unknown ca"):
            await shaking               # TLS 1.3: the server's part may be done before
            await peer.call(read_on)


@contextlib.contextmanager
def proxy(change):
    """The ends of a pair of sockets; *change(data)* changes the data that the first one sends."""
    near, inner = socket_pair("tcp")
    outer, far = socket_pair("tcp")
    for sock in (inner, outer):
        sock.settimeout(5)

    def carry(source, target, edit):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(edit(data))
            target.shutdown(socket.SHUT_WR)

    threads = [
        threading.Thread(target=carry, args=(inner, outer, bytes)),
        threading.Thread(target=carry, args=(outer, inner, change)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield near, far
    finally:
        for sock in (near, far):
            sock.close()
        for thread in threads:
            thread.join(10)
        for sock in (inner, outer):
            sock.close()


async def test_record_that_was_tampered_with_ends_the_connection(loop, tls):
    """Earlier data is delivered; connection_lost() has the ssl module's own error."""
    tampering = threading.Event()

    def change(data):
        return data[:-1] + bytes([data[-1] ^ 1]) if tampering.is_set() else data

    with proxy(change) as (near, far):
        peer = BlockingPeer(loop, far, tls.server, server_side=True)
        shaking = asyncio.ensure_future(peer.handshake())
        protocol = Recorder(loop)
        await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
        await shaking
        await peer.call(peer.sock.sendall, b"good")
        await protocol.received(4)
        tampering.set()
        await peer.call(peer.sock.sendall, b"evil")
        failure = await protocol.closed()
        assert isinstance(failure, ssl.SSLError)
        assert failure.library == "SSL"
        # By the version of OpenSSL.
        reasons = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
        assert failure.reason in reasons
        assert protocol.data == b"good"
        peer.sock.close()
    await turns()


# -- order and amounts --------------------------------------------------------------------------


@pytest.mark.parametrize("notify", [True, False])
@pytest.mark.time_limit(30)
async def test_peer_that_has_finished_still_gets_written_data(mioloop_loop, tls, notify):
    """close_notify, or EOF alone, from a peer that reads on: all of our backlog arrives."""
    loop = mioloop_loop
    data = os.urandom(MIB)
    count = 0
    connected, written = threading.Event(), threading.Event()

    def far_end(sock):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls.server.wrap_bio(incoming, outgoing, server_side=True)
        got = bytearray()

        def until_done(step, *args):
            while True:
                try:
                    return step(*args)
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))

        until_done(session.do_handshake)
        sock.sendall(outgoing.read())
        connected.set()
        assert written.wait(5)
        if notify:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.unwrap()
            sock.sendall(outgoing.read())
        else:
            sock.shutdown(socket.SHUT_WR)
        while len(got) < len(data) * count:
            got += until_done(session.read, 65536)
        return bytes(got)

    near, far = socket_pair("tcp")
    far.settimeout(5)
    reading = loop.run_in_executor(None, far_end, far)
    protocol = Recorder(loop)
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
    )
    await loop.run_in_executor(None, connected.wait, 5)
    while transport.get_write_buffer_size() == 0:   # the system takes some megabytes
        transport.write(data)
        count += 1
    written.set()
    assert await reading == data * count
    far.close()
    assert await protocol.closed() is None
    await turns()


async def test_eof_right_behind_a_resume_loses_nothing(mioloop_loop, tls):
    """R53, R66: data that came while paused is delivered before eof_received().

    The loop is parked when another thread ends the stream and resumes: it finds both at once,
    and serves the end before the resume takes effect. Which of them it sees is the system's
    choice, so it is tried often.
    """
    loop = mioloop_loop

    async def once():
        protocol = Recorder(loop)
        async with tls_to_peer(loop, tls, protocol) as (transport, peer):
            transport.pause_reading()
            await peer.call(peer.sock.sendall, b"last words")
            await protocol.until(lambda: transport.get_read_buffer_size() > 0)

            def end_and_resume():
                with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
                    raw.shutdown(socket.SHUT_WR)
                    loop.call_soon_threadsafe(transport.resume_reading)

            await peer.call(end_and_resume)
            assert await protocol.closed() is None
            assert protocol.data == b"last words"
            assert protocol.calls[-3:] == ["data_received", "eof_received", "connection_lost"]

    for _ in range(10):
        await once()


async def test_buffered_protocol_over_tls(loop, tls):
    """R56: get_buffer() and buffer_updated(); a small buffer is filled again and again."""
    data = os.urandom(300_000)
    protocol = BufferedRecorder(
        loop, size=1000, get_buffer=lambda p, sizehint: memoryview(p.buffer)
    )
    async with tls_to_peer(loop, tls, protocol) as (_, peer):
        await peer.call(peer.sock.sendall, data)
        assert await protocol.received(len(data)) == data
        peer.sock.close()
        await protocol.closed()


@pytest.mark.known_difference("asyncio", "has them when the peer says more", run=False)
@pytest.mark.known_difference("uvloop", "closes the connection")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_bytes_behind_an_interrupted_read_come_in_the_next_run(loop, tls, error):
    """R13, R56: the peer sends no more; data that is already decrypted is not read again."""
    errors = [error, error]

    def interrupt(protocol, count):
        if errors:
            raise errors.pop()

    async def main():
        protocol = BufferedRecorder(
            loop, 1000, get_buffer=lambda p, _: memoryview(p.buffer), buffer_updated=interrupt
        )
        async with tls_to_peer(loop, tls, protocol) as (_, peer):
            await peer.call(peer.sock.sendall, b"x" * 3000)     # one record
            return await protocol.received(3000)

    task = loop.create_task(main())
    for _ in range(2):
        with pytest.raises(error):
            loop.run_until_complete(task)
    assert loop.run_until_complete(asyncio.wait_for(task, 10)) == b"x" * 3000


@pytest.mark.time_limit(30)
async def test_reading_ahead_stops_at_the_read_mark(mioloop_loop, tls):
    """A paused application makes the peer wait: no more than the mark and one read is held."""
    loop = mioloop_loop
    protocol = Recorder(loop)
    async with tls_to_peer(loop, tls, protocol) as (transport, peer):
        transport.set_read_buffer_limits(high=100_000)
        assert transport.get_read_buffer_limits() == (25_000, 100_000)
        transport.pause_reading()
        sending = asyncio.ensure_future(peer.call(peer.sock.sendall, b"x" * (16 * MIB)))
        await protocol.until(lambda: transport.get_read_buffer_size() >= 100_000)
        await turns(50)
        assert transport.get_read_buffer_size() < 100_000 + 300_000
        assert not sending.done() and not protocol.data
        transport.resume_reading()
        await sending
        await protocol.received(16 * MIB)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
async def test_start_tls_keeps_the_data_of_the_reader(mioloop_loop, tls):
    """R72: a client that sends its hello right behind the last plain line is heard."""
    loop = mioloop_loop

    async def serve(reader, writer):
        assert await reader.readline() == b"header\n"
        await writer.start_tls(tls.server)
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    def visit():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(address, timeout=5) as sock:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.do_handshake()
            sock.sendall(b"header\n" + outgoing.read())     # in one segment

            def until_done(step, *args):
                while True:
                    try:
                        return step(*args)
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))

            until_done(session.do_handshake)
            session.write(b"secret\n")
            sock.sendall(outgoing.read())
            return until_done(session.read, 100)

    assert await loop.run_in_executor(None, visit) == b"SECRET\n"
    server.close()
    await server.wait_closed()
    await turns(10)


def test_session_that_a_program_keeps_outlives_its_connection(mioloop_loop, run, tls):
    """The SSLObject answers after the end, when its transport and engine are gone."""
    loop = mioloop_loop
    kept = []

    async def main():
        async with tls_pair(loop, tls) as (client, server):
            for protocol in (client, server):
                kept.append(protocol.transport.get_extra_info("ssl_object"))
            client.transport.write(b"x")
            await server.received(1)

    run(loop, main())
    gc.collect()
    for session in kept:
        assert session.cipher() and session.version()
        with pytest.raises(ssl.SSLError):
            session.read(1)
        with contextlib.suppress(ssl.SSLError):
            session.write(b"nobody reads this")


# -- the engines ----------------------------------------------------------------------------------


def test_unknown_engine_is_refused_by_name():
    with pytest.raises(ValueError, match="'openssll'.*'openssl' and 'memory'"):
        tls_engine.select_engine("openssll")


def test_engine_can_be_chosen_by_environment():
    """MIOLOOP_TLS_ENGINE, looked at when the first session is made."""
    code = (
        "import asyncio, mioloop, ssl\n"
        "from mioloop.transports import tls, tls_engine\n"
        "loop = mioloop.new_event_loop()\n"
        "made = tls.make_tls(loop, asyncio.Protocol(), ssl.create_default_context(), None,"
        " False, 'localhost')\n"
        "made._app_transport.abort()\n"
        "print(tls_engine.engine_in_use())\n"
    )
    for name, expected in (("memory", "memory"), ("", tls_engine.select_engine())):
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "MIOLOOP_TLS_ENGINE": name},
            capture_output=True, text=True, timeout=60,
        )
        assert result.stdout.strip() == expected, result.stderr
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "MIOLOOP_TLS_ENGINE": "gnutls"},
        capture_output=True, text=True, timeout=60,
    )
    assert "no TLS engine 'gnutls'" in result.stderr
