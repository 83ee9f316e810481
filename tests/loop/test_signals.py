"""Signal handlers of the loop, and Ctrl-C: R81, R82, R87."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.support.waiting import run_until

pytestmark = pytest.mark.usefixtures("signal_state_is_restored")


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM", "SIGHUP", "SIGINT", "SIGWINCH"])
def test_handler_is_called_in_the_loop(loop, name):
    """R81: any catchable signal, with its arguments, as a callback of the loop."""
    number = getattr(signal, name)
    calls = []
    loop.add_signal_handler(number, lambda *args: calls.append((args, loop.is_running())), 1, 2)
    loop.call_soon(os.kill, os.getpid(), number)
    run_until(loop, lambda: calls)
    assert calls == [((1, 2), True)]
    loop.remove_signal_handler(number)


@pytest.mark.known_difference("uvloop", "gives False while it does not run")
def test_removal_says_whether_there_was_a_handler(loop):
    """R81: True, then False."""
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


@pytest.mark.known_difference("uvloop", "keeps SIGCHLD for itself")
def test_sigchld_can_be_handled(loop):
    """R81: SIGCHLD too, since children are watched without it."""
    calls = []
    loop.add_signal_handler(signal.SIGCHLD, calls.append, "child")
    child = subprocess.Popen([sys.executable, "-c", ""])
    run_until(loop, lambda: calls)
    child.wait(10)
    loop.remove_signal_handler(signal.SIGCHLD)
    assert "child" in calls


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_uncatchable_signal_is_refused(loop, number):
    """R81: RuntimeError that names it, and the loop goes on."""
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(number, print)
    assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"


@pytest.mark.parametrize(
    ("number", "error"), [(0, ValueError), (1000, ValueError), ("1", TypeError)]
)
def test_number_that_is_no_signal_is_refused(loop, number, error):
    """R81: ValueError or TypeError."""
    with pytest.raises(error):
        loop.add_signal_handler(number, print)
    with pytest.raises(error):
        loop.remove_signal_handler(number)


def test_coroutine_is_refused_as_a_handler(loop):
    """R81: TypeError."""

    async def coroutine_function():
        pass

    with pytest.raises(TypeError):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)


def test_handlers_belong_to_the_main_thread(loop):
    """R81: from another thread RuntimeError or ValueError, as asyncio."""
    errors = []

    def add():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join(10)
    assert len(errors) == 1


def test_second_handler_replaces_the_first(loop):
    """R81: one handler a signal."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "second")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    run_until(loop, lambda: calls)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert calls == ["second"]


def test_exception_of_a_handler_is_reported(loop, reports):
    """R13 holds for signal handlers."""

    def handler():
        raise ValueError("the handler's own")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    run_until(loop, lambda: reports)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert isinstance(reports[0]["exception"], ValueError)


def test_signal_from_another_thread_wakes_an_idle_loop(loop):
    """R87: the poll has no time limit; the signal alone ends it."""
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    sender.start()
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 5
    sender.join(10)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_several_signals_between_two_turns_all_arrive(loop):
    """R87: the wakeup pipe carries one byte a signal."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

    def both():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)

    loop.call_soon(both)
    run_until(loop, lambda: len(calls) == 2)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert sorted(calls) == [1, 2]


def kill_self(number, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)


@pytest.mark.known_difference("asyncio", "writes each failure to stderr", run=False)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("when", ["before the run", "in the run"])
def test_storm_of_signals_is_survived(loop, capfd, when):
    """R87: a full wakeup pipe loses no wakeup and prints nothing."""
    calls = []

    def storm():
        if when == "in the run":
            loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
        kill_self(signal.SIGUSR1, 20_000)

    if when == "before the run":
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.call_soon(storm)
    run_until(loop, lambda: calls)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert capfd.readouterr().err == ""


@pytest.mark.known_difference("asyncio", "loses it, and writes each failure to stderr", run=False)
def test_signal_behind_a_storm_of_other_signals_is_not_lost(loop):
    """R87: the wakeup pipe is full when the one SIGUSR2 comes."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

    def storm():
        kill_self(signal.SIGUSR1, 5_000)
        kill_self(signal.SIGUSR2)

    loop.call_soon(storm)
    run_until(loop, lambda: 2 in calls)
    assert calls.count(2) == 1
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.slow
def test_signal_that_comes_while_the_full_pipe_is_read_is_not_lost(mioloop_loop, tmp_path):
    """R87: another process sends it just when the loop turns to its almost full pipe."""
    loop = mioloop_loop
    calls = []
    shared = tmp_path / "shared"
    shared.write_bytes(bytes(mmap.PAGESIZE))
    code = (
        "import mmap, os, signal, sys\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    shared = mmap.mmap(file.fileno(), 0)\n"
        "parent, seen = os.getppid(), 0\n"
        "shared[0] = 255\n"
        "while os.getppid() == parent and shared[0] != 254:\n"
        "    if shared[0] not in (seen, 255):\n"
        "        seen = shared[0]\n"
        "        for _ in range(shared[1]): pass\n"
        "        os.kill(parent, signal.SIGUSR1)\n"
        "        os.kill(parent, signal.SIGUSR2)\n"
    )
    room = room_of_a_self_pipe()
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)
    with open(shared, "r+b") as file, mmap.mmap(file.fileno(), 0) as shared_bytes:
        child = subprocess.Popen([sys.executable, "-S", "-c", code, shared])

        def burst(number):
            kill_self(signal.SIGUSR1, room - 1 - number % 4)
            shared_bytes[1] = number % 60
            shared_bytes[0] = 1 + number % 250

        try:
            run_until(loop, lambda: shared_bytes[0] == 255)
            for number in range(300):
                calls.clear()
                loop.call_soon(burst, number)
                run_until(loop, lambda: 2 in calls)
        finally:
            shared_bytes[0] = 254
            assert child.wait(10) == 0
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


