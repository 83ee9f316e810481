"""A descriptor that outlives its transport: detached, duplicated, or in a forked child: R33."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tests.support.connections import send, socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


async def detached(loop):
    """A descriptor and its far end; the descriptor's transport ended without closing it."""
    near, far = socket_pair("unix")
    transport, protocol = await loop.create_connection(lambda: Recorder(loop), sock=near)
    fd = near.detach()
    transport.abort()
    await protocol.closed()
    return fd, far


@pytest.mark.known_difference("uvloop", "refuses it")
async def test_detached_socket_can_have_a_transport_again(loop):
    """R33: the loop has no memory of the first one."""
    fd, far = await detached(loop)
    with far:
        sock = socket.socket(fileno=fd)
        transport, protocol = await loop.create_connection(lambda: Recorder(loop), sock=sock)
        await send(far, b"hello")
        assert await protocol.received(5) == b"hello"
        transport.abort()
        await protocol.closed()


@pytest.mark.known_difference("uvloop", "refuses it")
async def test_detached_socket_can_be_watched_and_awaited(loop):
    """R23, R33: add_reader(), add_writer() and sock_recv()."""
    fd, far = await detached(loop)
    with far, socket.socket(fileno=fd) as sock:
        readable, writable = loop.create_future(), loop.create_future()
        loop.add_reader(fd, lambda: readable.done() or readable.set_result(None))
        loop.add_writer(fd, lambda: writable.done() or writable.set_result(None))
        far.send(b"x")
        await readable
        await writable
        assert loop.remove_reader(fd)
        assert loop.remove_writer(fd)
        assert await loop.sock_recv(sock, 10) == b"x"
        receiving = asyncio.ensure_future(loop.sock_recv(sock, 10))
        await turns()
        far.send(b"y")
        assert await receiving == b"y"


async def quiet(loop, far):
    """Whether the loop sleeps on while data comes for a transport that is gone."""

    def send_slowly():
        for _ in range(20):
            far.send(b"x")
            time.sleep(0.002)

    await turns()
    thread = threading.Thread(target=send_slowly)
    thread.start()
    before = loop.stats()["polls"]
    await asyncio.sleep(0.1)
    polls = loop.stats()["polls"] - before
    thread.join()
    return polls < 10                   # 20 if each byte woke the loop


@pytest.mark.parametrize("side", ["client", "accepted"])
async def test_duplicate_of_a_closed_transport_does_not_wake_the_loop(mioloop_loop, side):
    """R33: the owner of the duplicate reads; the loop sleeps."""
    loop = mioloop_loop
    protocol = Recorder(loop)
    if side == "client":
        near, far = socket_pair("tcp")
        await loop.create_connection(lambda: protocol, sock=near)
    else:
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        far = socket.create_connection(server.sockets[0].getsockname())
        await protocol.made
        server.close()
    with far:
        duplicate = os.dup(protocol.transport.get_extra_info("socket").fileno())
        protocol.transport.abort()
        await protocol.closed()
        assert await quiet(loop, far)
        assert os.read(duplicate, 100)
        os.close(duplicate)


@pytest.mark.skipif(sys.platform == "darwin", reason="fork() after threads")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_connection_that_a_child_inherited_does_not_wake_the_parent(mioloop_loop):
    """R33, R89: closed in the parent, it is the child's alone."""
    loop = mioloop_loop
    protocol = Recorder(loop)
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    far = socket.create_connection(server.sockets[0].getsockname())
    await protocol.made
    server.close()
    with far:
        child = os.fork()
        if child == 0:
            try:
                signal.pause()
            finally:
                os._exit(0)
        try:
            protocol.transport.abort()
            await protocol.closed()
            assert await quiet(loop, far)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.unsanitized("starts an interpreter of its own under strace")
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_accepted_connection_that_stays_in_the_loop_is_forgotten_without_a_call(tmp_path):
    """With edges, one epoll_ctl a connection: the kernel drops a closed descriptor by itself."""
    program = """
        import asyncio, socket, mioloop

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            for _ in range(50):
                with socket.create_connection(server.sockets[0].getsockname()) as peer:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.001)
            server.close()

        class Echo(asyncio.Protocol):
            pass

        mioloop.run(main())
    """
    trace = tmp_path / "trace"
    result = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=epoll_ctl", sys.executable, "-c",
         textwrap.dedent(program)],
        timeout=60,
    )
    if not trace.exists() or "epoll_ctl" not in trace.read_text():
        pytest.skip("strace is not permitted here")
    assert result.returncode == 0
    assert trace.read_text().count("EPOLL_CTL_DEL") < 10
