"""Datagram transports: datagrams that wait to be sent; protocols that pause or end in callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import sys

import pytest

from tests.support.datagrams import (
    DatagramRecorder,
    far_socket,
    fill,
    number_of,
    opened,
    recvfrom,
    unix_pair,
)
from tests.support.waiting import turns

PEER_TIMEOUT_S = 10.0
SINCE_3_13 = sys.version_info >= (3, 13)
LOCAL = {"local_addr": ("127.0.0.1", 0)}


# -- flow control -----------------------------------------------------------------------------


async def test_datagrams_that_do_not_fit_wait_and_are_sent_in_order(mioloop_loop):
    """R65: buffered datagrams leave when the peer reads, whole and in order."""
    loop = mioloop_loop
    async with unix_pair(loop, DatagramRecorder(loop)) as (transport, far):
        count = fill(transport)
        for i in range(count + 1, count + 200):
            transport.sendto(b"%d" % i + bytes(1000))
        for i in range(1, count + 200):
            data, _ = await recvfrom(far)
            assert number_of(data) == i
            assert len(data) == 1000 + len(str(i))
        assert transport.get_write_buffer_size() == 0


async def test_buffered_datagrams_count_as_in_this_python(mioloop_loop):
    """R65: 8 bytes each from 3.13, which are taken off again when it has left."""
    loop = mioloop_loop
    async with unix_pair(loop, DatagramRecorder(loop)) as (transport, far):
        fill(transport)
        before = transport.get_write_buffer_size()
        transport.sendto(bytes(1000))
        assert transport.get_write_buffer_size() - before == (1008 if SINCE_3_13 else 1000)
        while transport.get_write_buffer_size():
            await recvfrom(far)


async def test_marks_pause_and_resume_the_protocol(mioloop_loop):
    """R52: pause_writing inside sendto() above the high mark, resume_writing at the low one."""
    loop = mioloop_loop
    at_resume = []
    protocol = DatagramRecorder(
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


async def test_close_sends_waiting_datagrams_first(mioloop_loop):
    """R48: close() with datagrams buffered; more may follow until they have left."""
    loop = mioloop_loop
    protocol = DatagramRecorder(loop)
    async with unix_pair(loop, protocol) as (transport, far):
        count = fill(transport)
        transport.close()
        transport.sendto(b"last")
        await turns()
        assert not protocol.lost.done()
        got = [(await recvfrom(far))[0] for _ in range(count + 1)]
        assert got[-1] == b"last"
        assert await protocol.closed() is None


async def test_abort_drops_waiting_datagrams(mioloop_loop):
    """R45: abort() with datagrams buffered."""
    loop = mioloop_loop
    protocol = DatagramRecorder(loop)
    async with unix_pair(loop, protocol) as (transport, far):
        count = fill(transport)
        transport.abort()
        assert await protocol.closed() is None
        assert transport.get_write_buffer_size() == 0
        for _ in range(count - 1):
            far.recv(65536)
        with pytest.raises(OSError):
            far.send(b"anyone?")


async def test_queue_of_a_peer_that_is_full_is_tried_again(mioloop_loop, tmp_path):
    """R64: an unconnected Unix socket stays writable while the peer's queue is full."""
    loop = mioloop_loop
    there = str(tmp_path / "there")
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


# -- contexts, pauses, interrupts -------------------------------------------------------------


async def test_read_callbacks_share_one_context(loop):
    """R58: datagram_received() sees the context variables that the previous call set."""
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def count(protocol, *_):
        seen.append(variable.get())
        variable.set(variable.get() + 1)

    protocol = DatagramRecorder(loop, datagram_received=count)
    async with opened(loop, protocol, **LOCAL) as (transport, _):
        with far_socket() as far:
            for i in range(6):
                far.sendto(b"x", transport.get_extra_info("sockname"))
                if i == 2:
                    await protocol.count(3)
            await protocol.count(6)
    assert seen == list(range(6))
    assert variable.get() == 0


async def test_pause_in_a_callback_holds_the_rest_of_the_batch(mioloop_loop):
    """R53: no further call until resume_reading(), and then nothing is missing."""
    loop = mioloop_loop
    protocol = DatagramRecorder(loop, datagram_received=lambda p, *_: p.transport.pause_reading())
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


async def test_close_in_a_callback_is_the_last_one(loop):
    """R45: datagrams that came with it are not delivered."""
    protocol = DatagramRecorder(loop, datagram_received=lambda p, *_: p.transport.close())
    async with opened(loop, protocol, **LOCAL) as (transport, _):
        with far_socket() as far:
            for _ in range(5):
                far.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.closed()
        assert protocol.calls == ["connection_made", "datagram_received", "connection_lost"]


def test_keyboard_interrupt_loses_no_datagram(mioloop_loop, run):
    """R13: it leaves the loop; the next run goes on where it was."""
    loop = mioloop_loop

    def interrupt(protocol, data, _):
        if data == b"1":
            raise KeyboardInterrupt

    async def make():
        protocol = DatagramRecorder(loop, datagram_received=interrupt)
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


