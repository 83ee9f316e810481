"""Every method of a stream transport works inside every callback of its protocol: R60.

The effects of callbacks on the loop are tested in tests/faults/test_callbacks.py.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.connections import connection, receive_all, send, socket_pair
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.tls import BlockingPeer
from tests.support.waiting import turns

MIB = 1 << 20
CALLBACKS = [
    "connection_made",
    "data_received",
    "buffer_updated",
    "get_buffer",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


def close(protocol):
    protocol.transport.close()


def abort(protocol):
    protocol.transport.abort()


def write(protocol):
    protocol.transport.write(b"w" * 1000)


def write_much(protocol):
    protocol.transport.write(b"w" * MIB)


def write_eof(protocol):
    protocol.transport.write_eof()


def pause(protocol):
    protocol.transport.pause_reading()


def pause_and_resume(protocol):
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()


def write_and_close(protocol):
    protocol.transport.write(b"w" * 1000)
    protocol.transport.close()


def write_and_abort(protocol):
    protocol.transport.write(b"w" * 1000)
    protocol.transport.abort()


def limits(protocol):
    protocol.transport.set_write_buffer_limits(high=0)


def read_everything_about_it(protocol):
    transport = protocol.transport
    repr(transport)
    transport.get_extra_info("socket")
    transport.get_write_buffer_size()
    transport.is_closing()


def replace_protocol(protocol):
    protocol.transport.set_protocol(protocol)


def drop_the_transport(protocol):
    protocol.dropped, protocol.transport = protocol.transport, None


ACTIONS = [
    close,
    abort,
    write,
    write_much,
    write_eof,
    pause,
    pause_and_resume,
    write_and_close,
    write_and_abort,
    limits,
    read_everything_about_it,
    replace_protocol,
]


async def drive(loop, protocol, far, end):
    """Make every callback of the protocol happen that still can; *end* closes our peer's half."""
    try:
        await send(far, b"x" * 1000)
    except OSError:  # connection_made() has closed it
        pass
    await turns()
    for _ in range(0 if protocol.transport.is_closing() else 32):
        try:
            protocol.transport.write(b"y" * (MIB // 8))  # pauses
        except RuntimeError:  # write_eof() was called
            pass
    await turns()
    reading = asyncio.ensure_future(receive_all(far))  # resumes
    await turns()
    try:
        end()
    except OSError:
        pass
    await turns()
    if protocol.transport.get_write_buffer_size() == 0:
        protocol.transport.resume_reading()
    await turns()
    if not protocol.lost.done():
        protocol.transport.abort()
    await protocol.closed()
    await asyncio.wait([reading])
    reading.exception()


async def over_tcp(loop, tls, protocol):
    near, far = socket_pair("tcp")
    with far:
        await loop.create_connection(lambda: protocol, sock=near)
        await drive(loop, protocol, far, lambda: far.shutdown(socket.SHUT_WR))


async def over_tls(loop, tls, protocol):
    near, far = socket_pair("tcp")
    with far, far.dup() as below:  # an SSLSocket's own shutdown() forgets the session
        peer = BlockingPeer(loop, far, tls.server, server_side=True)
        shaking = asyncio.ensure_future(peer.handshake())
        await loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client, server_hostname="localhost"
        )
        await asyncio.wait([shaking])
        if shaking.exception() is None:
            with peer.sock:
                await drive(loop, protocol, peer.sock, lambda: below.shutdown(socket.SHUT_WR))
        else:  # it was closed in connection_made()
            await protocol.closed()


@pytest.mark.known_difference("uvloop", "some combinations end the process", run=False)
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(over_tcp, id="tcp"),
        pytest.param(
            over_tls,
            id="tls",
            marks=pytest.mark.known_difference("asyncio", "some raise, one hangs", run=False),
        ),
    ],
)
@pytest.mark.time_limit(20)
async def test_every_action_works_in_every_callback(loop, tls, connect, callback, action):
    """R60: no crash, hang or report; connection_made is first, connection_lost once and last."""
    tried = []

    def hook(protocol, *args):
        if not tried:
            tried.append(callback)
            try:
                action(protocol)
            except NotImplementedError:
                assert action is write_eof and connect is over_tls
            except RuntimeError as error:
                assert "write_eof()" in str(error)
        return memoryview(protocol.buffer) if callback == "get_buffer" else None

    buffered = callback in ("buffer_updated", "get_buffer")
    hooks = {"get_buffer": lambda p, _: memoryview(p.buffer)} if buffered else {}
    protocol = (BufferedRecorder if buffered else Recorder)(loop, **hooks | {callback: hook})
    await connect(loop, tls, protocol)
    await turns()
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls.count("eof_received") <= 1


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("callback", ["data_received", "buffer_updated"])
async def test_no_data_after_close_in_a_read_callback(loop, callback, method):
    """R45, R60: the data that was read is the last, though more is in the socket."""

    def hook(protocol, *args):
        getattr(protocol.transport, method)()

    kind = BufferedRecorder if callback == "buffer_updated" else Recorder
    protocol = kind(loop, **{callback: hook})
    near, far = socket_pair("tcp")
    with far:
        sending = asyncio.ensure_future(send(far, b"x" * 4 * MIB))
        await loop.create_connection(lambda: protocol, sock=near)
        assert await protocol.closed() is None
        assert protocol.calls == ["connection_made", callback, "connection_lost"]
        await asyncio.wait([sending])
        sending.exception()


