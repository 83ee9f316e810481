"""Many connections are ready at once: actions of one callback on other connections take effect.

mioloop reads for several connections before it calls the first, and sends for several in one system
call (io_uring(7)). A program must not notice; these promises hold for each loop, as do the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket

import pytest

import mioloop
from mioloop.reactor.reactor import io_uring_problem
from tests.support.connections import reset
from tests.support.crowds import COUNT, crowd, once
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.waiting import turns

AHEAD = 4032            # bytes that are read before their turn

needs_io_uring = pytest.mark.skipif(io_uring_problem() is not None, reason="no io_uring here")


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, AHEAD - 1, AHEAD, AHEAD + 1, 60_000])
async def test_all_are_told_all_that_came(loop, kind, protocol_class, size):
    data = bytes(i % 251 for i in range(size))
    async with crowd(loop, kind, protocol_class) as many:
        for round in range(1, 4):
            many.send(data)
            assert await many.received(round * size) == [round * data] * COUNT


async def test_small_buffers_are_filled_again_and_again(loop, kind):
    def make(loop, **hooks):
        return BufferedRecorder(loop, size=7, **hooks)

    async with crowd(loop, kind, make) as many:
        many.send(bytes(range(100)))
        assert await many.received(100) == [bytes(range(100))] * COUNT


async def test_one_buffer_may_serve_all(loop):
    """Between get_buffer() and buffer_updated() no other protocol is called."""
    shared = bytearray(4096)
    def make(loop, **hooks):
        protocol = BufferedRecorder(loop, **hooks)
        protocol.buffer = shared
        return protocol

    async with crowd(loop, make=make) as many:
        for i, far in enumerate(many.fars):
            far.sendall(b"%6d" % i)
        assert await many.received(6) == [b"%6d" % i for i in range(COUNT)]


async def test_paused_by_another_s_callback_is_told_nothing_until_resumed(
    loop, kind, protocol_class
):
    """R53: and then all of it, though more has come meanwhile."""
    name = "data_received" if protocol_class is Recorder else "buffer_updated"

    def pause(protocol):
        for other in many.others(protocol):
            other.transport.pause_reading()

    hook, called = once(pause)
    async with crowd(loop, kind, protocol_class, **{name: hook}) as many:
        many.send(b"first ")
        await called_is_filled(called)
        await turns()
        assert [bytes(p.data) for p in many.others(called[0])] == [b""] * (COUNT - 1)
        many.send(b"second")
        await turns()
        assert [bytes(p.data) for p in many.others(called[0])] == [b""] * (COUNT - 1)
        for other in many.others(called[0]):
            other.transport.resume_reading()
        assert await many.received(12) == [b"first second"] * COUNT


async def test_data_that_comes_while_a_small_buffer_is_filled_is_delivered(loop, kind):
    """R56: more data arrives while the rest of a read waits for the buffer."""
    more = {}
    def make(loop, **hooks):
        return BufferedRecorder(loop, size=7, **hooks)

    def updated(protocol, size):
        far = more.pop(protocol, None)
        if far is not None:
            far.sendall(b"more")

    async with crowd(loop, kind, make, buffer_updated=updated) as many:
        more.update(zip(many.protocols, many.fars, strict=True))
        many.send(bytes(range(100)))
        assert await many.received(104) == [bytes(range(100)) + b"more"] * COUNT


async def test_pausing_again_with_held_data_loses_nothing_behind_it(loop, kind, protocol_class):
    """R53: paused by another's callback, resumed, and paused by its own at the first bytes."""
    paused = set()
    name = "data_received" if protocol_class is Recorder else "buffer_updated"

    def pause_all(protocol, *args):
        if not paused:
            paused.update(many.others(protocol))
            for other in paused:
                other.transport.pause_reading()
        elif protocol in paused and len(protocol.data) == 6:
            protocol.transport.pause_reading()

    async with crowd(loop, kind, protocol_class, **{name: pause_all}) as many:
        many.send(b"first ")
        await called_is_filled(paused)
        await turns()
        many.send(b"second")
        await turns()
        for protocol in paused:
            protocol.transport.resume_reading()
        for protocol in paused:
            await protocol.received(6)
        await turns()
        for protocol in paused:
            protocol.transport.resume_reading()
        assert await many.received(12) == [b"first second"] * COUNT


