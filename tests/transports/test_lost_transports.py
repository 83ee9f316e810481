"""Lost transports, after connection_lost(), and protocols that lack methods.

R47, R63, R71 and R97.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import pytest

from tests.support import datagrams
from tests.support.connections import small_buffers, socket_pair
from tests.support.protocols import Recorder
from tests.support.releases import WRITELINES_RAISES_AFTER_A_LOSS
from tests.support.tls import tls_pair
from tests.support.waiting import turns

# Every public method, with valid arguments. Methods that a kind does not have are left out.
METHODS = {
    "abort": (),
    "can_write_eof": (),
    "close": (),
    "get_extra_info": ("socket",),
    "get_pid": (),
    "get_pipe_transport": (1,),
    "get_protocol": (),
    "get_read_buffer_limits": (),
    "get_read_buffer_size": (),
    "get_returncode": (),
    "get_write_buffer_limits": (),
    "get_write_buffer_size": (),
    "is_closing": (),
    "is_reading": (),
    "pause_reading": (),
    "resume_reading": (),
    "sendto": (b"x",),
    "set_read_buffer_limits": (1, 0),
    "set_write_buffer_limits": (1, 0),
    "write": (b"x",),
    "write_eof": (),
    "writelines": ([b"x", b"y"],),
    "_force_close": (OSError("the test's"),),
    "__repr__": (),
}


@contextlib.asynccontextmanager
async def stream(loop, tls, tmp_path, kind="tcp"):
    near, far = socket_pair(kind)
    small_buffers(near, far)
    with far:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.write(b"-" * 5_000_000)
        assert "pause_writing" in protocol.calls
        yield transport, protocol


def unix_stream(loop, tls, tmp_path):
    return stream(loop, tls, tmp_path, "unix")


def unix_datagram_sockets(tmp_path):
    """A non-blocking one, a blocking one, and the path of the second."""
    near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    near.bind(str(tmp_path / "near"))
    near.setblocking(False)
    far.bind(str(tmp_path / "far"))
    return near, far, str(tmp_path / "far")


@contextlib.asynccontextmanager
async def datagram(loop, tls, tmp_path, connected=True):
    """A Unix socket with a peer that does not read: there datagrams are sure to wait."""
    near, far, path = unix_datagram_sockets(tmp_path)
    if connected:
        near.connect(path)
    with far:
        protocol = datagrams.DatagramRecorder(loop)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=near)
        transport.set_write_buffer_limits(0)
        for _ in range(1000):
            transport.sendto(b"-" * 1000, None if connected else path)
        assert "pause_writing" in protocol.calls
        yield transport, protocol


def unconnected_datagram(loop, tls, tmp_path):
    return datagram(loop, tls, tmp_path, connected=False)


@contextlib.asynccontextmanager
async def read_pipe(loop, tls, tmp_path):
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reader, open(write_end, "wb", 0):
        yield await loop.connect_read_pipe(lambda: Recorder(loop), reader)


@contextlib.asynccontextmanager
async def write_pipe(loop, tls, tmp_path):
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0), open(write_end, "wb", 0) as writer:
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(loop), writer)
        transport.write(b"-" * 1_000_000)
        assert "pause_writing" in protocol.calls
        yield transport, protocol


@contextlib.asynccontextmanager
async def tls_stream(loop, tls, tmp_path):
    async with tls_pair(loop, tls) as (client, server):
        server.transport.pause_reading()
        while "pause_writing" not in client.calls:
            client.transport.write(b"-" * 1_000_000)
        yield client.transport, client


@contextlib.asynccontextmanager
async def tls_in_tls(loop, tls, tmp_path):
    async with tls_pair(loop, tls) as (client, server):
        _, inner = await asyncio.gather(
            loop.start_tls(server.transport, server, tls.server, server_side=True),
            loop.start_tls(client.transport, client, tls.client, server_hostname="localhost"),
        )
        yield inner, client


KINDS = [stream, unix_stream, datagram, unconnected_datagram, read_pipe, write_pipe, tls_stream]
if sys.version_info >= (3, 11):
    KINDS.append(tls_in_tls)


@pytest.mark.known_difference(
    "asyncio", "some methods raise AttributeError", only=("datagram", "write_pipe", "tls_"))
@pytest.mark.known_difference(
    "asyncio", "some methods raise AttributeError", until=(3, 10), only=("read_pipe",))
@pytest.mark.known_difference(
    "asyncio", "writelines() raises", only=("-stream", "unix_stream"),
    when=WRITELINES_RAISES_AFTER_A_LOSS,
)
@pytest.mark.known_difference("uvloop", "some methods raise", run=False)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_no_method_raises_after_connection_lost(loop, tls, tmp_path, kind):
    """R47, R63, R71: every method, twice; the protocol hears of nothing."""
    async with kind(loop, tls, tmp_path) as (transport, protocol):
        transport.abort() if hasattr(transport, "abort") else transport.close()
        await protocol.closed()
        await turns()
        before = list(protocol.calls)
        for name, arguments in METHODS.items():
            for _ in range(2):
                if hasattr(transport, name):
                    if name == "write_eof" and not transport.can_write_eof():
                        with pytest.raises(NotImplementedError):
                            transport.write_eof()
                    else:
                        getattr(transport, name)(*arguments)
        await turns()
        assert transport.is_closing()
        assert protocol.calls == before


async def test_no_method_of_a_child_that_has_ended_raises(loop):
    """R47: but send_signal(), terminate() and kill(), which have no process to address."""
    protocol = Bare("pipe_data_received", "pipe_connection_lost", "process_exited")
    transport, _ = await loop.subprocess_exec(lambda: protocol, "true", stdin=None)
    await protocol.lost
    for name, arguments in METHODS.items():
        for _ in range(2):
            if hasattr(transport, name):
                getattr(transport, name)(*arguments)
    for name, arguments in (("send_signal", (15,)), ("terminate", ()), ("kill", ())):
        with pytest.raises(ProcessLookupError):
            getattr(transport, name)(*arguments)


# -- protocols that lack a method (R97) ------------------------------------------------------------


class Bare:
    """A protocol that has only the methods that a test gives it."""

    def __init__(self, *names):
        self.lost = asyncio.get_running_loop().create_future()
        for name in names:
            setattr(self, name, lambda *args: None)

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost.set_result(exc)


class BareBuffered(Bare, asyncio.BufferedProtocol):
    def __getattribute__(self, name):
        if name in ("get_buffer", "buffer_updated") and name not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return super().__getattribute__(name)


def missing(reports, method, message):
    """The report of a method that is not there."""
    (report,) = reports
    exc = report["exception"]
    assert isinstance(exc, AttributeError), exc
    assert method in str(exc) and "Bare" in str(exc) and "NoneType" not in str(exc)
    assert message in report["message"]
    return exc


@pytest.mark.known_difference("uvloop", "refuses, or ends, in other words")
@pytest.mark.parametrize(
    "method", ["data_received", "eof_received", "get_buffer", "buffer_updated"]
)
async def test_stream_protocol_without_a_method(loop, reports, method):
    """R97, R55: an AttributeError that names class and method; it ends the connection."""
    near, far = socket_pair("tcp")
    with far:
        if method == "get_buffer":
            protocol = BareBuffered()
        elif method == "buffer_updated":
            protocol = BareBuffered()
            protocol.get_buffer = lambda hint: bytearray(100)
        else:
            protocol = Bare()
        await loop.create_connection(lambda: protocol, sock=near)
        far.shutdown(socket.SHUT_WR) if method == "eof_received" else far.sendall(b"x")
        exc = await asyncio.wait_for(protocol.lost, 5)
        assert missing(reports, method, f"protocol.{method}() call failed") is exc


@pytest.mark.parametrize("method", ["pause_writing", "connection_lost"])
async def test_stream_protocol_without_a_method_that_is_no_reading(loop, reports, method):
    """R97, R13: reported; the transport goes on, or ends as it would have."""
    near, far = socket_pair("tcp")
    with far:
        protocol = Bare()
        if method == "connection_lost":
            protocol = type("Bare", (), {"connection_made": lambda *_: None})()
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        if method == "pause_writing":
            transport.write(b"-" * 10_000_000)
            missing(reports, method, "protocol.pause_writing() failed")
            assert not transport.is_closing()
        transport.abort()
        await turns()
        assert near.fileno() == -1
        missing(reports, method, method)


@pytest.mark.known_difference("uvloop", "reports in other words")
async def test_datagram_protocol_without_datagram_received(loop, reports):
    """R97, R13: reported; the endpoint goes on."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    with far:
        protocol = Bare()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=near)
        far.send(b"x")
        await turns()
        missing(reports, "datagram_received", "Exception in callback")
        protocol.datagram_received = lambda data, address: got.append(data)
        got = []
        far.send(b"y")
        await turns()
        assert got == [b"y"]
        transport.abort()
        await protocol.lost


