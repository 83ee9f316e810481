"""Datagram transports: what waits to be sent, and a protocol that pauses or ends in a callback."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys

import pytest
from datagrams import Recorder, far_socket, fill, number_of, opened, recvfrom, unix_pair
from recording import turns

PEER_TIMEOUT_S = 10.0
SINCE_3_13 = sys.version_info >= (3, 13)
LOCAL = {"local_addr": ("127.0.0.1", 0)}


# -- flow control -----------------------------------------------------------------------------


def test_what_does_not_fit_waits_and_is_sent_in_order(mioloop_loop, run):
    """R65: buffered datagrams leave when the peer reads, whole and in order."""
    loop = mioloop_loop

    async def main():
        async with unix_pair(loop, Recorder(loop)) as (transport, far):
            count = fill(transport)
            for i in range(count + 1, count + 200):
                transport.sendto(b"%d" % i + bytes(1000))
            for i in range(1, count + 200):
                data, _ = await recvfrom(far)
                assert number_of(data) == i
                assert len(data) == 1000 + len(str(i))
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_buffered_datagrams_count_as_in_this_python(mioloop_loop, run):
    """R65: 8 bytes each from 3.13, which are taken off again when it has left."""
    loop = mioloop_loop

    async def main():
        async with unix_pair(loop, Recorder(loop)) as (transport, far):
            fill(transport)
            before = transport.get_write_buffer_size()
            transport.sendto(bytes(1000))
            assert transport.get_write_buffer_size() - before == (1008 if SINCE_3_13 else 1000)
            while transport.get_write_buffer_size():
                await recvfrom(far)

    run(loop, main())


def test_marks_pause_and_resume_the_protocol(mioloop_loop, run):
    """R52: pause_writing inside sendto() above the high mark, resume_writing at the low one."""
    loop = mioloop_loop
    at_resume = []

    async def main():
        protocol = Recorder(
            loop, resume_writing=lambda p: at_resume.append(p.transport.get_write_buffer_size())
        )
        async with unix_pair(loop, protocol) as (transport, far):
            transport.set_write_buffer_limits(high=20000, low=10000)
            assert transport.get_write_buffer_limits() == (10000, 20000)
            fill(transport)
            while "pause_writing" not in protocol.calls:
                assert transport.get_write_buffer_size() <= 20000
                transport.sendto(bytes(1000))
            assert transport.get_write_buffer_size() > 20000
            while "resume_writing" not in protocol.calls:
                await recvfrom(far)
            assert 0 < at_resume[0] <= 10000
            assert protocol.calls.count("pause_writing") == 1

    run(loop, main())


def test_close_sends_what_waits_first(mioloop_loop, run):
    """R48: close() with datagrams buffered; more may follow until they have left."""
    loop = mioloop_loop

    async def main():
        protocol = Recorder(loop)
        async with unix_pair(loop, protocol) as (transport, far):
            count = fill(transport)
            transport.close()
            transport.sendto(b"last")
            await turns()
            assert not protocol.lost.done()
            got = [(await recvfrom(far))[0] for _ in range(count + 1)]
            assert got[-1] == b"last"
            assert await protocol.closed() is None

    run(loop, main())


def test_abort_drops_what_waits(mioloop_loop, run):
    """R45: abort() with datagrams buffered."""
    loop = mioloop_loop

    async def main():
        protocol = Recorder(loop)
        async with unix_pair(loop, protocol) as (transport, far):
            count = fill(transport)
            transport.abort()
            assert await protocol.closed() is None
            assert transport.get_write_buffer_size() == 0
            for _ in range(count - 1):
                far.recv(65536)
            with pytest.raises(OSError):
                far.send(b"anyone?")

    run(loop, main())


def test_queue_of_a_peer_that_is_full_is_tried_again(mioloop_loop, run, tmp_path):
    """R64: an unconnected Unix socket stays writable while the peer's queue is full."""
    loop = mioloop_loop
    there = str(tmp_path / "there")

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            far.settimeout(PEER_TIMEOUT_S)
            far.bind(there)
            near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            near.setblocking(False)
            async with opened(loop, sock=near) as (transport, protocol):
                sent = 0
                while not transport.get_write_buffer_size():
                    sent += 1
                    transport.sendto(b"%d" % sent, there)
                for i in range(sent + 1, sent + 300):
                    transport.sendto(b"%d" % i, there)
                before = loop.stats()["polls"]
                await asyncio.sleep(0.02)
                assert loop.stats()["polls"] - before < 100  # no busy loop meanwhile
                for i in range(1, sent + 300):
                    assert (await recvfrom(far))[0] == b"%d" % i
                await protocol.until(lambda: not transport.get_write_buffer_size())
                transport.close()
                assert await protocol.closed() is None

    run(loop, main())