def room_of_a_self_pipe():
    """How many single bytes it holds."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        for count in itertools.count():
            try:
                near.send(b"x")
            except BlockingIOError:
                return count


def test_signal_that_was_served_is_not_served_again(mioloop_loop):
    """R87: a later storm of other signals must not make a second Ctrl-C out of one."""
    loop = mioloop_loop
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)
    loop.call_soon(kill_self, signal.SIGUSR2)
    run_until(loop, lambda: 2 in calls)
    for _ in range(3):
        served = len(calls)
        loop.call_soon(kill_self, signal.SIGUSR1, 5_000)
        run_until(loop, lambda seen=served: len(calls) > seen)
    assert calls.count(2) == 1
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.known_difference("asyncio", "writes failures to stderr, loses the last", run=False)
@pytest.mark.known_difference("uvloop", "has SIGCHLD for itself", run=False)
@pytest.mark.parametrize("sender", ["process", "thread"])
def test_storm_while_the_loop_serves_connections(loop, sender):
    """R87: thousands of SIGUSR1 and then one SIGUSR2; clients are answered all the while."""
    calls = []
    code = (
        "import os, signal\n"
        f"for _ in range(20_000): os.kill({os.getpid()}, signal.SIGUSR1)\n"
        f"os.kill({os.getpid()}, signal.SIGUSR2)\n"
    )
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    def from_a_thread():
        kill_self(signal.SIGUSR1, 20_000)
        kill_self(signal.SIGUSR2)

    async def main():
        for number in numbers:
            loop.add_signal_handler(number, calls.append, number)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        if sender == "thread":
            storm = loop.run_in_executor(None, from_a_thread)
        else:
            process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code)
            storm = asyncio.ensure_future(process.wait())
        answers = 0
        while not storm.done() or signal.SIGUSR2 not in calls:
            writer.write(b"question")
            assert await reader.readexactly(8) == b"question"
            answers += 1
        assert answers
        if sender == "process":
            assert await storm == 0
            while signal.SIGCHLD not in calls:
                await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        for number in numbers:
            loop.remove_signal_handler(number)

    loop.run_until_complete(asyncio.wait_for(main(), 60))
    assert signal.SIGUSR1 in calls


@pytest.mark.known_difference("uvloop", "has SIGCHLD for itself", run=False)
def test_storm_of_sigchld(loop):
    """R81, R87: a handler that reaps every ended child leaves none of 200 behind."""
    living = set()

    def reap():
        for pid in list(living):
            if os.waitpid(pid, os.WNOHANG)[0]:
                living.remove(pid)

    loop.add_signal_handler(signal.SIGCHLD, reap)
    children = [subprocess.Popen(["/bin/true"]) for _ in range(200)]
    living.update(child.pid for child in children)
    loop.call_soon(reap)  # children that ended before the set was complete
    run_until(loop, lambda: not living, 60)
    loop.remove_signal_handler(signal.SIGCHLD)
    for child in children:
        child.returncode = 0


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_handler_may_leave_the_run(loop, leaving):
    """R13, R81: the loop can run again, and the signals that came with it are served then."""
    calls = []

    def handler():
        raise leaving

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

    def both():
        kill_self(signal.SIGUSR1)
        kill_self(signal.SIGUSR2)

    loop.call_soon(both)
    with pytest.raises(leaving):
        loop.run_forever()
    assert not loop.is_running()
    run_until(loop, lambda: calls)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert calls == [2]


def test_signals_that_come_with_a_ctrl_c_are_served_by_the_next_run(loop):
    """R82, R87: also if KeyboardInterrupt comes while the wakeup pipe is read."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    def both():
        kill_self(signal.SIGUSR1)
        kill_self(signal.SIGINT)

    for _ in range(20):
        calls.clear()
        loop.call_soon(both)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        run_until(loop, lambda: calls)
        assert calls == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_stdlib_hooks_of_the_self_pipe_are_called(mioloop_kind, no_leaked_descriptor):
    """R87: _process_self_data() sees the numbers; reading and writing by hand do no harm."""
    import mioloop

    seen = []

    class Loop(mioloop.EventLoop):
        def _process_self_data(self, data):
            seen.extend(number for number in data if number)
            super()._process_self_data(data)

    loop = Loop(trigger=mioloop_kind.trigger, selector=mioloop_kind.selector)
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.call_soon(kill_self, signal.SIGUSR1)
    run_until(loop, lambda: calls)
    assert seen == [signal.SIGUSR1]

    loop._csock.send(bytes([signal.SIGUSR1]))
    loop._read_from_self()
    loop._read_from_self()
    loop._write_to_self()
    loop._process_self_data(bytes([0, signal.SIGUSR1]))
    run_until(loop, lambda: len(calls) == 3)
    loop.close()
    loop._read_from_self()
    loop._write_to_self()


