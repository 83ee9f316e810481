"""Sockets that keep the borders of messages are read to their end, message by message: R94."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest

from tests.support.protocols import Recorder
from tests.support.waiting import turns

PACKETS = getattr(os, "O_DIRECT", None)


class Messages(Recorder):
    def __init__(self, loop):
        super().__init__(loop)
        self.messages = []

    def data_received(self, data):
        self.messages.append(bytes(data))


def packet_pipe():
    """O_DIRECT is the writing end's alone: the reading end does not show it."""
    read_end, write_end = os.pipe2(PACKETS | os.O_NONBLOCK)
    return open(read_end, "rb", 0), open(write_end, "wb", 0)


def pipe_whose_writer_becomes_one_of_packets():
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETFL, PACKETS | os.O_NONBLOCK)
    return open(read_end, "rb", 0), open(write_end, "wb", 0)


def sequenced_packets():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return near, far.makefile("wb", 0)


def datagrams():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return near, far.makefile("wb", 0)


needs_packets = pytest.mark.skipif(PACKETS is None, reason="no packet pipes here")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(packet_pipe, marks=needs_packets),
        pytest.param(pipe_whose_writer_becomes_one_of_packets, marks=needs_packets),
        sequenced_packets,
        datagrams,
    ],
)
@pytest.mark.parametrize("when", ["before", "after", "paused"])
async def test_read_pipe_delivers_every_message_by_itself(loop, make, when):
    """R94: sent before the transport is made, while it reads, or while it pauses."""
    sent = [b"message %d" % i for i in range(5)]
    reader, writer = make()
    protocol = Messages(loop)

    def send():
        for message in sent:
            writer.write(message)

    with writer:
        if when == "before":
            send()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, reader)
        if when == "paused":
            transport.pause_reading()
        if when != "before":
            send()
            await turns()
        transport.resume_reading()
        await protocol.until(lambda: len(protocol.messages) >= len(sent))
        assert protocol.messages == sent
        transport.close()
        await protocol.closed()
