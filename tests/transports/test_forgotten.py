"""A transport that is dropped unclosed is closed, with any effect of its ResourceWarning: R61."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import warnings
from unittest import mock

import pytest

from tests.support.connections import socket_pair
from tests.support.protocols import Recorder
from tests.support.waiting import turns


def paused_stream(loop):
    near, far = socket_pair("tcp")
    return loop.create_connection(lambda: PausedRecorder(loop), sock=near), far


def paused_datagrams(loop):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    return loop.create_datagram_endpoint(lambda: PausedRecorder(loop), sock=near), far


def paused_read_pipe(loop):
    read_end, write_end = os.pipe()
    pipe = open(read_end, "rb", 0)
    return loop.connect_read_pipe(lambda: PausedRecorder(loop), pipe), open(write_end, "wb", 0)


class PausedRecorder(Recorder):
    """The loop holds no reference to its transport, which pauses at once."""

    def connection_made(self, transport):
        transport.pause_reading()

    def datagram_received(self, data, address):
        raise AssertionError("it is paused")


def raising(exception):
    def show(*args, **kwargs):
        raise exception

    return show


def using_the_transport(message, *args, **kwargs):
    """The hook gets hold of the object that is being freed, and uses all of it."""
    transport = using_the_transport.seen[-1]
    for use in ("resume_reading", "pause_reading", "close", "abort", "is_closing"):
        getattr(transport, use)()
    transport.set_protocol(asyncio.Protocol())
    transport.get_extra_info("socket")
    repr(transport)
    for attempt in ("write", "sendto"):
        if hasattr(transport, attempt):
            getattr(transport, attempt)(b"x")
    gc.collect()


def collecting(*args, **kwargs):
    gc.collect()


HOOKS = {
    "raises": raising(ValueError("hook")),
    "exits": raising(SystemExit(3)),
    "interrupts": raising(KeyboardInterrupt()),
    "uses_the_transport": using_the_transport,
    "collects": collecting,
}


@pytest.fixture(params=["filter", *HOOKS])
def hostile_warnings(request):
    """Yield the list of exceptions that could not be raised."""
    unraisable = []
    hook = HOOKS.get(request.param)
    using_the_transport.seen = []

    def warn(text, category, source=None, **kwargs):
        """warnings.warn() with a hook, which keeps the source, as a recording hook does."""
        using_the_transport.seen.append(source)
        hook(text)

    with warnings.catch_warnings(), mock.patch.object(sys, "unraisablehook", unraisable.append):
        warnings.simplefilter("error" if hook is None else "always", ResourceWarning)
        if hook is None:
            yield unraisable
        else:
            with mock.patch.object(warnings, "warn", warn):
                yield unraisable
    using_the_transport.seen = []
    unraisable.clear()


@pytest.mark.parametrize("connect", [paused_stream, paused_datagrams, paused_read_pipe])
async def test_forgotten_transport_is_gone_after_any_action_of_the_warning(
    mioloop_loop, connect, hostile_warnings
):
    """R61: descriptor closed, nothing left in the loop, an exception is reported as unraisable."""
    loop = mioloop_loop
    before = loop.stats()["sources"]
    coroutine, far = connect(loop)
    with far:
        await coroutine
        await turns()
        gc.collect()
        await turns()
        assert loop.stats()["sources"] == before
        data = b"x" * 10
        with pytest.raises(OSError):
            for _ in range(2):  # the second send finds the reset that the first caused
                far.send(data) if isinstance(far, socket.socket) else far.write(data)
        await turns()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="wait_closed() does not wait")
async def test_server_does_not_wait_for_a_forgotten_client(mioloop_loop, hostile_warnings):
    """R39, R61: an accepted connection leaves its server before it warns."""
    loop = mioloop_loop
    server = await loop.create_server(lambda: PausedRecorder(loop), "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await turns()
        gc.collect()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


def test_forgotten_loop_is_closed_though_the_warning_raises(mioloop_kind, no_leaked_descriptor):
    """R22: the warning is the last step."""
    unraisable = []
    with warnings.catch_warnings(), mock.patch.object(sys, "unraisablehook", unraisable.append):
        warnings.simplefilter("error", ResourceWarning)
        loop = mioloop_kind.new()
        closed = []
        near, far = socket_pair("unix")
        loop.add_reader(near, print)

        class Closing:
            def __del__(self):
                closed.append(True)

        loop.call_later(1000, print, Closing())
        del loop
        gc.collect()
        assert closed
        assert [type(each.exc_value) for each in unraisable] == [ResourceWarning]
        unraisable.clear()
        near.close()
        far.close()


async def test_socket_class_that_cannot_close_leaves_nothing_else_behind(mioloop_loop, reports):
    """R39, R61: close() of a program's socket raises; the server and the loop are left."""
    loop = mioloop_loop

    class Socket(socket.socket):
        def close(self):
            super().close()
            raise OSError("close")

    before = loop.stats()["sources"]
    near, far = socket_pair("tcp")
    with far:
        near = Socket(near.family, near.type, near.proto, near.detach())
        near.setblocking(False)
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.abort()
        await protocol.closed()
        await turns()
        assert loop.stats()["sources"] == before
        assert far.recv(1) == b""
    assert [str(report["exception"]) for report in reports] == ["close"]


async def test_forgotten_child_is_killed_though_the_warning_raises(mioloop_loop):
    """R61: the pipes are closed, the child has ended."""
    loop = mioloop_loop
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "100")
    process = transport.get_extra_info("subprocess")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(ResourceWarning):
            transport.__del__()
    await transport._wait()
    assert process.returncode == -9
