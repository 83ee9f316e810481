"""Unix sockets: R43."""

from __future__ import annotations

import asyncio
import inspect
import os
import pathlib
import socket
import sys

import pytest

from tests.support.connections import receive, receive_all
from tests.support.protocols import Recorder
from tests.support.waiting import turns


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


async def exchange(loop, address):
    """One client over the address: returns the answer that it gets."""
    protocol = Recorder(loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, address)
    transport.write(b"question")
    answer = await protocol.received(8)
    transport.close()
    assert await protocol.closed() is None
    return answer


def upper(protocol, data):
    protocol.transport.write(data.upper())


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path])
async def test_path_may_have_any_form(loop, path, form):
    """R43: str, bytes, PathLike, for server and client."""
    server = await loop.create_unix_server(
        lambda: Recorder(loop, data_received=upper), form(path)
    )
    assert await exchange(loop, form(path)) == b"QUESTION"
    server.close()
    await server.wait_closed()
    await turns()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has the abstract namespace")
@pytest.mark.known_difference("uvloop", "the client refuses it")
async def test_abstract_address(loop):
    """R43: a name that begins with a zero byte."""
    name = f"\0mioloop-test-{os.getpid()}"
    server = await loop.create_unix_server(lambda: Recorder(loop, data_received=upper), name)
    assert await exchange(loop, name) == b"QUESTION"
    server.close()
    await server.wait_closed()
    await turns()


def test_stale_socket_file_is_replaced(loop, run, path):
    """R43: the file that a crashed server left behind is no error."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)

    async def main():
        server = await loop.create_unix_server(lambda: Recorder(loop, data_received=upper), path)
        assert await exchange(loop, path) == b"QUESTION"
        server.close()
        await server.wait_closed()
        await turns()

    run(loop, main())


def test_ordinary_file_is_not_replaced(loop, run, path):
    """R43: OSError, and the file is still there."""
    pathlib.Path(path).write_text("precious")

    async def main():
        with pytest.raises(OSError):
            await loop.create_unix_server(asyncio.Protocol, path)

    run(loop, main())
    assert pathlib.Path(path).read_text() == "precious"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
async def test_socket_file_is_removed_at_close(loop, path):
    """R43: if the inode is the server's."""
    server = await loop.create_unix_server(asyncio.Protocol, path)
    assert os.path.exists(path)
    server.close()
    await server.wait_closed()
    assert not os.path.exists(path)
    server = await loop.create_unix_server(asyncio.Protocol, path)
    os.unlink(path)
    pathlib.Path(path).write_text("somebody else's")
    server.close()
    await server.wait_closed()
    assert os.path.exists(path)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
async def test_socket_file_may_be_kept(loop, path):
    """R43: cleanup_socket=False."""
    server = await loop.create_unix_server(asyncio.Protocol, path, cleanup_socket=False)
    server.close()
    await server.wait_closed()
    assert os.path.exists(path)


async def test_missing_server_is_an_os_error(loop, path):
    """R32: FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(asyncio.Protocol, path)


@pytest.mark.parametrize("way", ["create_unix_server", "create_server"])
async def test_bound_unix_socket_can_be_served(loop, path, way):
    """R43: sock=, also by create_server()."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    server = await getattr(loop, way)(
        lambda: Recorder(loop, data_received=upper), sock=listener
    )
    with socket.socket(socket.AF_UNIX) as far:
        far.settimeout(5)
        far.connect(path)
        far.sendall(b"question")
        assert await receive(far, 8) == b"QUESTION"
        far.shutdown(socket.SHUT_WR)
        assert await receive_all(far) == b""
    server.close()
    await server.wait_closed()
    await turns()


async def test_tcp_socket_is_refused(loop):
    """R43: ValueError for a socket of another family, nothing left open."""
    with socket.socket() as tcp:
        with pytest.raises(ValueError):
            await loop.create_unix_server(asyncio.Protocol, sock=tcp)
        with pytest.raises(ValueError):
            await loop.create_unix_connection(asyncio.Protocol, sock=tcp)
    with pytest.raises(ValueError):
        await loop.create_unix_connection(asyncio.Protocol)


@pytest.mark.skipif(
    "mode" not in inspect.signature(asyncio.SelectorEventLoop.create_unix_server).parameters,
    reason="new in 3.16",
)
@pytest.mark.known_difference("uvloop", "has no such keyword")
async def test_mode_of_a_unix_server_is_the_mode_of_its_socket(loop, path):
    """R43: create_unix_server(mode=)."""
    server = await loop.create_unix_server(asyncio.Protocol, path, mode=0o600)
    assert os.stat(path).st_mode & 0o777 == 0o600
    server.close()
    await server.wait_closed()


async def test_unix_streams(loop, path):
    """asyncio.start_unix_server and open_unix_connection."""

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    async def session():
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"line\n")
        assert await reader.read() == b"LINE\n"
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, path)
    await asyncio.gather(*(session() for _ in range(50)))
    server.close()
    await server.wait_closed()
    await turns()