async def called_is_filled(called):
    while not called:
        await asyncio.sleep(0)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closed_by_another_s_callback_is_told_nothing_more(loop, kind, protocol_class, end):
    """R45: connection_lost() and nothing else."""
    name = "data_received" if protocol_class is Recorder else "buffer_updated"

    def close(protocol):
        for other in many.others(protocol):
            getattr(other.transport, end)()

    hook, called = once(close)
    async with crowd(loop, kind, protocol_class, **{name: hook}) as many:
        many.send()
        await called_is_filled(called)
        for other in many.others(called[0]):
            assert await other.closed() is None
            assert other.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("successor_class", [Recorder, BufferedRecorder])
async def test_data_goes_to_the_protocol_that_another_s_callback_sets(
    loop, protocol_class, successor_class
):
    name = "data_received" if protocol_class is Recorder else "buffer_updated"
    successors = []

    def replace(protocol):
        for other in many.others(protocol):
            successor = successor_class(loop)
            successors.append(successor)
            other.transport.set_protocol(successor)
            successor.transport = other.transport

    hook, called = once(replace)
    async with crowd(loop, make=protocol_class, **{name: hook}) as many:
        many.send(b"for whoever is there")
        await called_is_filled(called)
        for successor in successors:
            assert await successor.received(20) == b"for whoever is there"
        for other in many.others(called[0]):
            assert other.data == b""
            other.transport.set_protocol(other)


def test_callback_that_raises_ends_its_own_connection_only(loop, run, reports, protocol_class):
    async def main():
        def fail(protocol):
            raise ValueError("mine")

        name = "data_received" if protocol_class is Recorder else "buffer_updated"
        hook, called = once(fail)
        async with crowd(loop, make=protocol_class, **{name: hook}) as many:
            many.send()
            await called_is_filled(called)
            assert isinstance(await called[0].closed(), ValueError)
            for other in many.others(called[0]):
                assert await other.received(7) == b"request"

    run(loop, main())
    assert [type(report["exception"]) for report in reports] == [ValueError]
    reports.clear()


@pytest.mark.known_difference("uvloop", "does not leave the loop", run=False)
def test_interrupt_in_a_callback_loses_no_other_s_data(loop, run, protocol_class):
    """R13: the loop can be run again, and goes on where it was."""

    def interrupt(protocol):
        raise KeyboardInterrupt

    name = "data_received" if protocol_class is Recorder else "buffer_updated"
    hook, called = once(interrupt)
    stack = contextlib.AsyncExitStack()
    many = run(loop, stack.enter_async_context(crowd(loop, make=protocol_class, **{name: hook})))
    loop.call_soon(many.send)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert called

    async def tear_down():
        assert await many.received(7) == [b"request"] * COUNT
        await stack.aclose()

    run(loop, tear_down())


@pytest.mark.known_difference("uvloop", "does not leave the loop", run=False)
@pytest.mark.parametrize("made_by", ["events", "call_soon"])
def test_interrupt_leaves_no_write_behind(loop, run, made_by):
    """R13: data that earlier callbacks wrote has left, though the loop may never run again."""
    told = []

    def answer(protocol, data=None):
        protocol.transport.write(b"answer")
        told.append(protocol)
        if len(told) == 20:
            raise KeyboardInterrupt

    hooks = {"data_received": answer} if made_by == "events" else {}
    stack = contextlib.AsyncExitStack()
    many = run(loop, stack.enter_async_context(crowd(loop, **hooks)))
    loop.call_soon(many.send)
    if made_by == "call_soon":
        for protocol in many.protocols:
            loop.call_soon(answer, protocol)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    for protocol in told:
        assert many.fars[many.protocols.index(protocol)].recv(100) == b"answer"
    run(loop, stack.aclose())