# -- contexts, pauses, interrupts -------------------------------------------------------------


def test_read_callbacks_share_one_context(loop, run):
    """R58: datagram_received sees what the last one set."""
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def count(protocol, *_):
        seen.append(variable.get())
        variable.set(variable.get() + 1)

    async def main():
        protocol = Recorder(loop, datagram_received=count)
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            with far_socket() as far:
                for i in range(6):
                    far.sendto(b"x", transport.get_extra_info("sockname"))
                    if i == 2:
                        await protocol.count(3)
                await protocol.count(6)
        assert seen == list(range(6))
        assert variable.get() == 0

    run(loop, main())


def test_pause_in_a_callback_holds_the_rest_of_the_batch(mioloop_loop, run):
    """R53: no further call until resume_reading(), and then nothing is missing."""
    loop = mioloop_loop

    async def main():
        protocol = Recorder(loop, datagram_received=lambda p, *_: p.transport.pause_reading())
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            with far_socket() as far:
                sent = [b"%d" % i for i in range(11)]
                for data in sent:
                    far.sendto(data, transport.get_extra_info("sockname"))
                for i in range(1, 12):
                    assert await protocol.count(i) == sent[:i]
                    await turns(2)
                    assert len(protocol.received) == i
                    assert not transport.is_reading()
                    transport.resume_reading()
                far.sendto(b"later", transport.get_extra_info("sockname"))
                assert (await protocol.count(12))[-1] == b"later"

    run(loop, main())


def test_close_in_a_callback_is_the_last_one(loop, run):
    """R45: datagrams that came with it are not delivered."""

    async def main():
        protocol = Recorder(loop, datagram_received=lambda p, *_: p.transport.close())
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            with far_socket() as far:
                for _ in range(5):
                    far.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.closed()
            assert protocol.calls == ["connection_made", "datagram_received", "connection_lost"]

    run(loop, main())


def test_keyboard_interrupt_loses_no_datagram(mioloop_loop, run):
    """R13: it leaves the loop; the next run goes on where it was."""
    loop = mioloop_loop

    def interrupt(protocol, data, _):
        if data == b"1":
            raise KeyboardInterrupt

    async def make():
        protocol = Recorder(loop, datagram_received=interrupt)
        await loop.create_datagram_endpoint(lambda: protocol, **LOCAL)
        return protocol

    protocol = run(loop, make())
    with far_socket() as far:
        for i in range(7):
            far.sendto(b"%d" % i, protocol.transport.get_extra_info("sockname"))

        async def rest():
            assert await protocol.count(7) == [b"%d" % i for i in range(7)]
            protocol.transport.close()
            await protocol.closed()

        task = loop.create_task(rest())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        run(loop, task)


def test_busy_peer_does_not_starve_the_loop(loop, run):
    """R90: callbacks run between datagrams that never end."""

    def echo_to_itself(protocol, data, addr):
        protocol.transport.sendto(data, addr)

    async def main():
        protocol = Recorder(loop, datagram_received=echo_to_itself)
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            for _ in range(8):
                transport.sendto(b"x", transport.get_extra_info("sockname"))
            for _ in range(20):
                await asyncio.sleep(0)
            await asyncio.sleep(0.005)
            assert protocol.received

    run(loop, main())
