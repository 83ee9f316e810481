"""Threads, the executor and names: R83, R84, R86, R88."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


def test_callback_from_a_thread_wakes_the_loop(loop):
    """R86: an idle poll ends at once."""
    took = []

    def post():
        posted = time.perf_counter()

        def arrived():
            took.append(time.perf_counter() - posted)
            loop.stop()

        loop.call_soon_threadsafe(arrived)

    timer = threading.Timer(0.05, post)
    timer.start()
    loop.run_forever()
    timer.join(10)
    assert took[0] < 1


def test_callbacks_of_one_thread_keep_their_order(loop):
    """R1, R86: first in, first out, for each thread."""
    received = {i: [] for i in range(4)}
    running = len(received)

    def finished():
        nonlocal running
        running -= 1
        if not running:
            loop.stop()

    def post(i):
        for n in range(2000):
            loop.call_soon_threadsafe(received[i].append, n)
        loop.call_soon_threadsafe(finished)

    threads = [threading.Thread(target=post, args=(i,)) for i in received]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join(10)
    assert all(values == list(range(2000)) for values in received.values())


def test_posts_of_many_threads_lose_no_wakeup(loop):
    """R86: each post is answered before the next, so a lost wakeup would hang."""
    rounds, threads_count = 400, 8
    served = 0
    done = threading.Barrier(threads_count + 1)

    def serve(event):
        nonlocal served
        served += 1
        event.set()

    lost = []

    def post():
        for _ in range(rounds):
            event = threading.Event()
            loop.call_soon_threadsafe(serve, event)
            if not event.wait(10):
                lost.append(True)
                break
        done.wait(30)

    threads = [threading.Thread(target=post) for _ in range(threads_count)]
    for thread in threads:
        thread.start()

    def finish():
        done.wait(30)
        loop.call_soon_threadsafe(loop.stop)

    finisher = threading.Thread(target=finish)
    finisher.start()
    loop.run_forever()
    for thread in [*threads, finisher]:
        thread.join(10)
    assert not lost
    assert served == rounds * threads_count


def test_a_hundred_thousand_posts_all_arrive(loop):
    """R86: from 8 threads, while the loop is busy with its own."""
    total, count = 8 * 12_500, 0
    ticks = 0

    def arrived():
        nonlocal count
        count += 1
        if count == total:
            loop.stop()

    def tick():
        nonlocal ticks
        ticks += 1
        if count < total:
            loop.call_later(0.001, tick)

    def post():
        for _ in range(total // 8):
            loop.call_soon_threadsafe(arrived)

    threads = [threading.Thread(target=post) for _ in range(8)]
    loop.call_soon(tick)
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join(10)
    assert count == total and ticks
    loop.run_until_complete(asyncio.sleep(0.003))


def test_post_from_a_signal_handler_on_the_loop_s_own_thread(loop):
    """R86: no lock that the interrupted code may hold."""
    received, sent = [], 0

    def handler(number, frame):
        nonlocal sent
        sent += 1
        post(sent)                          # as a value: the next signal may interrupt us

    def post(number):
        loop.call_soon_threadsafe(received.append, number)

    async def main():
        give_up = loop.time() + 10
        while sent < 50 and loop.time() < give_up:
            loop.call_soon_threadsafe(int)
            await asyncio.sleep(0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        await asyncio.sleep(0.01)

    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
        loop.run_until_complete(main())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert sorted(received) == list(range(1, sent + 1))


def test_post_to_a_loop_that_does_not_run_is_kept(loop):
    """R86: it runs when the loop does."""
    received = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(received.append, 1))
    thread.start()
    thread.join(10)
    assert received == []
    loop.run_until_complete(asyncio.sleep(0.001))
    assert received == [1]


def test_post_while_a_program_s_own_clock_is_read_is_not_missed(mioloop_kind):
    """R86: time() of a subclass lets other threads run just before the loop waits."""
    import mioloop

    class Loop(mioloop.EventLoop):
        poster = None

        def time(self):
            poster, self.poster = self.poster, None
            if poster is not None:
                poster.start()
                poster.join(10)
            return super().time()

    def arm():
        loop.poster = threading.Thread(target=loop.call_soon_threadsafe, args=(arrived,))

    def arrived():
        received.append(1)
        loop.stop()

    received = []
    loop = Loop(trigger=mioloop_kind.trigger, selector=mioloop_kind.selector)
    try:
        timer = loop.call_later(5, loop.stop)
        loop.call_soon(arm)
        loop.run_forever()
        assert loop.time() < timer.when()
    finally:
        loop.close()
    assert received


def test_post_to_a_closed_loop_raises(loop):
    """R20: from a thread as well."""
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)


def test_loop_can_be_closed_while_threads_post(loop_kind):
    """R86: a post either arrives or raises, also in the middle of a wake-up."""
    for _ in range(30):
        loop = loop_kind.new()
        started = threading.Barrier(5)
        refused = []

        def post(loop=loop, started=started, refused=refused):
            started.wait(10)
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as exc:
                refused.append(str(exc))

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait(10)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        loop.close()
        for thread in threads:
            thread.join(10)
        assert len(refused) == 4


def test_threadsafe_handle_can_be_cancelled(loop):
    """R12, R86: from the posting thread, before the loop runs it."""
    received = []
    handle = loop.call_soon_threadsafe(received.append, 1)
    handle.cancel()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert received == []


since_3_14 = pytest.mark.skipif(sys.version_info < (3, 14), reason="waits from 3.14 on")


@since_3_14
@pytest.mark.known_difference("uvloop", "its handles do not wait", since=(3, 14))
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_other_threads_wait_for_a_running_callback(loop, method):
    """R86: when cancel() or cancelled() returns, the callback does not run any more."""
    asking = threading.Barrier(4)
    ended = []
    seen = []

    def callback():
        asking.wait(10)
        time.sleep(0.05)
        ended.append(True)
        loop.stop()

    def ask():
        asking.wait(10)
        getattr(handle, method)()
        seen.append(bool(ended))

    handle = loop.call_soon_threadsafe(callback)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join(10)
    assert seen == [True] * 3
    assert handle.cancelled() == (method == "cancel")


def test_callback_may_cancel_its_own_handle(loop, reports):
    """R86: no thread waits for itself; an exception of the callback is reported as usual."""

    def callback():
        handle.cancel()
        loop.stop()
        raise ValueError("after all")

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    assert handle.cancelled()
    (report,) = reports
    assert isinstance(report["exception"], ValueError)
    reports.clear()


def test_thread_that_waits_for_a_callback_is_released_when_it_fails(loop):
    """R86: also if the exception leaves the loop."""
    asking = threading.Barrier(2)
    ended = []

    def callback():
        asking.wait(10)
        time.sleep(0.05)
        raise KeyboardInterrupt

    def ask():
        asking.wait(10)
        handle.cancel()
        ended.append(True)

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join(10)
    assert ended


def test_coroutine_from_a_thread(loop):
    """R86: asyncio.run_coroutine_threadsafe, result and exception."""

    async def double(x):
        await asyncio.sleep(0)
        if x is None:
            raise ValueError("nothing to double")
        return x * 2

    def work():
        future = asyncio.run_coroutine_threadsafe(double(21), loop)
        assert future.result(10) == 42
        with pytest.raises(ValueError, match="nothing to double"):
            asyncio.run_coroutine_threadsafe(double(None), loop).result(10)
        return "worked"

    async def main():
        return await loop.run_in_executor(None, work)

    assert loop.run_until_complete(main()) == "worked"


def test_loop_made_here_runs_there(loop):
    """R88: one thread makes it, another runs it, a third stops it."""
    results = []

    def run():
        asyncio.set_event_loop(loop)
        results.append(loop.run_until_complete(asyncio.sleep(0.001, "ran")))
        loop.run_forever()
        results.append(threading.current_thread().name)
        asyncio.set_event_loop(None)

    thread = threading.Thread(target=run, name="runner")
    thread.start()
    give_up = time.monotonic() + 10
    while not results and time.monotonic() < give_up:
        loop.call_soon_threadsafe(int)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()
    assert results == ["ran", "runner"]
    assert loop.run_until_complete(asyncio.sleep(0, "back")) == "back"


def test_a_loop_in_each_of_several_threads(loop_kind, no_leaked_descriptor):
    """R88: loops share only process-wide objects."""
    failures = []

    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(4))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping")
            assert await reader.read() == b"ping"
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    def work():
        loop = loop_kind.new()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 20))
        except BaseException as error:
            failures.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_call_from_the_wrong_thread_is_refused_in_debug(loop):
    """R85: 'Non-thread-safe operation ...', only in debug."""
    errors = []

    def work():
        for method in (lambda: loop.call_soon(int), lambda: loop.call_later(0, int)):
            try:
                method()
            except RuntimeError as error:
                errors.append(str(error))

    async def main():
        await loop.run_in_executor(None, work)

    loop.set_debug(True)
    loop.run_until_complete(main())
    assert len(errors) == 2
    assert all("Non-thread-safe operation" in error for error in errors)


def test_executor_runs_functions(loop):
    """R84: default executor, own executor, exceptions."""

    async def main():
        assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 7, 0)
        with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
            name = await loop.run_in_executor(executor, lambda: threading.current_thread().name)
        assert name.startswith("own")

    loop.run_until_complete(main())


@pytest.mark.known_difference("uvloop", "names them `uvloop_N`")
def test_threads_of_the_default_executor_are_named(loop):
    """R84: `asyncio_N`."""

    async def main():
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert loop.run_until_complete(main()).startswith("asyncio_")


@pytest.mark.known_difference("uvloop", "takes any executor")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
def test_default_executor_is_type_checked(loop):
    """R84: TypeError for an object that is no ThreadPoolExecutor."""
    with pytest.raises(TypeError):
        loop.set_default_executor(object())


def test_many_executor_jobs_finish(loop):
    """R84, R86: a thousand results wake the loop."""

    async def main():
        return await asyncio.gather(*(loop.run_in_executor(None, pow, i, 2) for i in range(1000)))

    assert loop.run_until_complete(main()) == [i * i for i in range(1000)]


def test_shutdown_of_the_default_executor(loop):
    """R84: afterwards run_in_executor raises."""

    async def main():
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            await loop.run_in_executor(None, int)

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no timeout before 3.12")
@pytest.mark.skipif(sys.version_info[:2] == (3, 12) and sys.version_info < (3, 12, 2),
                    reason="3.12.1 awaits the threads before its timeout counts")
@pytest.mark.known_difference("uvloop", "takes no timeout")
@pytest.mark.filterwarnings("ignore:The executor did not finishing joining")
def test_shutdown_of_the_default_executor_has_a_timeout(loop):
    """R84: a thread that does not end is warned about, and left to itself."""
    release = threading.Event()

    async def main():
        job = loop.run_in_executor(None, release.wait, 20)
        with pytest.warns(RuntimeWarning, match="within 0.01 seconds"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        assert await job

    try:
        loop.run_until_complete(asyncio.wait_for(main(), 10))
    finally:
        release.set()


@pytest.mark.known_difference("uvloop", "resolves by libuv")
def test_names_are_resolved_by_the_socket_module(loop, monkeypatch):
    """R83: socket.getaddrinfo, looked up per call, in the default executor."""
    threads = []

    def fake(host, port, family=0, type=0, proto=0, flags=0):
        threads.append(threading.current_thread())
        return [(socket.AF_INET, type, proto, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", fake)

    async def main():
        return await loop.getaddrinfo("no.such.name.invalid", 80, type=socket.SOCK_STREAM)

    (result,) = loop.run_until_complete(main())
    assert result[4] == ("127.0.0.1", 80)
    assert threads[0] is not threading.main_thread()


def outcome_of(call, *args, **keywords):
    """The result, or the type of the error."""
    try:
        return call(*args, **keywords)
    except OSError as error:
        return type(error)


@pytest.mark.known_difference("uvloop", "resolves by libuv", only=("%",))
@pytest.mark.parametrize(
    "host", ["fe80::1%lo", "fe80::1%1", "::ffff:127.0.0.1", "127.1", "0x7f.1", "127.0.0.1 ", "1"]
)
@pytest.mark.parametrize("port", [80, "80", None])
def test_odd_literals_resolve_as_libc_does(loop, host, port):
    """R83: a short cut for literal addresses must have no visible effect; '%' goes to libc."""
    keywords = {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}
    expected = outcome_of(socket.getaddrinfo, host, port, **keywords)
    coroutine = loop.getaddrinfo(host, port, **keywords)
    assert outcome_of(loop.run_until_complete, coroutine) == expected


def test_literal_addresses_resolve(loop):
    """R83: as libc does."""

    async def main():
        for host, port in (("127.0.0.1", 80), ("::1", 80), ("127.0.0.1", "80")):
            expected = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            assert await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM) == expected
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("256.256.256.256", 80, flags=socket.AI_NUMERICHOST)
        host, port = await loop.getnameinfo(
            ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        )
        assert (host, port) == ("127.0.0.1", "80")

    loop.run_until_complete(main())