@pytest.mark.known_difference("asyncio", "the child writes to the parent's pipe", run=False)
@pytest.mark.known_difference("uvloop", "the child writes to the parent's pipe", run=False)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_signal_of_a_forked_child_is_not_the_parent_s(loop):
    """R87, R88: Ctrl-C goes to both processes, and is one for each."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)

    async def main():
        pid = os.fork()
        if pid == 0:
            try:
                kill_self(signal.SIGUSR1)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        kill_self(signal.SIGUSR2)
        while not calls:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), 10))
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert calls == [2]


def test_ctrl_c_ends_an_idle_poll(loop):
    """R82: without any handler of the loop's, KeyboardInterrupt leaves run_forever()."""
    sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    loop.call_soon(sender.start)  # not before the loop runs: the interrupt is for it
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    sender.join(10)
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "again")) == "again"


def test_python_handler_runs_during_an_idle_poll(loop):
    """R82: a signal.signal() handler runs though nothing else wakes the loop."""
    seen = []

    def handler(number, frame):
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        loop.run_forever()
        sender.join(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_ctrl_c_ends_a_busy_loop(loop):
    """R82: also when there is always something to run."""

    def spin():
        loop.call_soon(spin)

    sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    loop.call_soon(sender.start)
    loop.call_soon(spin)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    sender.join(10)


def test_removal_of_the_last_handler_keeps_ctrl_c_working(loop):
    """R87: the loop still wakes up for signals after its handlers are gone."""
    loop.add_signal_handler(signal.SIGUSR1, print)

    async def main():
        loop.remove_signal_handler(signal.SIGUSR1)
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        loop.call_soon(sender.start)  # not in a step of this task: the interrupt would end it
        try:
            await asyncio.sleep(10)
        finally:
            sender.join(10)

    task = loop.create_task(main())
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert time.monotonic() - started < 5
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


@pytest.mark.known_difference("uvloop", "leaves its handlers in place")
def test_close_removes_the_handlers(loop):
    """R81: the signal's old disposition is back."""
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) in (before, signal.SIG_DFL)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_runner_turns_ctrl_c_into_a_cancellation(loop_kind, no_leaked_descriptor):
    """R86: Runner's own SIGINT handler posts to the loop from inside a signal handler."""
    cancelled = []

    async def main():
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=loop_kind.new) as runner:
        runner.run(main())
    assert cancelled == [True]
