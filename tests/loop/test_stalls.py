"""stall=: the line that blocks the loop is reported, while it blocks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import mioloop

LIMIT_S = 0.05
BLOCKS_S = 4 * LIMIT_S


@pytest.fixture(params=["edge-epoll", "level-epoll", "oneshot-epoll", "level-poll"])
def watched(request):
    trigger, selector = request.param.split("-")
    loop = mioloop.new_event_loop(trigger=trigger, selector=selector, stall=LIMIT_S)
    yield loop
    loop.close()
    assert "mioloop stall watch" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def stalls(watched):
    """The reports of the loop, in a queue."""
    found = queue.Queue()
    watched.on_stall = found.put
    return found


def reports_in(stalls, function):
    """The reports of the first stall in *function*, until it has ended.

    A busy machine may stop the whole process for longer than the limit. Then there are others.
    """
    while True:
        stall = stalls.get(timeout=10)
        if stall.function == function:
            yield stall
            if stall.ended:
                return


def blocks() -> None:
    time.sleep(BLOCKS_S)


def test_line_that_blocks_is_reported_while_it_blocks(watched, stalls):
    reported = threading.Event()
    watched.on_stall = lambda stall: (stalls.put(stall), reported.set())

    def waits_for_the_report():
        assert reported.wait(10)            # ends only if the report comes meanwhile

    async def inner():
        waits_for_the_report()

    async def outer():
        await asyncio.create_task(inner(), name="inner")

    watched.run_until_complete(asyncio.wait_for(outer(), 20))
    stall = next(stall for stall in iter_queue(stalls) if stall.task == "inner")
    assert not stall.ended
    assert stall.seconds >= LIMIT_S
    assert stall.awaited_by
    assert "waits_for_the_report" in [frame.name for frame in stall.stack]
    assert stall.stack[-1].name == stall.function
    assert stall.file.endswith("threading.py")
    assert str(stall).startswith("the loop has been blocked for")


def test_stall_is_reported_again_and_when_it_has_ended(watched, stalls):
    async def main():
        await asyncio.sleep(0)
        blocks()
        await asyncio.sleep(LIMIT_S)

    watched.run_until_complete(main())
    reports = list(reports_in(stalls, "blocks"))
    assert len(reports) >= 2
    assert reports[-1].seconds >= BLOCKS_S * 0.9
    assert [report.seconds for report in reports] == sorted(report.seconds for report in reports)
    assert reports[0].reason == "callback"


def test_stall_at_the_end_of_a_loop_has_its_last_report(watched, stalls):
    reported = threading.Event()
    watched.on_stall = lambda stall: (stalls.put(stall), reported.set())
    watched.call_soon(reported.wait, 10)
    watched.call_soon(watched.stop)
    watched.run_forever()
    watched.close()
    reports = list(iter_queue(stalls))
    assert not reports[0].ended
    assert reports[-1].ended


@pytest.mark.parametrize("kind", ["soon", "reader", "timer", "protocol"])
def test_every_kind_of_callback_is_watched(watched, stalls, kind):
    near, far = __import__("socket").socketpair()
    near.setblocking(False)
    fd = near.fileno()
    done = watched.create_future()

    def callback(*_):
        blocks()
        watched.call_soon(done.set_result, None)

    class Blocking(asyncio.Protocol):
        data_received = callback

    async def main():
        await asyncio.sleep(0.001)
        if kind == "soon":
            watched.call_soon(callback)
        elif kind == "timer":
            watched.call_later(0.001, callback)
        elif kind == "reader":
            watched.add_reader(near, lambda: (watched.remove_reader(near), callback()))
        else:
            await watched.create_connection(Blocking, sock=near)
        far.send(b"x")
        await done

    with near, far:
        watched.run_until_complete(main())
        stall = next(reports_in(stalls, "blocks"))
        if kind == "protocol":
            assert stall.handle == f"StreamTransport of {Blocking.__qualname__} on descriptor {fd}"
        elif kind == "reader":
            assert stall.handle == f"Watcher on descriptor {fd}"
        else:
            assert stall.handle == "callback()"
        assert f"in blocks(), called by {stall.handle}" in str(stall)


def test_busy_loop_is_reported(watched, stalls):
    reported = threading.Event()

    def on_stall(stall):
        stalls.put(stall)
        if stall.function == "computes":
            reported.set()

    def computes():
        end = time.monotonic() + 20
        while not reported.is_set() and time.monotonic() < end:
            pass

    watched.on_stall = on_stall
    watched.call_soon(computes)
    watched.call_soon(watched.stop)
    watched.run_forever()
    assert reported.is_set()


def test_garbage_collection_is_said_to_be_one(watched, stalls):
    class Slow:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            blocks()

    def collects():
        Slow()
        gc.collect()

    watched.call_soon(collects)
    watched.call_later(BLOCKS_S + 2 * LIMIT_S, watched.stop)
    watched.run_forever()
    while stalls.get(timeout=10).reason != "garbage collection":
        pass


def test_code_that_holds_the_gil_is_reported_when_it_lets_go(watched, stalls):
    def holds_the_gil():
        sum(range(10_000_000))              # C code without a bytecode, and without a release

    async def main():
        await asyncio.sleep(0.001)
        began = time.monotonic()
        while time.monotonic() - began < 4 * LIMIT_S:
            holds_the_gil()
        await asyncio.sleep(4 * LIMIT_S)

    watched.run_until_complete(main())
    assert stalls.get(timeout=10).seconds >= LIMIT_S


def test_report_goes_to_the_logger_and_to_audit_hooks(watched, stalls, caplog):
    with caplog.at_level(logging.WARNING, "mioloop.stall"):
        watched.call_soon(blocks)
        watched.call_later(BLOCKS_S + LIMIT_S, watched.stop)
        watched.run_forever()
        stall = next(reports_in(stalls, "blocks"))
    records = [each for each in caplog.records if each.name == "mioloop.stall"]
    assert any(record.stall is stall for record in records)
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, time, mioloop\n"
         "sys.addaudithook(\n"
         "    lambda name, args: name == 'mioloop.stall' and print(args[1].function))\n"
         "def blocks(): time.sleep(0.5)\n"
         "loop = mioloop.new_event_loop(stall=0.05)\n"
         "loop.call_soon(blocks); loop.call_later(0.6, loop.stop); loop.run_forever()\n"
         "loop.close()\n"],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert "blocks" in done.stdout.splitlines()


def test_failing_on_stall_is_logged_and_the_watch_goes_on(watched, caplog):
    seen = queue.Queue()

    def fails(stall):
        seen.put(stall)
        raise ValueError("on_stall failed")

    watched.on_stall = fails
    with caplog.at_level(logging.WARNING, "mioloop.stall"):
        watched.call_soon(blocks)
        watched.call_later(BLOCKS_S + LIMIT_S, watched.stop)
        watched.run_forever()
        while not seen.get(timeout=10).ended:
            pass
    assert "on_stall failed" in caplog.text


def test_loop_that_waits_is_not_blocked_and_its_watch_sleeps(watched, stalls):
    async def main():
        await asyncio.sleep(0.001)
        used = time.process_time()
        await asyncio.sleep(6 * LIMIT_S)
        return time.process_time() - used

    assert watched.run_until_complete(main()) < 3 * LIMIT_S
    assert stalls.empty()


def test_many_short_callbacks_are_no_stall():
    async def main():
        end = loop.time() + 1.0
        while loop.time() < end:
            await asyncio.sleep(0)

    loop = mioloop.new_event_loop(stall=0.8)    # long, because a busy machine stops the process
    found = queue.Queue()
    loop.on_stall = found.put
    loop.run_until_complete(main())
    loop.close()
    assert found.empty()


def iter_queue(stalls):
    while not stalls.empty():
        yield stalls.get()


FORK = """
import asyncio, os, sys, warnings, mioloop