async def test_ends_and_resets_among_data_are_told_to_their_own_protocols(loop, protocol_class):
    async with crowd(loop, make=protocol_class) as many:
        for i, far in enumerate(many.fars):
            if i % 4 != 3:
                far.sendall(b"data")
            if i % 4 == 1:
                far.shutdown(socket.SHUT_WR)
            elif i % 4 == 2:
                far.close()
            elif i % 4 == 3:
                reset(far)
        for i, protocol in enumerate(many.protocols):
            if i % 4 == 0:
                assert await protocol.received(4) == b"data"
                assert not protocol.lost.done()
                continue
            exc = await protocol.closed()
            assert isinstance(exc, ConnectionResetError if i % 4 == 3 else type(None))
            assert protocol.data == (b"" if i % 4 == 3 else b"data")


# -- sending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 40])
@pytest.mark.parametrize("size", [1, 300, 5000])
async def test_all_answers_arrive_whole_and_in_order(loop, kind, parts, size):
    def answer(protocol, data):
        for part in range(parts):
            protocol.transport.write(bytes([part]) * size)

    async with crowd(loop, kind, data_received=answer) as many:
        many.send()
        expected = b"".join(bytes([part]) * size for part in range(parts))
        assert await many.answers(parts * size) == [expected] * COUNT


@pytest.mark.parametrize("end", ["close", "write_eof", "abort"])
async def test_data_written_before_the_end_leaves(loop, kind, end):
    """R48, R59: also if another's callback closes it."""

    def answer(protocol, data):
        protocol.transport.write(b"answer")
        if protocol is many.protocols[-1]:
            for other in many.protocols:
                if other.data or end != "write_eof":    # after which an answer would raise
                    getattr(other.transport, end)()

    async with crowd(loop, kind, data_received=answer) as many:
        many.send()
        answers = await many.answers(0)
        await turns()
        answers = [
            data + rest for data, rest in zip(answers, await many.answers(0), strict=True)
        ]
        # A connection that had not been called yet has not answered.
        assert set(answers) <= {b"answer", b""}
        told = [b"answer" if p.data else b"" for p in many.protocols]
        assert answers == told


async def test_connection_that_is_full_or_gone_does_not_stop_other_connections(loop):
    def answer(protocol, data):
        protocol.transport.write(b"answer")

    async with crowd(loop, data_received=answer, pause_writing=lambda p: None) as many:
        full, gone = many.protocols[10], many.protocols[20]
        while not full.transport.get_write_buffer_size():
            full.transport.write(bytes(1 << 16))
        buffered = full.transport.get_write_buffer_size()
        many.send()
        reset(many.fars[20])
        for i, protocol in enumerate(many.protocols):
            if protocol is not gone:
                assert await protocol.received(7) == b"request"
                if protocol is not full and i != 21:
                    many.fars[i].setblocking(True)
                    assert many.fars[i].recv(100) == b"answer"
        assert full.transport.get_write_buffer_size() == buffered + 6
        await gone.closed()


class Fuse(bytes):
    """Its finalizer is user code, as that of each object may be."""

    def __del__(self):
        self.burn()


async def test_finalizer_of_written_data_may_close_other_connections(loop, kind):
    """R50: at any time; no data written to them before is lost or sent twice."""

    def answer(protocol, data):
        part = Fuse(b"an")
        if told:
            part.burn = told[-1].transport.close
        told.append(protocol)
        protocol.transport.write(part)
        del part
        protocol.transport.writelines([Fuse(b"sw"), b"er"])

    told = []
    Fuse.burn = lambda self: None
    async with crowd(loop, kind, data_received=answer) as many:
        many.send()
        await called_is_filled(told)
        for protocol in many.others(told[-1]):
            await protocol.closed()
        assert set(await many.answers(0)) == {b"answer"}