async def test_answer_and_close_in_data_received_delivers_the_answer(loop):
    """R60: write(); close() in data_received, as every HTTP/1.0 server does."""

    def answer(protocol, data):
        protocol.transport.write(b"a" * 300_000)
        protocol.transport.write(b"b" * 300_000)
        protocol.transport.close()

    protocol = Recorder(loop, data_received=answer)
    async with connection(loop, protocol) as (_, far):
        await send(far, b"request")
        assert await receive_all(far) == b"a" * 300_000 + b"b" * 300_000
        assert await protocol.closed() is None


async def test_write_in_connection_made_arrives_first(loop):
    """R60: greeting protocols."""
    protocol = Recorder(loop, connection_made=lambda p, t: t.write(b"220 ready\r\n"))
    async with connection(loop, protocol) as (transport, far):
        transport.write(b"next")
        transport.close()
        assert await receive_all(far) == b"220 ready\r\nnext"


async def test_close_in_connection_made(loop):
    """R60: create_connection still returns the pair."""
    protocol = Recorder(loop, connection_made=lambda p, t: t.close())
    async with connection(loop, protocol) as (transport, far):
        assert transport.is_closing()
        assert await receive_all(far) == b""
        assert await protocol.closed() is None
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_protocol_replaced_in_data_received_gets_the_rest(loop):
    """R56, R60: upgrade of a protocol, as HTTP to WebSocket."""
    second = Recorder(loop)

    def switch(protocol, data):
        protocol.transport.set_protocol(second)
        second.transport = protocol.transport

    first = Recorder(loop, data_received=switch)
    near, far = socket_pair("tcp")
    with far:
        await loop.create_connection(lambda: first, sock=near)
        await send(far, b"x" * MIB)
        await second.until(lambda: len(first.data) + len(second.data) == MIB)
        assert first.calls.count("data_received") == 1
        far.close()
        assert await second.closed() is None
        assert second.calls[-2:] == ["eof_received", "connection_lost"]
        assert "connection_lost" not in first.calls


async def test_two_transports_that_close_each_other(loop):
    """R60: a proxy's two sides go down together, from either's callback."""
    pairs = [socket_pair("tcp") for _ in range(2)]
    sides = []

    def close_other(protocol, *args):
        for side in sides:
            side.transport.abort()

    sides += [Recorder(loop, data_received=close_other) for _ in range(2)]
    for side, (near, _) in zip(sides, pairs):
        await loop.create_connection(lambda side=side: side, sock=near)
    for _, far in pairs:
        far.sendall(b"x")
    for side in sides:
        assert await side.closed() is None
    assert sum(side.calls.count("data_received") for side in sides) <= 2
    for _, far in pairs:
        far.close()


async def test_transport_closed_by_another_callback_of_the_turn_gets_no_event(loop):
    """R27, R60: many are ready at once; the first closes all other ones."""
    count = 20
    pairs = [socket_pair("unix") for _ in range(count)]
    protocols = []

    def abort_all(protocol, data):
        for other in protocols:
            if other is not protocol:
                other.transport.abort()

    for near, _ in pairs:
        protocol = Recorder(loop, data_received=abort_all)
        protocols.append(protocol)
        await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
    for _, far in pairs:
        far.sendall(b"x")
    await protocols[0].until(lambda: sum("data_received" in p.calls for p in protocols))
    await turns()
    assert sum("data_received" in p.calls for p in protocols) == 1
    for protocol in protocols:
        if not protocol.lost.done():
            protocol.transport.abort()
        await protocol.closed()
    for _, far in pairs:
        far.close()


async def test_descriptor_number_reused_within_the_turn_is_not_mixed_up(loop):
    """R29, R33: a transport is closed and a new one takes its number, while events are pending."""
    for _ in range(30):
        near, far = socket_pair("unix")
        protocol = Recorder(loop)
        await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
        far.sendall(b"old")
        protocol.transport.abort()
        await protocol.closed()
        near2, far2 = socket_pair("unix")
        protocol2 = Recorder(loop)
        await loop.create_connection(lambda protocol2=protocol2: protocol2, sock=near2)
        far2.sendall(b"new")
        assert await protocol2.received(3) == b"new"
        far.close()
        far2.close()
        assert await protocol2.closed() is None


async def test_last_reference_dropped_in_data_received(loop):
    """R60: the protocol forgets its transport; the loop keeps the connection."""
    protocol = Recorder(loop, data_received=lambda p, data: drop_the_transport(p))
    near, far = socket_pair("tcp")
    with far:
        await loop.create_connection(lambda: protocol, sock=near)
        await send(far, b"one")
        await protocol.received(3)
        await send(far, b"two")
        protocol.hooks.clear()
        assert await protocol.received(6) == b"onetwo"
        far.close()
        assert await protocol.closed() is None
