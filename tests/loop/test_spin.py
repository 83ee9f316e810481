"""spin=: the loop polls without blocking before it waits, as long as that brings something."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

import pytest

import mioloop

SPIN_S = 0.05


@pytest.fixture(params=["edge-epoll", "level-epoll", "oneshot-epoll", "level-poll"])
def spinning(request):
    trigger, selector = request.param.split("-")
    loop = mioloop.new_event_loop(trigger=trigger, selector=selector, spin=SPIN_S)
    yield loop
    loop.close()


@pytest.mark.parametrize("spin", [-0.001, float("nan"), float("inf"), 2, "fast", True, None])
def test_value_out_of_range_is_refused_by_name(spin):
    with pytest.raises(ValueError, match="spin must be a number of seconds from 0 to 1, not"):
        mioloop.EventLoop(spin=spin)


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_environment_is_checked_as_the_argument_is(monkeypatch, text):
    monkeypatch.setenv("MIOLOOP_SPIN", text)
    with pytest.raises(ValueError, match="number of seconds from 0 to 1"):
        mioloop.new_event_loop()


def test_environment_makes_a_loop_spin(monkeypatch):
    monkeypatch.setenv("MIOLOOP_SPIN", "0.05")
    loop = mioloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert loop.stats()["spins"] > 0
    loop.close()


def test_other_backends_have_no_spin():
    with pytest.raises(ValueError, match="spin=0.1 is an option of backend 'mio'"):
        mioloop.new_event_loop(backend="asyncio", spin=0.1)


def test_loop_does_not_spin_unless_told(mioloop_loop, run):
    run(mioloop_loop, asyncio.sleep(0.01))
    assert mioloop_loop.stats()["spins"] == 0


def test_echo_works_and_is_found_by_spinning(spinning):
    async def main():
        near, far = socket.socketpair()
        with far:
            reader, writer = await asyncio.open_connection(sock=near)
            thread = threading.Thread(target=lambda: [far.sendall(far.recv(1)) for _ in range(200)])
            thread.start()
            for _ in range(200):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            writer.close()

    spinning.run_until_complete(asyncio.wait_for(main(), 20))
    assert spinning.stats()["spins"] > 0


def test_idle_loop_stops_spending(spinning):
    """Each wait without an event halves the time that is spent, down to nothing."""

    async def idle():
        for _ in range(12):
            await asyncio.sleep(2 * SPIN_S)

    spinning.run_until_complete(idle())
    spent = spinning.stats()["spins"]
    spinning.run_until_complete(idle())
    # The small remainder is due to the end of each run, which is an event at once.
    assert spinning.stats()["spins"] - spent < max(spent, 1)


def test_timer_is_not_early_when_the_loop_spins(spinning):
    """R3 holds."""

    async def main():
        for _ in range(20):
            due = spinning.time() + 0.0005
            done = spinning.create_future()
            spinning.call_at(due, done.set_result, None)
            await done
            assert spinning.time() >= due

    spinning.run_until_complete(main())


def test_post_from_a_thread_ends_the_spin(spinning):
    """R86: the thread runs while the loop spins, and wakes it."""

    async def main():
        for _ in range(50):
            done = asyncio.Event()
            thread = threading.Thread(
                target=lambda done=done: spinning.call_soon_threadsafe(done.set)
            )
            thread.start()
            await done.wait()
            thread.join()

    spinning.run_until_complete(asyncio.wait_for(main(), 20))


def test_signal_ends_the_spin(spinning):
    """R82: a handler runs though the loop has nothing else."""

    async def main():
        done = asyncio.Event()
        spinning.add_signal_handler(signal.SIGUSR1, done.set)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        await done.wait()
        timer.join()
        spinning.remove_signal_handler(signal.SIGUSR1)

    spinning.run_until_complete(asyncio.wait_for(main(), 20))
