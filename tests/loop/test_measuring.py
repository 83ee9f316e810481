"""stats(), utilization(), latency() and durations(): the figures of a loop.

No test compares a time with an upper bound: a busy machine makes every time longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
import time

import pytest

import mioloop

WORK_S = 0.03


def work() -> None:
    end = time.monotonic() + WORK_S
    while time.monotonic() < end:
        pass


def times(stats: dict[str, int]) -> tuple[int, int]:
    parts = ("callbacks_ns", "events_ns", "timers_ns", "polls_ns")
    return stats["active_ns"], sum(stats[part] for part in parts)


# -- time ------------------------------------------------------------------------------------------


def test_waiting_is_idle_and_working_is_active(mioloop_loop, run):
    async def main():
        before = mioloop_loop.utilization()
        await asyncio.sleep(WORK_S)
        waited = mioloop_loop.utilization(before)
        assert waited.idle >= 0.9 * WORK_S
        before = mioloop_loop.utilization()
        work()
        worked = mioloop_loop.utilization(before)
        assert worked.active >= WORK_S
        assert worked.idle == 0
        assert worked.utilization == 1
        whole = mioloop_loop.utilization()
        assert whole.utilization == pytest.approx(whole.active / (whole.active + whole.idle))

    run(mioloop_loop, main())


def test_loop_that_does_not_run_is_neither_idle_nor_active(mioloop_loop, run):
    run(mioloop_loop, asyncio.sleep(0))
    before = mioloop_loop.utilization()
    time.sleep(WORK_S)
    assert mioloop_loop.utilization(before) == (0, 0, 0)


def test_since_must_be_a_utilization(mioloop_loop):
    with pytest.raises(TypeError, match="since must be a result of utilization"):
        mioloop_loop.utilization(3.0)


@pytest.mark.parametrize("kind", ["callbacks", "events", "timers"])
def test_work_counts_for_its_kind(mioloop_loop, run, kind):
    near, far = socket.socketpair()
    done = mioloop_loop.create_future()

    def callback():
        mioloop_loop.remove_reader(near)
        work()
        mioloop_loop.call_soon(done.set_result, None)

    async def main():
        await asyncio.sleep(0.001)          # the callbacks below begin after a poll
        if kind == "callbacks":
            mioloop_loop.call_soon(callback)
        elif kind == "events":
            mioloop_loop.add_reader(near, callback)
            far.send(b"x")
        else:
            mioloop_loop.call_later(0.001, callback)
        await done

    with near, far:
        before = mioloop_loop.stats()[f"{kind}_ns"]
        run(mioloop_loop, main())
        assert mioloop_loop.stats()[f"{kind}_ns"] - before >= 0.8 * WORK_S * 1e9


def test_times_of_all_kinds_are_the_active_time(mioloop_loop, run):
    near, far = socket.socketpair()

    async def main():
        for _ in range(200):
            far.send(b"x")
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    with near, far:
        mioloop_loop.add_reader(near, near.recv, 100)
        run(mioloop_loop, main())
        mioloop_loop.remove_reader(near)
    active, parts = times(mioloop_loop.stats())
    assert parts == pytest.approx(active, rel=0.05)


def test_nested_runs_count_once(mioloop_loop, run):
    async def main():
        before = mioloop_loop.utilization()
        began = time.monotonic()
        for _ in range(3):
            mioloop_loop.call_soon(work)
            mioloop_loop._run_once()
        spent = time.monotonic() - began
        since = mioloop_loop.utilization(before)
        assert since.idle + since.active == pytest.approx(spent, rel=0.2)
        assert since.active >= 3 * WORK_S

    run(mioloop_loop, main())


def test_length_of_a_turn_is_its_latency(mioloop_loop, run):
    async def main():
        await asyncio.sleep(0)
        mioloop_loop.latency().turns.reset()
        work()
        await asyncio.sleep(0.001)

    run(mioloop_loop, main())
    turns = mioloop_loop.latency().turns
    assert turns.max >= WORK_S
    assert turns.percentile(100) == turns.max


def test_lateness_of_timers_is_the_time_after_their_deadline(mioloop_loop, run):
    async def main():
        mioloop_loop.call_later(0, int)
        work()
        await asyncio.sleep(0.001)

    run(mioloop_loop, main())
    timers = mioloop_loop.latency().timers
    assert timers.count >= 2
    assert timers.max >= WORK_S


def test_another_thread_sees_that_the_loop_is_blocked(mioloop_loop, run):
    blocked, seen = threading.Event(), threading.Event()
    active = []

    def watch():
        blocked.wait(10)
        before = mioloop_loop.utilization()
        time.sleep(WORK_S)
        active.append(mioloop_loop.utilization(before))
        seen.set()

    async def main():
        thread = threading.Thread(target=watch)
        thread.start()
        blocked.set()
        seen.wait(10)                       # blocks the loop
        thread.join()

    run(mioloop_loop, main())
    assert active[0].active >= WORK_S
    assert active[0].idle == 0


# -- counts ----------------------------------------------------------------------------------------


def traffic(loop) -> tuple[int, int]:
    stats = loop.stats()
    return stats["bytes_in"], stats["bytes_out"]


@pytest.mark.parametrize("connections", [1, 12])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_bytes_of_streams_are_counted_once(mioloop_loop, run, size, connections):
    async def handle(reader, writer):
        writer.write(await reader.readexactly(size))
        await writer.drain()
        writer.close()

    async def ask(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(bytes(size))
        assert len(await reader.readexactly(size)) == size
        writer.close()

    async def main():
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            await asyncio.gather(*(ask(address) for _ in range(connections)))
        assert mioloop_loop.stats()["accepted"] == connections

    run(mioloop_loop, main(), 60)
    assert traffic(mioloop_loop) == (2 * connections * size, 2 * connections * size)


def test_bytes_of_a_buffered_protocol_are_counted(mioloop_loop, run):
    near, far = socket.socketpair()
    received = mioloop_loop.create_future()

    class Receiver(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return bytearray(7)

        def buffer_updated(self, nbytes):
            if mioloop_loop.stats()["bytes_in"] == 100:
                received.set_result(None)

    async def main():
        transport, _ = await mioloop_loop.create_connection(Receiver, sock=near)
        far.send(bytes(100))
        await received
        transport.close()

    with far:
        run(mioloop_loop, main())


def test_bytes_of_datagrams_are_counted(mioloop_loop, run):
    received = mioloop_loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            if data == b"last":
                received.set_result(None)

    async def main():
        near, _ = await mioloop_loop.create_datagram_endpoint(
            Receiver, local_addr=("127.0.0.1", 0)
        )
        address = near.get_extra_info("sockname")
        far, _ = await mioloop_loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=address
        )
        far.sendto(bytes(1000))
        far.sendto(b"last")
        await received
        assert mioloop_loop.stats()["datagrams"] == 2
        near.close()
        far.close()

    run(mioloop_loop, main())
    assert traffic(mioloop_loop) == (1004, 1004)


def test_bytes_of_pipes_and_files_are_counted(mioloop_loop, run):
    async def main():
        read_end, write_end = os.pipe()
        near, far = socket.socketpair()
        reader = asyncio.StreamReader()
        source, _ = await mioloop_loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), open(read_end, "rb", 0)
        )
        sink, _ = await mioloop_loop.connect_write_pipe(
            asyncio.Protocol, open(write_end, "wb", 0)
        )
        sink.write(bytes(500))
        await reader.readexactly(500)
        assert mioloop_loop.stats()["pipes"] == 2
        assert traffic(mioloop_loop) == (500, 500)
        transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, sock=near)
        with tempfile.TemporaryFile() as file, far:
            file.write(bytes(2000))
            file.seek(0)
            await mioloop_loop.sendfile(transport, file)
            assert len(far.recv(4000)) == 2000
        assert traffic(mioloop_loop) == (500, 2500)
        for each in (source, sink, transport):
            each.close()

    run(mioloop_loop, main())


def test_transports_are_counted_while_they_are_open(mioloop_loop, run):
    async def main():
        near, far = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with far:
            transport, _ = await mioloop_loop.create_connection(asyncio.Protocol, sock=near)
            await asyncio.sleep(0)
            before = mioloop_loop.stats()
            assert (before["streams"], before["paused"], before["buffered_bytes"]) == (1, 0, 0)
            transport.pause_reading()
            transport.write(bytes(3_000_000))
            after = mioloop_loop.stats()
            assert after["paused"] == 1
            assert after["buffered_bytes"] == transport.get_write_buffer_size() > 0
            transport.abort()
            await asyncio.sleep(0)
            assert mioloop_loop.stats()["streams"] == 0
            assert mioloop_loop.stats()["buffered_bytes"] == 0

    run(mioloop_loop, main())


def test_connection_is_refused_if_its_protocol_cannot_be_made(mioloop_loop, run):
    def factory():
        raise ValueError("no protocol")

    async def main():
        async with await mioloop_loop.create_server(factory, "127.0.0.1", 0) as server:
            assert mioloop_loop.stats()["listeners"] == 1
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
        stats = mioloop_loop.stats()
        assert (stats["accepted"], stats["refused"], stats["listeners"]) == (1, 1, 0)

    run(mioloop_loop, main())


def test_high_water_mark_of_the_ready_queue_is_kept(mioloop_loop, run):
    async def main():
        for _ in range(100):
            mioloop_loop.call_soon(int)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(mioloop_loop, main())
    assert mioloop_loop.stats()["most_ready"] >= 100
    assert mioloop_loop.stats()["ready"] == 0


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_poll_of_a_tool_outside_of_a_run_counts_for_nothing(mioloop_loop, timeout):
    mioloop_loop._selector.select(timeout)
    assert mioloop_loop.utilization()[:2] == (0.0, 0.0)
    assert mioloop_loop.latency().turns.count == 0


# -- durations() -----------------------------------------------------------------------------


@pytest.fixture(params=["edge-epoll", "level-epoll", "oneshot-epoll", "edge-poll"])
def timed_loop(request):
    trigger, selector = request.param.split("-")
    loop = mioloop.new_event_loop(trigger=trigger, selector=selector, durations=True)
    yield loop
    loop.close()


def test_each_callback_of_the_ready_queue_has_its_duration(timed_loop):
    for _ in range(3):
        timed_loop.call_soon(time.sleep, 0.001)
    cancelled = timed_loop.call_soon(time.sleep, 1)
    cancelled.cancel()
    timed_loop.call_later(0.001, time.sleep, 0.02)
    timed_loop.call_later(0.002, timed_loop.stop)
    timed_loop.run_forever()
    callbacks, events = timed_loop.durations()
    assert (callbacks.count, events.count) == (5, 0)
    assert 0.02 <= callbacks.max < callbacks.sum
    assert callbacks.percentile(50) >= 0.001


def test_each_event_of_a_transport_has_its_duration(timed_loop, run):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.02)
            done.set_result(None)

    async def main():
        near, far = socket.socketpair()
        with far:
            transport, _ = await timed_loop.create_connection(Slow, sock=near)
            timed_loop.durations().events.reset()
            far.send(b"x")
            await done
            transport.abort()

    done = timed_loop.create_future()
    run(timed_loop, main())
    events = timed_loop.durations().events
    assert events.count >= 1            # an edge also tells that the socket is writable
    assert events.max >= 0.02


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_callback_that_raises_has_its_duration(timed_loop, raised):
    def fails():
        raise raised

    timed_loop.set_exception_handler(lambda loop, context: loop.stop())
    timed_loop.call_soon(fails)
    with contextlib.suppress(KeyboardInterrupt):
        timed_loop.run_forever()
    assert timed_loop.durations().callbacks.count == 1


def test_durations_are_measured_in_debug_mode_too(timed_loop, run):
    timed_loop.set_debug(True)
    run(timed_loop, asyncio.sleep(0))
    assert timed_loop.durations().callbacks.count > 0
    timed_loop.set_debug(False)
    timed_loop.durations().callbacks.reset()
    run(timed_loop, asyncio.sleep(0))
    assert timed_loop.durations().callbacks.count > 0


def test_loop_without_the_option_says_how_to_measure_durations(mioloop_loop):
    with pytest.raises(RuntimeError, match="durations=True, or set MIOLOOP_DURATIONS=1"):
        mioloop_loop.durations()


def test_environment_turns_the_durations_on(monkeypatch):
    monkeypatch.setenv("MIOLOOP_DURATIONS", "on")
    with contextlib.closing(mioloop.new_event_loop()) as loop:
        assert loop.durations().callbacks.count == 0


@pytest.mark.parametrize("value", [1, "on", None])
def test_durations_that_are_no_bool_are_refused(value):
    with pytest.raises(ValueError, match=f"durations must be True or False, not {value!r}"):
        mioloop.EventLoop(durations=value)