def test_garbage_that_closes_other_connections_when_it_is_collected(loop, run, kind):
    """The collector may run in the middle of anything, and so may a __del__."""
    threshold = gc.get_threshold()

    class Garbage:
        def __init__(self, transport):
            self.transport, self.itself = transport, self

        def __del__(self):
            self.transport.close()

    async def main():
        def answer(protocol, data):
            for part in (b"an", b"sw", b"er"):
                protocol.transport.write(part)
            Garbage(many.others(protocol)[len(protocol.data) % 60].transport)

        async with crowd(loop, kind, data_received=answer) as many:
            gc.set_threshold(1)
            many.send()
            many.protocols[-1].transport.write(b"")
            await turns()
            assert set(await many.answers(0)) <= {b"answer", b""}

    try:
        run(loop, main())
    finally:
        gc.set_threshold(*threshold)


async def test_resume_writing_that_writes_to_other_connections_keeps_every_order(loop):
    """resume_writing() runs before the results of the other sends are known."""

    def answer(protocol, data):
        protocol.transport.write(b"1")

    def resumed(protocol):
        for other in many.protocols:
            other.transport.write(b"2")
            other.transport.get_write_buffer_size()

    async with crowd(loop, data_received=answer, resume_writing=resumed) as many:
        for protocol in many.protocols:
            protocol.transport.set_write_buffer_limits(high=0)
        many.send()
        for data in await many.answers(1):
            assert data.lstrip(b"2")[:1] == b"1" or data[:1] == b"1"
            assert set(data) <= set(b"12")
            assert data.count(b"1") == 1


# -- the system ----------------------------------------------------------------------------------


def echo(protocol, data):
    protocol.transport.write(data)


@needs_io_uring
@pytest.mark.parametrize("trigger", ["edge", "level", "oneshot"])
def test_several_share_one_call(run, trigger):
    loop = mioloop.new_event_loop(trigger=trigger)

    async def main():
        async with crowd(loop, data_received=echo) as many:
            before = loop.stats()["bursts"]
            many.send()
            await many.answers(7)
            assert loop.stats()["bursts"] > before

    run(loop, main())
    loop.close()


@needs_io_uring
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_sends_without_the_parent_s_io_uring(run):
    """The two processes share the ring: a call of one would send the other's operations."""
    loop = mioloop.new_event_loop()

    async def main():
        def write_to_all(data):
            for protocol in many.protocols:
                protocol.transport.write(data)

        async with crowd(loop, data_received=echo) as many:
            many.send()
            assert await many.answers(7) == [b"request"] * COUNT
            bursts = loop.stats()["bursts"]
            child = os.fork()
            if child == 0:
                signal.alarm(20)        # its default action ends a child that hangs
                try:
                    write_to_all(b"child")
                    loop.call_soon(lambda: None)
                    loop._run_once()
                finally:
                    os._exit(int(loop.stats()["bursts"] != bursts))
            # Requests that came now could reach the child, which reads them by a ring of its own.
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            many.send(b"parent ")
            for answer in await many.answers(12):
                assert sorted((answer.replace(b"child", b""), answer.replace(b"parent ", b""))) == [
                    b"child", b"parent "
                ]
            for _ in range(100):        # a busy machine may bring the requests one by one
                many.send()
                await many.answers(7)
                if loop.stats()["bursts"] > bursts:
                    break
            assert loop.stats()["bursts"] > bursts

    run(loop, main())
    loop.close()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_without_io_uring_there_is_none(run, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("MIOLOOP_IO_URING", "off")
    loop = mioloop.new_event_loop(io_uring=False if how == "argument" else None)

    async def main():
        async with crowd(loop, data_received=echo) as many:
            many.send()
            await many.answers(7)
            assert loop.stats()["bursts"] == 0

    run(loop, main())
    loop.close()


def test_switch_that_is_none_is_refused_by_name(monkeypatch):
    with pytest.raises(ValueError, match="io_uring must be True or False, not 'maybe'"):
        mioloop.EventLoop(io_uring="maybe")
    with pytest.raises(ValueError, match="io_uring=True is an option of backend 'mio'"):
        mioloop.new_event_loop(backend="asyncio", io_uring=True)
    monkeypatch.setenv("MIOLOOP_IO_URING", "maybe")
    with pytest.raises(ValueError, match="MIOLOOP_IO_URING must be one of 1, yes, .*not 'maybe'"):
        mioloop.new_event_loop()
