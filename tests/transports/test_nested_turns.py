"""A turn that is run by hand inside a protocol's callback loses nothing: R60.

Where the callback's context is entered already, asyncio reports a RuntimeError and delivers the
data in a later turn. mioloop delivers it in the nested turn.
"""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.connections import receive_all, send, socket_pair
from tests.support.crowds import crowd
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

CALLBACKS = [
    "connection_made",
    "data_received",
    "buffer_updated",
    "get_buffer",
    "eof_received",
    "pause_writing",
    "resume_writing",
]


def turn(loop, count=3):
    for _ in range(count):
        loop.call_soon(lambda: None)  # or the turn would wait
        loop._run_once()


def nest(loop, depth=1):
    """A hook that runs turns inside the callback, the first time."""
    nested = []

    def hook(protocol, *args):
        if len(nested) < depth:
            nested.append(True)
            turn(loop)

    return hook


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("depth", [1, 3])
async def test_nested_turns_in_a_stream_callback_lose_no_event(mioloop_loop, callback, depth):
    """R60: all bytes in order, the end of file, connection_lost once."""
    loop = mioloop_loop
    buffered = callback in ("buffer_updated", "get_buffer")
    hook = nest(loop, depth)
    hooks = {"get_buffer": lambda p, _: memoryview(p.buffer)} if buffered else {}

    def hooked(protocol, *args):
        hook(protocol)
        return memoryview(protocol.buffer) if callback == "get_buffer" else None

    protocol = (BufferedRecorder if buffered else Recorder)(loop, **hooks | {callback: hooked})
    near, far = socket_pair("tcp")
    with far:
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        data = b"".join(b"%07d," % i for i in range(20_000))
        receiving = asyncio.ensure_future(receive_all(far))
        for _ in range(8):
            transport.write(b"y" * (1 << 17))
        await send(far, data)
        far.shutdown(socket.SHUT_WR)
        assert await protocol.closed() is None
        assert bytes(protocol.data) == data
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"
        assert len(await receiving) == 8 << 17


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("when", ["left by the first read", "sent in the callback"])
async def test_nested_turn_sees_the_data_of_its_own_transport(mioloop_loop, kind, when):
    """R100: asyncio's selector reports it, so a callback may wait for it by turns."""
    loop = mioloop_loop
    first = bytes(1 << 20) if when == "left by the first read" else b"first"
    near, far = socket_pair(kind)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    far.setblocking(False)
    seen = []

    def received(protocol, data):
        if len(seen) == 0:
            before = len(protocol.data)
            seen.append(before)
            if when == "sent in the callback":
                far.send(b"second")
            turn(loop)
            seen.append(len(protocol.data) - before)

    protocol = Recorder(loop, data_received=received)
    with far:
        sent = far.send(first)
        await loop.create_connection(lambda: protocol, sock=near)
        await protocol.until(lambda: len(seen) == 2)
        if seen[0] == sent and when == "left by the first read":
            pytest.skip("one read has taken all that this system's socket holds")
        assert seen[1] > 0
        far.close()
        await protocol.closed()


async def test_data_that_comes_in_a_nested_turn_is_delivered(mioloop_loop):
    """R60: also for the transport with the callback that runs the turn."""
    loop = mioloop_loop
    near, far = socket_pair("tcp")
    order = []

    def data_received(protocol, data):
        order.append(bytes(data))
        if len(order) < 4:
            far.send(b"%d" % len(order))
            turn(loop, 20)

    with far:
        protocol = Recorder(loop, data_received=data_received)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        far.send(b"0")
        await protocol.received(4)
        await turns()
        assert order == [b"0", b"1", b"2", b"3"]
        transport.abort()
        await protocol.closed()


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading", "set_protocol"])
async def test_nested_turn_after_a_method_in_data_received(mioloop_loop, method):
    """R45, R60: calls hold in the nested turn; connection_lost() comes once."""
    loop = mioloop_loop
    near, far = socket_pair("tcp")
    second = Recorder(loop)

    def data_received(protocol, data):
        transport = protocol.transport
        getattr(transport, method)(*([second] if method == "set_protocol" else []))
        far.send(b"more")
        turn(loop, 10)

    with far:
        protocol = Recorder(loop, data_received=data_received)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        far.send(b"first")
        await protocol.received(5)
        await turns()
        assert bytes(protocol.data) == b"first"
        if method == "set_protocol":
            assert await second.received(4) == b"more"
            transport.abort()
            assert await second.closed() is None
            return
        if method == "pause_reading":
            protocol.hooks.clear()
            transport.resume_reading()
            assert await protocol.received(9) == b"firstmore"
            transport.abort()
        assert await protocol.closed() is None
        assert protocol.calls.count("connection_lost") == 1


