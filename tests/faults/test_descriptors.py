"""No descriptor, no memory for a socket: on accept, on connect, and wherever else one is made.

EMFILE is real: the process's limit is lowered. The other errors concern a whole machine, so
they are made in a child in which fail.c stands before the C library's accept4() and socket().
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.starving import CLIENTS, OF_THE_CONNECTION, OUT_OF_RESOURCES
from tests.support.connections import socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "fail.so"
    source = str(HERE / "fail.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True)
    return library


@pytest.mark.known_difference("uvloop", "accepts by calls that cannot be made to fail", run=False)
@pytest.mark.known_difference("asyncio", "raises what it does not know")
def test_lack_of_anything_is_reported_once_and_passes(loop_kind, shim):
    """R35: EMFILE, ENFILE, ENOBUFS, ENOMEM: one report, a second's wait, and no client is lost.

    An error of accept(2) that concerns one connection causes no report and no wait.
    create_connection() raises the error of socket(), and leaves nothing behind.
    """
    preload = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), str(shim))))
    child = subprocess.run(
        [sys.executable, "-m", "tests.faults.starving", *map(str, vars(loop_kind).values())],
        env=os.environ | {"LD_PRELOAD": preload},
        cwd=HERE.parent.parent,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    result = json.loads(child.stdout)
    message = "socket.accept() out of system resource"
    for error in OUT_OF_RESOURCES:
        reports = [[message, getattr(errno, error)]]
        accepted = result["accept"][error]
        assert accepted == {"served": CLIENTS, "waited": True, "reports": reports}, error
        assert result["connect"][error] == {"raised": getattr(errno, error), "then": "hello"}
    for error in OF_THE_CONNECTION:
        accepted = result["accept"][error]
        assert accepted == {"served": CLIENTS, "waited": False, "reports": []}, error
    assert result["left open"] == 0


@pytest.mark.parametrize("trigger", ["edge", "level", "oneshot"])
def test_poll_that_refuses_ends_one_transport_and_not_the_run(trigger, shim):
    """R46: ENOSPC of epoll_ctl(2), where no caller could use an exception (and elsewhere)."""
    preload = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), str(shim))))
    child = subprocess.run(
        [sys.executable, "-m", "tests.faults.refusing", trigger],
        env=os.environ | {"LD_PRELOAD": preload},
        cwd=HERE.parent.parent,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    oneshot = trigger == "oneshot"
    assert json.loads(child.stdout) == {
        "one write": ["ENOSPC", "other"],
        "many writes": ["ENOSPC", "other"],
        "served": ["ENOSPC" if oneshot else None, "data"],
        "closed": None,
        "resumed": None if trigger == "edge" else "ENOSPC",
        "reports": [],
        "listening": ["the listening socket cannot be polled"] if oneshot else [],
        "left open": 0,
    }


# -- EMFILE, for real ----------------------------------------------------------------------------


@contextlib.contextmanager
def no_descriptor_left(spare=0):
    """The process cannot open more than `spare` descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    limit, free = 0, 0
    while free < spare or limit in used:
        free += limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        fillers = []
        with contextlib.suppress(OSError):
            while len(fillers) < limit:  # the numbers below it that are free
                fillers.append(os.dup(0))
        for filler in fillers[:spare]:
            os.close(filler)
        del fillers[:spare]
        yield
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Counting(asyncio.Protocol):
    """Counts the connections that were made."""

    made = 0

    def connection_made(self, transport):
        type(self).made += 1
        self.transport = transport
        transport.write(b"hello")
        transport.close()


@pytest.mark.known_difference("uvloop", "closes the connections in silence", run=False)
@pytest.mark.known_difference("asyncio", "reports each try of its backlog")
async def test_backlog_is_kept_while_there_is_no_descriptor(loop, reports):
    """R35: all waiting clients are served in one go when there are descriptors again."""
    protocol = type("One", (Counting,), {})
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(20)]
    with no_descriptor_left():
        for client in clients:
            client.connect(address)
        while not reports:
            await turns(1)
        assert protocol.made == 0
    for client in clients:
        client.settimeout(5)
        with client:
            assert await loop.run_in_executor(None, client.recv, 5) == b"hello"
    assert protocol.made == 20
    assert len(reports) == 1
    server.close()
    await server.wait_closed()


@pytest.mark.known_difference("uvloop", "closes the connection in silence", run=False)
async def test_server_closed_while_it_waits_for_descriptors(loop, reports):
    """R35, R39: nothing is resumed; a connected transport was served all the time."""
    protocols = []

    def factory():
        protocols.append(Recorder(loop))
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with socket.create_connection(address) as first, socket.socket() as second:
        while not protocols:
            await turns(1)
        with no_descriptor_left():
            second.connect(address)
            while not reports:
                await turns(1)
            first.sendall(b"still there")
            assert await protocols[0].received(11) == b"still there"
            server.close()
    await protocols[0].closed()
    await server.wait_closed()
    assert len(protocols) == 1


async def connecting(loop, address):
    await loop.create_connection(asyncio.Protocol, *address)


async def unix_connecting(loop, address):
    await loop.create_unix_connection(asyncio.Protocol, "/nowhere")


async def datagrams(loop, address):
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)


async def subprocesses(loop, address):
    await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("make", "spare"),
    [
        (connecting, 0),
        (unix_connecting, 0),
        (datagrams, 0),
        (subprocesses, 0),
        pytest.param(
            subprocesses,
            1,
            marks=pytest.mark.known_difference("uvloop", "leaves some open", run=False),
        ),
    ],
)
@pytest.mark.time_limit(20)
async def test_every_call_that_needs_a_descriptor_gets_emfile(loop, make, spare):
    """R32: OSError(EMFILE), nothing is left behind however far it came, and it works later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        await loop.run_in_executor(None, int)  # its thread needs none any more
        await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
        if make is subprocesses:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            await process.wait()
        with no_descriptor_left(spare):
            with pytest.raises(OSError) as raised:
                await make(loop, address)
        assert raised.value.errno == errno.EMFILE


async def test_sock_accept_without_a_descriptor(loop):
    """R32, R35: OSError(EMFILE), and the connection still waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()):
            with no_descriptor_left():
                with pytest.raises(OSError) as raised:
                    await loop.sock_accept(listener)
            assert raised.value.errno == errno.EMFILE
            conn, _ = await loop.sock_accept(listener)
            conn.close()


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_loop_that_cannot_be_made_leaves_nothing(mioloop_kind, no_leaked_descriptor, spare):
    """R22: a poll, its waker and the self-pipe: OSError(EMFILE) at whichever fails."""
    mioloop_kind.new().close()
    with no_descriptor_left(spare):
        with pytest.raises(OSError) as raised:
            mioloop_kind.new()
    assert raised.value.errno == errno.EMFILE
    mioloop_kind.new().close()


async def test_transports_work_on_without_a_descriptor(loop):
    """R33: reading, writing, pausing and closing need no new one."""
    near, far = socket_pair("tcp")
    protocol = Recorder(loop)
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        with no_descriptor_left():
            far.sendall(b"x")
            assert await protocol.received(1) == b"x"
            transport.pause_reading()
            transport.resume_reading()
            transport.write(b"y")
            await turns()
            assert far.recv(1) == b"y"
            transport.get_extra_info("socket")
            transport.close()
            assert await protocol.closed() is None
