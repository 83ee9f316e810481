"""A protocol is called once a turn, also if more is ready, as on asyncio: R92.

So a consumer that one delivery wakes runs before the next delivery. A queue with one place is
enough between the two.
"""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.connections import socket_pair
from tests.support.waiting import until

COUNT = 10


class Deliveries(asyncio.Protocol, asyncio.DatagramProtocol):
    """Hands each delivery to a consumer by a queue that has one place."""

    def __init__(self, loop):
        self.loop = loop
        self.queue = asyncio.Queue(maxsize=1)
        self.order = []
        self.more = []      # called in the next deliveries: something becomes ready meanwhile

    def data_received(self, data):
        self.queue.put_nowait(data)
        self.order.append("delivery")
        self.loop.call_soon(self.order.append, "callback")
        if self.more:
            self.more.pop()()

    def datagram_received(self, data, address):
        self.data_received(data)


async def datagrams(loop, stack, protocol, peers=1):
    """Of the loop's own socket, which no program holds."""
    transport, _ = await loop.create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    fars = [stack(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(peers)]
    for number in range(COUNT):
        far = fars[number % peers]
        far.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    return transport, protocol


async def datagrams_of_many_peers(loop, stack, protocol):
    return await datagrams(loop, stack, protocol, peers=4)


async def datagrams_of_a_given_socket(loop, stack, protocol):
    near = stack(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    near.bind(("127.0.0.1", 0))
    far = stack(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for number in range(COUNT):
        far.sendto(b"%d" % number, near.getsockname())
    return await loop.create_datagram_endpoint(lambda: protocol, sock=near)


async def datagrams_of_a_unix_socket(loop, stack, protocol):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack(far)
    for number in range(COUNT):
        far.send(b"%d" % number)
    return await loop.create_datagram_endpoint(lambda: protocol, sock=near)


async def packets_of_a_pipe(loop, stack, protocol):
    read_end, write_end = os.pipe2(os.O_DIRECT)
    for number in range(COUNT):
        os.write(write_end, b"%d" % number)
    stack(open(write_end, "wb", 0))
    return await loop.connect_read_pipe(lambda: protocol, open(read_end, "rb", 0))


@pytest.mark.known_difference(
    "uvloop", "delivers several datagrams in a turn", only=("datagrams",)
)
@pytest.mark.parametrize(
    "ready",
    [
        datagrams,
        datagrams_of_many_peers,
        datagrams_of_a_given_socket,
        datagrams_of_a_unix_socket,
        packets_of_a_pipe,
    ],
    ids=lambda ready: ready.__name__,
)
async def test_consumer_runs_before_the_next_delivery(loop, ready):
    """R92: each delivery has a turn of its own."""
    files = []

    def keep(file):
        files.append(file)
        return file

    protocol = Deliveries(loop)
    transport, _ = await ready(loop, keep, protocol)
    consumed = [await protocol.queue.get() for _ in range(COUNT)]
    await until(lambda: len(protocol.order) == 2 * COUNT)
    transport.close()
    for file in files:
        file.close()
    assert consumed == [b"%d" % number for number in range(COUNT)]
    assert protocol.order == ["delivery", "callback"] * COUNT


@pytest.mark.known_difference("uvloop", "reads several times in a turn")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_stream_is_read_once_a_turn(loop, kind):
    """R92: what one recv() returns is one delivery, and the next one waits for the next turn."""
    protocol = Deliveries(loop)
    near, far = socket_pair(kind)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    far.setblocking(False)
    sent = far.send(bytes(1 << 21))
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    received = 0
    while received < sent:
        received += len(await protocol.queue.get())
    await until(lambda: len(protocol.order) % 2 == 0)
    transport.close()
    far.close()
    deliveries = len(protocol.order) // 2
    assert protocol.order == ["delivery", "callback"] * deliveries


@pytest.mark.known_difference("uvloop", "reads several times in a turn")
async def test_data_that_comes_during_a_delivery_waits_for_the_next_turn(loop):
    """R92: also if the delivery left data in the socket, so that the transport is still ready."""
    protocol = Deliveries(loop)
    near, far = socket_pair("tcp")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    far.setblocking(False)
    sent = [far.send(bytes(1 << 20))]
    protocol.more = [lambda: sent.append(far.send(b"more"))] * 20
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    received = 0
    while received < sum(sent) or protocol.more:
        received += len(await protocol.queue.get())
    await until(lambda: len(protocol.order) % 2 == 0)
    transport.close()
    far.close()
    assert protocol.order == ["delivery", "callback"] * (len(protocol.order) // 2)


@pytest.mark.known_difference("uvloop", "delivers several datagrams in a turn")
async def test_datagram_that_comes_during_a_delivery_waits_for_the_next_turn(loop):
    """R92: also if earlier ones have been received, and wait for their turns."""
    protocol = Deliveries(loop)
    transport, _ = await loop.create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.connect(transport.get_extra_info("sockname"))
        protocol.more = [lambda: far.send(b"more")] * 10
        for _ in range(COUNT):
            far.send(b"first")
        received = [await protocol.queue.get() for _ in range(COUNT + 10)]
    await until(lambda: len(protocol.order) % 2 == 0)
    transport.close()
    assert received == [b"first"] * COUNT + [b"more"] * 10
    assert protocol.order == ["delivery", "callback"] * (COUNT + 10)