async def test_busy_peer_does_not_starve_the_loop(loop):
    """R90: callbacks run between datagrams that never end."""

    def echo_to_itself(protocol, data, addr):
        protocol.transport.sendto(data, addr)

    protocol = DatagramRecorder(loop, datagram_received=echo_to_itself)
    async with opened(loop, protocol, **LOCAL) as (transport, _):
        for _ in range(8):
            transport.sendto(b"x", transport.get_extra_info("sockname"))
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        assert protocol.received


# -- answers to several datagrams ---------------------------------------------------------------


def answers_of(far):
    """The datagrams that arrived at a far end, in order."""
    far.setblocking(False)
    found = []
    while True:
        try:
            found.append(far.recv(65536))
        except BlockingIOError:
            return found


def ask(fars, near, count):
    for i in range(count):
        for number, far in enumerate(fars):
            far.sendto(b"%d from %d" % (i, number), near)


async def test_answers_go_to_their_addresses_in_order(loop):
    """R62: also if several datagrams are there at once, and each has several answers."""

    def answer(protocol, data, address):
        for i in range(3):
            protocol.transport.sendto(b"%d: " % i + data, address)

    protocol = DatagramRecorder(loop, datagram_received=answer)
    with contextlib.ExitStack() as stack:
        fars = [stack.enter_context(far_socket()) for _ in range(5)]
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            ask(fars, transport.get_extra_info("sockname"), 6)
            await protocol.count(30)
            await turns(2)
            for number, far in enumerate(fars):
                assert answers_of(far) == [
                    b"%d: %d from %d" % (i, question, number)
                    for question in range(6) for i in range(3)
                ]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_answers_before_the_end_leave(loop, end):
    """R48, R59: datagrams that a callback sent before close() or abort(), and earlier ones."""

    def answer(protocol, data, address):
        protocol.transport.sendto(data, address)
        if data == b"2 from 0":
            getattr(protocol.transport, end)()

    protocol = DatagramRecorder(loop, datagram_received=answer)
    with far_socket() as far:
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            ask([far], transport.get_extra_info("sockname"), 4)
            assert await protocol.closed() is None
            assert answers_of(far) == [b"%d from 0" % i for i in range(3)]


async def test_answer_that_cannot_be_sent_is_reported_and_stops_no_other(loop):
    """R63: EMSGSIZE; the transport stays open."""

    def answer(protocol, data, address):
        protocol.transport.sendto(bytes(100_000) if b"1 from" in data else data, address)

    protocol = DatagramRecorder(loop, datagram_received=answer)
    with far_socket() as far:
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            ask([far], transport.get_extra_info("sockname"), 4)
            await protocol.count(4)
            await protocol.until(lambda: protocol.errors)
            await turns(2)
            assert answers_of(far) == [b"%d from 0" % i for i in (0, 2, 3)]
            assert [type(error) for error in protocol.errors] == [OSError]
            assert transport.get_write_buffer_size() == 0


async def test_size_of_the_buffer_is_zero_once_the_system_has_all(loop):
    """R65: get_write_buffer_size() in a callback includes waiting datagrams."""
    sizes = []
    def answer(protocol, data, address):
        protocol.transport.sendto(data, address)
        sizes.append(protocol.transport.get_write_buffer_size())

    protocol = DatagramRecorder(loop, datagram_received=answer)
    with far_socket() as far:
        async with opened(loop, protocol, **LOCAL) as (transport, _):
            transport.set_write_buffer_limits(high=0)
            ask([far], transport.get_extra_info("sockname"), 4)
            await protocol.count(4)
            assert sizes == [0] * 4
            assert "pause_writing" not in protocol.calls


def test_garbage_that_sends_when_it_is_collected(loop, run):
    """The collector may run in the middle of anything, and so may a __del__."""
    threshold = gc.get_threshold()

    class Garbage:
        def __init__(self, transport, address):
            self.transport, self.address, self.itself = transport, address, self

        def __del__(self):
            self.transport.sendto(b"garbage", self.address)

    async def main():
        def answer(protocol, data, address):
            Garbage(protocol.transport, other.getsockname())
            protocol.transport.sendto(data, address)

        protocol = DatagramRecorder(loop, datagram_received=answer)
        with far_socket() as far, far_socket() as other:
            async with opened(loop, protocol, **LOCAL) as (transport, _):
                gc.set_threshold(1)
                ask([far], transport.get_extra_info("sockname"), 12)
                await protocol.count(12)
                gc.set_threshold(*threshold)
                gc.collect()
                await turns(2)
                assert answers_of(far) == [b"%d from 0" % i for i in range(12)]
                assert answers_of(other) == [b"garbage"] * 12

    try:
        run(loop, main())
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.known_difference("uvloop", "does not leave the loop", run=False)
def test_interrupt_leaves_no_answer_behind(loop, run):
    """R13: datagrams that earlier callbacks sent have left."""

    def answer(protocol, data, address):
        protocol.transport.sendto(data, address)
        if data == b"1 from 0":
            raise KeyboardInterrupt

    stack = contextlib.AsyncExitStack()
    protocol = DatagramRecorder(loop, datagram_received=answer)
    transport, _ = run(loop, stack.enter_async_context(opened(loop, protocol, **LOCAL)))
    with far_socket() as far:
        loop.call_soon(ask, [far], transport.get_extra_info("sockname"), 4)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert answers_of(far) == [b"0 from 0", b"1 from 0"]
        run(loop, protocol.count(4))
        run(loop, stack.aclose())