async def test_datagram_protocol_without_error_received(loop, tmp_path):
    """R97: sendto() raises it, as on asyncio."""
    near, far, path = unix_datagram_sockets(tmp_path)
    far.close()
    protocol = Bare()
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=near)
    with pytest.raises(AttributeError, match=r"Bare.*error_received"):
        transport.sendto(b"x", path)
    transport.abort()
    await protocol.lost


@pytest.mark.known_difference("uvloop", "reports in other words")
@pytest.mark.known_difference("asyncio", "never calls connection_lost()", only=("eof_received",))
@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_pipe_protocol_without_a_method(loop, reports, method):
    """R97, R13, R76: reported; the end of the pipe is still delivered."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reader, open(write_end, "wb", 0) as writer:
        protocol = Bare(*{"data_received", "eof_received"} - {method})
        await loop.connect_read_pipe(lambda: protocol, reader)
        if method == "data_received":
            writer.write(b"x")
            await turns()
        writer.close()
        assert await asyncio.wait_for(protocol.lost, 5) is None
        missing(reports, method, "Exception in callback")


@pytest.mark.known_difference("asyncio", "reports in other words, or nothing", until=(3, 10))
@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_tls_protocol_without_a_method(loop, tls, reports, method):
    """R97, R55: reported once; the connection ends."""
    bare = Bare()
    async with tls_pair(loop, tls) as (client, server):
        client.transport.set_protocol(bare)
        server.transport.write(b"x") if method == "data_received" else server.transport.close()
        await asyncio.wait_for(bare.lost, 5)
        client.lost.set_result(None)
        message = "SSL protocol" if method == "data_received" else "eof_received()"
        missing(reports, method, message)


@pytest.mark.known_difference("uvloop", "swallows it")
async def test_connection_with_a_protocol_without_connection_made_is_refused(loop):
    """R97, R31: the caller gets the AttributeError."""
    near, far = socket_pair("tcp")
    with far, near:
        with pytest.raises(AttributeError, match=r"object.*connection_made"):
            await loop.create_connection(object, sock=near)


@pytest.mark.known_difference("uvloop", "reports in other words, mostly", strict=False)
async def test_subprocess_protocol_without_pipe_data_received(loop, reports):
    """R97: reported; connection_lost() comes."""
    protocol = Bare("pipe_connection_lost", "process_exited")
    await loop.subprocess_exec(lambda: protocol, "echo", "x", stdin=None, stderr=None)
    await asyncio.wait_for(protocol.lost, 5)
    missing(reports, "pipe_data_received", "Exception in callback")
