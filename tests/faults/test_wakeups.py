"""call_soon_threadsafe() from many threads: every post arrives, no wake-up is lost. R86."""

from __future__ import annotations

import threading

import pytest

THREADS = 8


def post_all(loop, count):
    """*count* posts from 8 threads, while the loop parks again and again; how many arrived.

    Each thread posts in bursts of all sizes and waits for the answer to the last one of a burst:
    then all threads may be waiting, the loop is parked, and a lost wake-up is seen at once.
    """
    arrived = 0
    lost = []
    running = THREADS

    def post(thread_index):
        nonlocal running
        answered = threading.Event()
        left, burst = count // THREADS, 1 + thread_index

        def take(last):
            nonlocal arrived
            arrived += 1
            if last:
                answered.set()

        while left and not lost:
            burst = burst * 3 % 1999 + 1
            here = min(burst, left)
            answered.clear()
            for i in range(here):
                loop.call_soon_threadsafe(take, i == here - 1)
            left -= here
            if not answered.wait(30):
                lost.append(thread_index)
        finished()

    lock = threading.Lock()

    def finished():
        nonlocal running
        with lock:
            running -= 1
            if running:
                return
        loop.call_soon_threadsafe(loop.stop)

    threads = [threading.Thread(target=post, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join(30)
    assert not lost, f"threads {lost} waited in vain"
    return arrived


@pytest.mark.slow
def test_no_wake_up_is_lost_in_a_million_posts(mioloop_loop):
    """R86: from 8 threads."""
    assert post_all(mioloop_loop, 1_000_000) == 1_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_wake_up_is_lost_in_ten_million_posts(mioloop_loop):
    """R86: from 8 threads."""
    assert post_all(mioloop_loop, 10_000_000) == 10_000_000