async def test_nested_turn_over_tls_keeps_the_order(mioloop_loop, tls):
    """R60: records that come in the nested turn follow the records that led to it."""
    loop = mioloop_loop
    sent = b"".join(b"%07d," % i for i in range(20_000))
    async def serve(reader, writer):
        for start in range(0, len(sent), 1000):
            writer.write(sent[start : start + 1000])
            await asyncio.sleep(0)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server)
    nested = [0]

    def data_received(protocol, data):
        nested[0] += 1
        if nested[0] % 3 == 0 and nested[0] < 60:
            turn(loop, 4)

    protocol = Recorder(loop, data_received=data_received)
    await loop.create_connection(
        lambda: protocol,
        *server.sockets[0].getsockname(),
        ssl=tls.client,
        server_hostname="localhost",
    )
    await protocol.received(len(sent))
    assert bytes(protocol.data) == sent
    assert await protocol.closed() is None
    server.close()


async def test_nested_turn_in_datagram_received(mioloop_loop):
    """R60: every datagram once."""
    loop = mioloop_loop
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    received = []

    class Protocol(Recorder):
        def datagram_received(self, data, address):
            received.append(data)
            if len(received) == 1:
                far.send(b"3")
                turn(loop, 10)

    with far:
        protocol = Protocol(loop)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=near)
        far.send(b"1")
        far.send(b"2")
        await protocol.until(lambda: len(received) == 3)
        assert sorted(received) == [b"1", b"2", b"3"]
        transport.abort()
        await protocol.closed()


async def test_nested_turn_in_a_read_pipe(mioloop_loop):
    """R60, R76: the rest and the end of the pipe."""
    loop = mioloop_loop
    read_end, write_end = os.pipe()
    def data_received(protocol, data):
        if len(protocol.data) == 5:
            os.write(write_end, b"second")
            turn(loop, 5)
            os.close(write_end)
            turn(loop, 5)

    protocol = Recorder(loop, data_received=data_received)
    await loop.connect_read_pipe(lambda: protocol, open(read_end, "rb", 0))
    os.write(write_end, b"first")
    assert await protocol.closed() is None
    assert bytes(protocol.data) == b"firstsecond"
    assert protocol.calls.count("connection_lost") == 1


def test_nested_turn_in_a_protocol_factory_of_a_server(mioloop_loop, run):
    """R60: every connection has a protocol."""
    loop = mioloop_loop
    made = []

    def factory():
        protocol = Recorder(loop)
        made.append(protocol)
        if len(made) == 1:
            turn(loop, 5)
        return protocol

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(5)]
        for _ in range(100):
            if len(made) == 5:
                break
            await turns(1)
        assert len(made) == 5
        for peer in peers:
            peer.close()
        for protocol in made:
            await protocol.closed()
        server.close()

    run(loop, main())


@pytest.mark.parametrize("oneshot", [False, True])
def test_nested_turn_in_the_callback_of_watch(mioloop_loop, run, oneshot):
    """R60: an edge that comes while the callback runs is not lost."""
    from mioloop import mio

    loop = mioloop_loop
    registration, readiness = mio.Registration.new2()
    events = []

    def ready(event):
        events.append(event)
        if oneshot and len(events) == 1:
            loop.poll.reregister(registration, token, mio.Ready.readable(), options)
        if len(events) == 1:
            readiness.set_readiness(mio.Ready.empty())
            readiness.set_readiness(mio.Ready.readable())
            turn(loop, 5)

    options = mio.PollOpt.edge() | mio.PollOpt.oneshot() if oneshot else mio.PollOpt.edge()
    token = loop.watch(registration, mio.Ready.readable(), options, ready)

    async def main():
        readiness.set_readiness(mio.Ready.readable())
        for _ in range(100):
            if len(events) >= 2:
                break
            await turns(1)
        assert len(events) == 2
        loop.unwatch(token)

    run(loop, main())


@pytest.mark.known_difference("uvloop", "does not begin to read")
async def test_connection_made_that_raises_leaves_a_working_transport(loop, reports):
    """R13, R60: one report; the rest of the connection goes on and ends as usual."""

    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ValueError("made")

    protocol = Failing(loop)
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as far:
        await send(far, b"data")
        assert await protocol.received(4) == b"data"
        protocol.transport.close()
        assert await protocol.closed() is None
    server.close()
    assert [str(report["exception"]) for report in reports] == ["made"]


async def test_source_that_two_polls_of_a_tool_report_is_prefetched_once(mioloop_loop):
    """R90, R100: the second result would take the place of the first, and its bytes be lost."""
    loop = mioloop_loop
    data = b"".join(b"%07d\n" % i for i in range(1500))     # several prefetched blocks
    async with crowd(loop, count=8) as many:            # both reports fit in one burst
        many.send(data)
        loop._selector.select(0)
        loop._process_events(loop._selector.select(0))
        assert await many.received(len(data)) == [data] * len(many.protocols)
