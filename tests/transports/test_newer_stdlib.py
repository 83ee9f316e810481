"""A newer stdlib that passes more keywords to the hooks of the loop than mioloop knows."""

from __future__ import annotations

import asyncio
import inspect
import os

import pytest

import mioloop
from tests.support.datagrams import DatagramRecorder, far_socket
from tests.support.protocols import Recorder
from tests.support.waiting import turns


@pytest.fixture
def newer(monkeypatch):
    """Let asyncio pass `colour` to the hooks, and know it itself; gives the hooks that saw it."""
    seen = []

    def teach(name):
        original = getattr(asyncio.SelectorEventLoop, name)
        accepted = inspect.signature(original).parameters
        ours = getattr(mioloop.EventLoop, name)

        def theirs(self, *args, colour, **keywords):
            seen.append((name, colour))
            return original(
                self, *args, **{key: value for key, value in keywords.items() if key in accepted}
            )

        def call(self, *args, **keywords):
            return ours(self, *args, **{"colour": "blue"} | keywords)

        owner = next(base for base in asyncio.SelectorEventLoop.__mro__ if name in vars(base))
        monkeypatch.setattr(owner, name, theirs)
        monkeypatch.setattr(mioloop.EventLoop, name, call)

    for name in (
        "_start_serving", "_make_socket_transport", "_make_ssl_transport",
        "_make_datagram_transport", "_make_read_pipe_transport", "_make_write_pipe_transport",
    ):
        teach(name)
    return seen


@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_keyword_that_is_not_known_breaks_no_connection(mioloop_loop, run, tls, newer, over):
    """The stdlib's own transports and acceptor run on the loop's polling."""

    async def echo(reader, writer):
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=tls.server if over == "tls" else None
        )
        address = server.sockets[0].getsockname()
        secure = {"ssl": tls.client, "server_hostname": "localhost"} if over == "tls" else {}
        reader, writer = await asyncio.open_connection(*address, **secure)
        writer.write(b"hello")
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await turns()

    run(mioloop_loop, main())
    made = "_make_ssl_transport" if over == "tls" else "_make_socket_transport"
    assert set(newer) == {("_start_serving", "blue"), (made, "blue")}


def test_keyword_that_is_not_known_breaks_no_datagram(mioloop_loop, run, newer):
    """As for connections: create_datagram_endpoint()."""

    async def main():
        protocol = DatagramRecorder(mioloop_loop)
        transport, _ = await mioloop_loop.create_datagram_endpoint(
            lambda: protocol, local_addr=("127.0.0.1", 0)
        )
        with far_socket() as far:
            far.sendto(b"hello", transport.get_extra_info("sockname"))
            assert await protocol.count(1) == [b"hello"]
        transport.close()
        await protocol.closed()

    run(mioloop_loop, main())
    assert newer == [("_make_datagram_transport", "blue")]


def test_keyword_that_is_not_known_breaks_no_pipe(mioloop_loop, run, newer):
    """As for connections: both ends of a pipe."""

    async def main():
        reading, writing = (open(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))
        reader, writer = Recorder(mioloop_loop), Recorder(mioloop_loop)
        await mioloop_loop.connect_read_pipe(lambda: reader, reading)
        await mioloop_loop.connect_write_pipe(lambda: writer, writing)
        writer.transport.write(b"hello")
        assert await reader.received(5) == b"hello"
        writer.transport.close()
        await writer.closed()
        await reader.closed()
        await turns()

    run(mioloop_loop, main())
    assert [name for name, _ in newer] == [
        "_make_read_pipe_transport", "_make_write_pipe_transport"
    ]
