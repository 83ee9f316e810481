"""A loop records its callbacks, steps and events, and the program does not see it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref

import pytest

from mioloop.console.recorder import Record


async def yields(count):
    for _ in range(count):
        await asyncio.sleep(0)


def records_of(loop):
    taken, lost = loop._take_records(100_000)
    assert lost == 0
    return [Record._make(each) for each in taken]


def names(records):
    return [each.name if isinstance(each.name, str) else each.name.co_name for each in records]


@pytest.fixture
def recording(mioloop_loop):
    mioloop_loop._record(True)
    yield mioloop_loop
    mioloop_loop._record(False)


def test_each_step_of_a_task_is_recorded_with_its_name(recording):
    async def main():
        await asyncio.create_task(yields(3), name="a name")

    recording.run_until_complete(main())
    steps = [each for each in records_of(recording) if each.detail == "a name"]
    assert names(steps) == ["yields"] * 4
    assert [each.spins for each in steps] == [True, True, True, False]
    assert len({each.task for each in steps}) == 1 and {each.kind for each in steps} == {"step"}


def test_times_are_in_order_and_do_not_overlap(recording):
    async def main():
        await asyncio.gather(yields(20), yields(20))

    recording.run_until_complete(main())
    records = records_of(recording)
    for each in records:
        assert each.ready_ns <= each.began_ns <= each.ended_ns
    for before, after in itertools.pairwise(records):
        assert before.ended_ns <= after.began_ns and before.turn <= after.turn


def test_a_callback_that_was_behind_another_one_was_ready_before_it_ran(recording):
    def block():
        time.sleep(0.02)

    def late():
        pass

    recording.call_soon(lambda: [recording.call_soon(each) for each in (block, late)])
    recording.run_until_complete(yields(3))
    (record,) = [each for each, name in zip(*with_names(recording)) if name == "late"]
    assert record.began_ns - record.ready_ns >= 20_000_000


def with_names(loop):
    records = records_of(loop)
    return records, names(records)


def test_cancelled_handles_do_not_shift_the_times_of_others(recording):
    def block():
        time.sleep(0.02)

    def queue():
        for handle in [recording.call_soon(print) for _ in range(10)]:
            handle.cancel()
        recording.call_soon(block)
        recording.call_soon(lambda: recording.call_soon(early))

    def early():
        pass

    recording.call_soon(queue)
    recording.run_until_complete(yields(4))
    (record,) = [each for each, name in zip(*with_names(recording)) if name == "early"]
    assert record.began_ns - record.ready_ns < 20_000_000


def test_events_of_transports_are_recorded_with_their_bytes(recording):
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(5))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    recording.run_until_complete(main())
    records = records_of(recording)
    events = [each for each in records if each.kind == "event"]
    assert {each.detail for each in events if each.name == "StreamTransport"} == {
        "StreamReaderProtocol"
    }
    assert any(each.bytes_in == 5 for each in events)
    assert sum(each.bytes_in for each in records) == 10     # the first read may be in a callback
    assert sum(each.bytes_out for each in records if each.kind == "step") == 10


def test_a_record_keeps_nothing_of_the_program_alive(recording):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    recording.call_soon(callback)
    del callback
    recording.run_until_complete(yields(2))
    gc.collect()
    assert gone() is None
    assert "Callback" in names(records_of(recording))[0]


def test_the_callback_under_way_is_known_to_another_thread(recording):
    found = []

    def look():
        found.append(recording._under_way())

    def callback():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    recording.call_soon(callback)
    recording.run_until_complete(yields(2))
    ((began_ns, code, detail),) = found
    assert code is callback.__code__ and detail is None and began_ns > 0
    assert recording._under_way() is None


def test_a_full_ring_loses_records_and_counts_them(recording):
    recording.run_until_complete(yields(40_000))
    taken, lost = recording._take_records(1_000_000)
    assert lost > 0 and len(taken) + lost >= 40_000
    assert recording._take_records(10) == ([], 0)


def test_recording_ends_at_once_and_can_begin_again(mioloop_loop):
    async def main():
        mioloop_loop._record(True)
        await yields(3)
        mioloop_loop._record(False)
        await yields(3)
        assert mioloop_loop._take_records(100) == ([], 0)
        mioloop_loop._record(True)
        await yields(3)
        assert len(mioloop_loop._take_records(100)[0]) == 2
        mioloop_loop._record(False)

    mioloop_loop.run_until_complete(main())


def test_another_thread_may_switch_it_at_any_moment(mioloop_loop):
    ended = threading.Event()

    def switch():
        while not ended.is_set():
            mioloop_loop._record(True)
            mioloop_loop._take_records(10)
            mioloop_loop._record(False)

    thread = threading.Thread(target=switch)
    thread.start()
    mioloop_loop.run_until_complete(yields(20_000))
    ended.set()
    thread.join()


def test_an_exception_leaves_the_loop_as_without_a_recording(recording):
    def fail():
        raise KeyboardInterrupt

    recording.call_soon(fail)
    with pytest.raises(KeyboardInterrupt):
        recording.run_until_complete(yields(5))
    assert names(records_of(recording))[0] == "fail"
    recording.run_until_complete(yields(2))