async def main():
    await asyncio.sleep(0.001)              # the watch has its thread now
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        child = os.fork()
        if child == 0:
            os._exit(0)
    os.waitpid(child, 0)
    print([str(warning.message) for warning in warned])

mioloop.run(main(), trigger=sys.argv[1], stall=0.05)
"""


@pytest.mark.parametrize("trigger", ["edge", "level", "oneshot"])
def test_fork_in_a_watched_loop_brings_no_new_warning(trigger):
    """CPython 3.12 and later warn of a fork in a process with several threads, as pytest's is."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, trigger],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_watch_goes_on_after_a_fork(watched, stalls):
    async def main():
        await asyncio.sleep(0.001)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
            if child == 0:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await asyncio.sleep(0.001)          # the loop starts its watch again
        blocks()
        await asyncio.sleep(LIMIT_S)

    watched.run_until_complete(main())
    assert next(reports_in(stalls, "blocks"))


def test_forked_child_watches_its_loop_too():
    done = subprocess.run(
        [sys.executable, "-c",
         "import os, time, mioloop\n"
         "def blocks(): time.sleep(0.5)\n"
         "loop = mioloop.new_event_loop(stall=0.05)\n"
         "loop.call_soon(loop.stop); loop.run_forever()\n"
         "child = os.fork()\n"
         "if child == 0:\n"
         "    loop.on_stall = lambda stall: print(stall.function, flush=True)\n"
         "    loop.call_soon(blocks); loop.call_later(0.6, loop.stop); loop.run_forever()\n"
         "    loop.close(); os._exit(0)\n"
         "os.waitpid(child, 0); loop.close()\n"],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert "blocks" in done.stdout.splitlines()


def test_two_loops_in_two_threads_are_watched_each():
    def serve(found):
        loop = mioloop.new_event_loop(stall=LIMIT_S)
        loop.on_stall = found.put
        loop.call_soon(blocks)
        loop.call_later(BLOCKS_S + LIMIT_S, loop.stop)
        loop.run_forever()
        loop.close()

    queues = [queue.Queue(), queue.Queue()]
    threads = [threading.Thread(target=serve, args=[found]) for found in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in queues:
        assert next(reports_in(found, "blocks"))


def test_forgotten_loop_is_collected_and_its_thread_ends():
    loop = mioloop.new_event_loop(stall=LIMIT_S)
    loop.call_soon(loop.stop)
    loop.run_forever()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
        gc.collect()
    end = time.monotonic() + 10
    while any(thread.name == "mioloop stall watch" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_keyboard_interrupt_leaves_a_watched_loop(watched):
    watched.call_soon(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        watched.run_forever()


@pytest.mark.parametrize("stall", [-1, 0.0001, 4000, float("nan"), "soon", True, None])
def test_value_out_of_range_is_refused_by_name(stall):
    with pytest.raises(ValueError, match="stall must be 0 or a number of seconds from 0.001 to"):
        mioloop.EventLoop(stall=stall)


def test_environment_starts_the_watch(monkeypatch):
    monkeypatch.setenv("MIOLOOP_STALL", "0.05")
    loop = mioloop.new_event_loop()
    found = queue.Queue()
    loop.on_stall = found.put
    loop.call_soon(blocks)
    loop.call_later(BLOCKS_S + LIMIT_S, loop.stop)
    loop.run_forever()
    loop.close()
    assert next(reports_in(found, "blocks"))


def test_loop_without_the_option_has_no_thread():
    before = threading.active_count()
    loop = mioloop.new_event_loop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert threading.active_count() == before
    assert loop.on_stall is None
    loop.close()
