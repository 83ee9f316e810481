"""Children in every order of events, and how they are watched: R78 to R80. Real children."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import gc
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings

import pytest

from tests.support.waiting import turns

PIPE = asyncio.subprocess.PIPE

# On 3.10 and 3.11 the stdlib's watcher wants to be attached to a loop of the main thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*child_watcher.*:DeprecationWarning")


def python(code):
    return sys.executable, "-S", "-c", code


# Elsewhere vfork() suspends the loop's thread until the child has executed.
EXEC_CAN_BE_LEFT_WAITING = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")

# Ends when its stdin does, and before that answers each line.
CAT = ("/bin/cat",)


def children_left():
    """Children of this process, living (a 0) or dead (their status); the dead are reaped."""
    gc.collect()
    subprocess._cleanup()
    left = []
    with contextlib.suppress(ChildProcessError):
        while not left or left[-1][0]:
            left.append(os.waitpid(-1, os.WNOHANG))
    return left


@pytest.fixture(autouse=True)
def no_child_is_left():
    """No test leaves a child, living or dead."""
    children_left()  # of other modules: uvloop leaves some
    yield
    assert not children_left()


@pytest.fixture(autouse=True)
def loop_is_set(request):
    """The stdlib's child watchers follow the loop that is set, up to 3.11."""
    if "loop" not in request.fixturenames:
        yield
        return
    asyncio.set_event_loop(request.getfixturevalue("loop"))
    yield
    asyncio.set_event_loop(None)


@pytest.fixture
def gate():
    """``wait()`` blocks, in any process, until ``open()``."""
    read_end, write_end = os.pipe()

    class Gate:
        def wait(self):
            os.read(read_end, 1)

        def open(self):
            os.write(write_end, b"x")

    yield Gate()
    os.close(read_end)
    os.close(write_end)


class Recorder(asyncio.SubprocessProtocol):
    """Notes its calls; `raising` names the callbacks that raise."""

    def __init__(self, *raising):
        self.calls = []
        self.raising = raising
        self.lost = asyncio.get_running_loop().create_future()

    def _note(self, name, *args):
        self.calls.append((name, *args))
        if name == "connection_lost":
            self.lost.set_result(None)
        if name in self.raising:
            raise ValueError(name)

    def connection_made(self, transport):
        self._note("connection_made")

    def pipe_data_received(self, fd, data):
        self._note("pipe_data_received", fd, data)

    def pipe_connection_lost(self, fd, exc):
        self._note("pipe_connection_lost", fd, exc)

    def process_exited(self):
        self._note("process_exited")

    def connection_lost(self, exc):
        self._note("connection_lost", exc)


# -- how the end is seen ---------------------------------------------------------------------------


@pytest.fixture(params=["absent", "forbidden", "no descriptor left"])
def no_pidfd(request, monkeypatch):
    """A system without pidfd_open(), one that forbids it, one that has run out."""
    if request.param == "absent":
        monkeypatch.delattr(os, "pidfd_open")
        return
    number = errno.EPERM if request.param == "forbidden" else errno.EMFILE

    def refuse(pid, flags=0):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)


def test_without_pidfd_a_thread_waits(mioloop_loop, run, no_pidfd, caplog):
    """R78: status, output, kill, early close; and a hundred children at once."""
    loop = mioloop_loop

    async def child(i):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {i}")
        return await process.wait()

    async def main():
        assert await asyncio.gather(*(child(i) for i in range(100))) == list(range(100))
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"text") == (b"text", None)
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        transport, protocol = await loop.subprocess_exec(Recorder, *CAT)
        transport.close()
        await asyncio.wait_for(protocol.lost, 10)
        assert transport.get_returncode() == -signal.SIGKILL

    run(loop, main(), 30)
    for thread in threading.enumerate():
        if thread.name.startswith("mioloop-waitpid-"):
            thread.join(10)
    assert not caplog.records


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="macOS has os.waitid() from 3.13 on")
async def test_waiting_thread_leaves_the_status_to_the_loop(mioloop_loop, monkeypatch):
    """R78: until the loop knows the end, the pid is the child's, and may be signalled."""
    monkeypatch.delattr(os, "pidfd_open")
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
    name = f"mioloop-waitpid-{process.pid}"
    (thread,) = [t for t in threading.enumerate() if t.name == name]
    os.kill(process.pid, signal.SIGKILL)
    thread.join(10)  # while the loop can take no notice
    assert not thread.is_alive()
    assert process.returncode is None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)  # or ECHILD
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    process.stdin.close()


def test_waiting_thread_outlives_the_loop(mioloop_kind, no_leaked_descriptor, monkeypatch, caplog):
    """R78: its late report is logged and has no other effect."""
    monkeypatch.delattr(os, "pidfd_open")
    loop = mioloop_kind.new()
    transport, _ = loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, *CAT))
    loop.close()
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("mioloop-waitpid-")]
    transport.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "is closed" in caplog.text


def test_poll_that_takes_no_more_leaves_the_child_to_a_thread(mioloop_loop, run, monkeypatch):
    """R78: ENOSPC of epoll_ctl, as with a low max_user_watches."""
    loop = mioloop_loop

    def refuse(pidfd, callback):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loop._watch_process = refuse

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 9")
        assert await process.wait() == 9

    run(loop, main())


@pytest.mark.known_difference("uvloop", "keeps SIGCHLD for itself", run=False)
def test_sigchld_belongs_to_the_program(loop, run):
    """R78, R81: a handler of the program's own, while children are watched."""
    seen = []

    async def main():
        loop.add_signal_handler(signal.SIGCHLD, seen.append, True)
        for status in range(5):
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {status}")
            assert await process.wait() == status
        while not seen:
            await asyncio.sleep(0.001)
        loop.remove_signal_handler(signal.SIGCHLD)

    run(loop, main())
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


@pytest.mark.parametrize("way", ["waitpid", "handler", "ignored"])
def test_child_that_was_reaped_elsewhere_has_status_255(mioloop_loop, run, caplog, way):
    """R78: 255 and a warning, no hang."""

    def reap_all(number, frame):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        if way == "waitpid":
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
        else:
            process.stdin.close()
        assert await process.wait() == 255

    before = signal.getsignal(signal.SIGCHLD)
    if way != "waitpid":
        signal.signal(signal.SIGCHLD, reap_all if way == "handler" else signal.SIG_IGN)
    try:
        run(mioloop_loop, main())
    finally:
        signal.signal(signal.SIGCHLD, before)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "already read" in record.getMessage()


def test_status_that_popen_took_is_the_status(mioloop_loop, run, caplog):
    """R78: Popen.wait() and poll(), here and in a thread, then the loop: 7, not 255."""

    async def main():
        for way in ("wait", "poll", "thread"):
            transport, protocol = await mioloop_loop.subprocess_exec(
                Recorder, "/bin/sh", "-c", "exit 7"
            )
            popen = transport.get_extra_info("subprocess")
            if way == "thread":
                waiting = mioloop_loop.run_in_executor(None, popen.wait)
            if way == "wait":
                assert popen.wait(10) == 7
            while way == "poll" and popen.poll() is None:
                pass
            await asyncio.wait_for(protocol.lost, 10)
            assert transport.get_returncode() == popen.returncode == 7
            if way == "thread":
                assert await waiting == 7
            transport.close()

    run(mioloop_loop, main())
    assert not caplog.records


@pytest.mark.known_difference("asyncio", "needs another watcher", until=(3, 11), run=False)
@pytest.mark.known_difference("uvloop", "has children in the main thread only", run=False)
def test_children_from_a_loop_in_another_thread(loop_kind, no_leaked_descriptor):
    """R78: a loop that is not in the main thread."""
    results = []

    async def main():
        processes = [
            await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {i}") for i in range(20)
        ]
        return [await process.wait() for process in processes]

    def work():
        loop = loop_kind.new()
        try:
            results.append(loop.run_until_complete(asyncio.wait_for(main(), 20)))
        except BaseException as error:
            results.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(20))] * 3


def test_loop_that_ran_children_can_be_closed_and_another_made(loop_kind, no_leaked_descriptor):
    """R78: three loops one after another, each with a child."""

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/echo", "1", stdout=PIPE)
        assert await process.communicate() == (b"1\n", None)

    for _ in range(3):
        loop = loop_kind.new()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 10))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


# -- child watchers, to 3.13 -----------------------------------------------------------------------


@pytest.fixture
def policy():
    """A policy of its own for the test, and none after it."""
    if not hasattr(asyncio, "AbstractChildWatcher"):
        pytest.skip("child watchers are gone in 3.14")
    import mioloop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = mioloop.EventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        yield policy
        if policy._watcher is not None:
            asyncio.set_child_watcher(None)
        asyncio.set_event_loop_policy(None)


async def status_seven():
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 7")
    return await process.wait()


@pytest.mark.parametrize(
    "name", ["ThreadedChildWatcher", "SafeChildWatcher", "FastChildWatcher", "PidfdChildWatcher"]
)
def test_watcher_of_the_program_is_honoured(policy, mioloop_loop, run, name):
    """R78: it is asked about each child, where asyncio would ask it."""
    watcher_class = getattr(asyncio, name)
    asked = []

    class Watcher(watcher_class):
        def add_child_handler(self, pid, callback, *args):
            asked.append(pid)
            super().add_child_handler(pid, callback, *args)

    watcher = Watcher()
    watcher.attach_loop(mioloop_loop)
    asyncio.set_child_watcher(watcher)
    assert asyncio.get_child_watcher() is watcher
    assert run(mioloop_loop, status_seven()) == 7
    assert len(asked) == 1
    asyncio.set_child_watcher(None)


def test_watcher_of_a_policy_s_own_getter_is_honoured(policy, mioloop_loop, run, monkeypatch):
    """R78: a policy that overrides get_child_watcher()."""
    asked = []

    class Watcher(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid, callback, *args):
            asked.append(pid)
            super().add_child_handler(pid, callback, *args)

    monkeypatch.setattr(type(policy), "get_child_watcher", lambda self: Watcher(), raising=False)
    assert run(mioloop_loop, status_seven()) == 7
    assert len(asked) == 1


def test_inactive_watcher_of_the_program_is_refused(policy, mioloop_loop, run):
    """R78: asyncio's RuntimeError, before a child is started."""

    class Watcher(asyncio.ThreadedChildWatcher):
        def is_active(self):
            return False

    asyncio.set_child_watcher(Watcher())
    with pytest.raises(RuntimeError, match="not activated"):
        run(mioloop_loop, status_seven())


def test_default_needs_no_watcher(policy, mioloop_loop, run):
    """R78: none is made, no thread is started; and one that was only asked for does no harm."""
    assert run(mioloop_loop, status_seven()) == 7
    assert policy._watcher is None
    assert isinstance(asyncio.get_child_watcher(), asyncio.AbstractChildWatcher)
    assert run(mioloop_loop, status_seven()) == 7


# -- preexec_fn ------------------------------------------------------------------------------------


async def test_preexec_function_runs_in_the_child(loop):
    """R80: after the fork, before the program."""
    process = await asyncio.create_subprocess_exec(
        *python("import os; print(os.environ.get('X'), os.getpgrp() == os.getpid())"),
        preexec_fn=os.setpgrp,
        stdout=PIPE,
    )
    out, _ = await process.communicate()
    assert out == b"None True\n"


@pytest.mark.known_difference("asyncio", "blocks for ever", run=False)
@pytest.mark.known_difference("uvloop", "blocks for ever", run=False)
async def test_preexec_function_does_not_block_the_loop(loop, gate):
    """R80: the functions of the children wait for an action of the loop."""
    starting = [
        asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *CAT, preexec_fn=gate.wait, stdin=subprocess.DEVNULL, stdout=PIPE
            )
        )
        for _ in range(3)
    ]
    await turns()
    assert not any(task.done() for task in starting)
    gc.collect()  # the loop keeps a reference to the waiting calls
    for _ in starting:
        gate.open()
    for process in await asyncio.gather(*starting):
        assert await process.communicate() == (b"", None)
        assert process.returncode == 0


@pytest.mark.known_difference("asyncio", "needs another watcher", until=(3, 11), run=False)
@pytest.mark.known_difference("uvloop", "has children in the main thread only", run=False)
def test_preexec_function_is_called_in_the_thread_of_the_loop(loop_kind, no_leaked_descriptor):
    """R80: its thread, its thread locals; in a loop of any thread."""
    local = threading.local()
    results = []

    async def main():
        process = await asyncio.create_subprocess_exec(
            *CAT,
            preexec_fn=lambda: os.write(1, local.name),
            stdin=subprocess.DEVNULL,
            stdout=PIPE,
        )
        return await process.communicate()

    def work():
        local.name = b"the loop's"
        loop = loop_kind.new()
        results.append(loop.run_until_complete(asyncio.wait_for(main(), 10)))
        loop.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside other threads, 3.12
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    assert results == [(b"the loop's", None)]


async def test_child_may_ask_to_die_with_its_parent(loop):
    """R80: PR_SET_PDEATHSIG counts the forking thread as the parent; it must not end first."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    pr_set_pdeathsig = 1
    process = await asyncio.create_subprocess_exec(
        *CAT,
        preexec_fn=lambda: prctl(pr_set_pdeathsig, signal.SIGKILL),
        stdin=PIPE,
        stdout=PIPE,
    )
    for i in range(3):
        process.stdin.write(b"%d\n" % i)
        assert await process.stdout.readline() == b"%d\n" % i
        await loop.run_in_executor(None, gc.collect)
    process.stdin.close()
    assert await process.wait() == 0


def fail():
    raise ZeroDivisionError


def exit_quietly():
    os._exit(3)


@pytest.mark.known_difference("uvloop", "leaves a zombie behind", run=False)
async def test_errors_around_preexec_function_are_popen_s(loop, tmp_path):
    """R77, R80: its own exception, a program that is not there, a wrong directory, an early end."""
    with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn"):
        await asyncio.create_subprocess_exec(*CAT, preexec_fn=fail, stdin=PIPE, stdout=PIPE)
    with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn"):
        await asyncio.create_subprocess_exec(*CAT, preexec_fn="not a function")
    for keywords in ({}, {"executable": "/no/other"}):
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec(
                "/no/such", preexec_fn=int, stdin=PIPE, **keywords
            )
        assert caught.value.filename == keywords.get("executable", "/no/such")
    with pytest.raises(PermissionError) as caught:
        await asyncio.create_subprocess_exec(tmp_path, preexec_fn=int)
    assert caught.value.filename == tmp_path
    with pytest.raises(FileNotFoundError) as caught:
        await asyncio.create_subprocess_exec(*CAT, cwd="/no/such/directory", preexec_fn=int)
    assert caught.value.filename == "/no/such/directory"
    process = await asyncio.create_subprocess_exec(
        *CAT, preexec_fn=exit_quietly, stdin=PIPE, stdout=PIPE
    )
    assert await process.stdout.read() == b""
    assert await process.wait() == 3
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.close()
        await process.stdin.wait_closed()


# -- exec() that takes its time --------------------------------------------------------------------


needs_clone = pytest.mark.skipif(
    not EXEC_CAN_BE_LEFT_WAITING, reason="vfork() is all there is on this machine"
)


class SlowProgram:
    """A copy of cat that cannot be executed until `release()`: a lease makes its opening wait."""

    def __init__(self, path):
        self.path = path
        shutil.copy("/bin/cat", path)
        self._fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)  # not SIGIO, which would end us
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            os.close(self._fd)
            pytest.skip("no lease on files here")

    def release(self):
        if self._fd >= 0:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(self._fd)
            self._fd = -1


@pytest.fixture
def slow_program(tmp_path):
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("needs leases")
    program = SlowProgram(tmp_path / "program")
    yield program
    program.release()


async def echoes(loop, count):
    """Round trips over a socket, each answered by a transport of the loop."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    left, right = socket.socketpair()
    echo, _ = await loop.create_connection(Echo, sock=left)
    reader, writer = await asyncio.open_connection(sock=right)
    for i in range(count):
        writer.write(b"%8d" % i)
        assert await reader.readexactly(8) == b"%8d" % i
    writer.close()
    echo.close()
    await turns()


WAYS = {
    "plain": {},
    "pipes": {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE},
    "preexec_fn": {"preexec_fn": os.setpgrp},
    "no close_fds": {"close_fds": False},
    "new session": {"start_new_session": True, "umask": 0o77, "cwd": "/"},
    "group": {"group": os.getegid()},
}
HOLDS_THE_LOOP_UP = (
    pytest.mark.known_difference("asyncio", "waits for exec()", run=False),
    pytest.mark.known_difference("uvloop", "waits for exec()", run=False),
)


def with_differences(test):
    for mark in HOLDS_THE_LOOP_UP:
        test = mark(test)
    return test


@with_differences
@needs_clone
@pytest.mark.parametrize("way", WAYS)
async def test_loop_goes_on_while_a_program_is_not_yet_executed(loop, slow_program, way):
    """R80: a hundred echoes go round, then the program is let go and runs."""
    keywords = {"stdin": subprocess.DEVNULL, **WAYS[way]}
    starting = loop.create_task(
        asyncio.create_subprocess_exec(slow_program.path, "/dev/null", **keywords)
    )
    await echoes(loop, 100)
    gc.collect()
    assert not starting.done()
    slow_program.release()
    process = await starting
    await process.communicate()
    assert process.returncode == 0


@with_differences
@needs_clone
async def test_connection_that_is_closed_beside_a_slow_exec_is_closed(loop, slow_program):
    """R80: the child that waits holds no copy of it open; its peer sees the end at once."""
    left, right = socket.socketpair()
    right.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=left)
    starting = loop.create_task(asyncio.create_subprocess_exec(slow_program.path, "/dev/null"))
    await echoes(loop, 1)
    writer.close()
    assert await asyncio.wait_for(loop.sock_recv(right, 1), 5) == b""
    right.close()
    assert not starting.done()
    slow_program.release()
    assert await (await starting).wait() == 0


@with_differences
@needs_clone
@pytest.mark.parametrize("way", WAYS)
async def test_start_that_is_cancelled_before_exec_leaves_no_child(loop, slow_program, way):
    """R80: killed and reaped; descriptors and zombies are counted by fixtures."""
    task = loop.create_task(asyncio.create_subprocess_exec(slow_program.path, **WAYS[way]))
    await echoes(loop, 3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()


@needs_clone
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
def test_loop_closed_before_exec(mioloop_kind, no_leaked_descriptor, slow_program, way, caplog):
    """R80: the child is killed once its transport is collected."""
    loop = mioloop_kind.new()

    async def main():
        starting.append(
            loop.create_task(
                loop.subprocess_exec(Recorder, os.fspath(slow_program.path), **WAYS[way])
            )
        )
        await echoes(loop, 3)
        assert not starting[0].done()

    starting = []
    loop.run_until_complete(main())
    loop.close()
    starting.clear()
    gc.collect()
    assert {record.getMessage().split("\n")[0] for record in caplog.records} == {
        "Task was destroyed but it is pending!"
    }
    caplog.clear()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass


@needs_clone
def test_signals_are_the_program_s_while_a_child_has_not_executed(mioloop_loop, run, slow_program):
    """R80: a signal to such a child ends it, and no handler of the loop's runs for it."""
    seen = []

    async def main():
        mioloop_loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        transports = []
        task = mioloop_loop.create_task(
            mioloop_loop.subprocess_exec(Recorder, slow_program.path, stdin=None, stdout=None)
        )
        await echoes(mioloop_loop, 3)
        (pid,) = children_of_this_process()
        os.kill(pid, signal.SIGUSR1)
        transport, protocol = await task
        transports.append(transport)
        while transport.get_returncode() is None:
            await asyncio.sleep(0.001)
        assert transport.get_returncode() == -signal.SIGUSR1
        mioloop_loop.remove_signal_handler(signal.SIGUSR1)
        transport.close()

    run(mioloop_loop, main())
    assert not seen


def children_of_this_process():
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as listed:
        return [int(pid) for pid in listed.read().split()]


@pytest.mark.parametrize("low", [(0,), (0, 1), (0, 1, 2)], ids=str)
def test_pipe_of_a_start_is_no_standard_stream(mioloop_kind, low):
    """R80: in a process that has closed some; the child's are as Popen leaves them."""
    code = f"""
import asyncio, os
out = os.dup(1)
import mioloop
loop = mioloop.new_event_loop(**{mioloop_kind.options!r})
for fd in {low!r}:
    os.close(fd)
async def main():
    keywords = dict(pass_fds=(out,), preexec_fn=preexec_fn)
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f"ls /proc/self/fd >&{{out}}", **keywords))
    while not opened:
        await asyncio.sleep(0)
    assert min(opened) > 2, opened
    assert not os.get_inheritable(opened[0])
    assert await (await starting).wait() == 0
opened = []
from mioloop.loop import children
class Start(children.UnawaitedStart):
    def popen(self, **keywords):
        process = super().popen(**keywords)
        opened.append(self.report_fd)
        return process
children.UnawaitedStart = Start
for preexec_fn in (None, int):
    opened.clear()
    loop.run_until_complete(main())
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, timeout=60)
    assert (done.stderr, done.returncode) == (b"", 0)


@pytest.mark.parametrize(
    "change", ["replaced", "renamed", "another fork", "not here", "a function"])
def test_popen_that_differs_is_used_and_waited_for(mioloop_loop, run, monkeypatch, change):
    """R80: if the stdlib is not as the loop expects, children start and fail as always."""
    from mioloop.loop import children

    popen = subprocess.Popen
    if change == "replaced":
        execute = popen._execute_child
        monkeypatch.setattr(
            popen, "_execute_child", lambda self, *args, **kw: execute(self, *args, **kw)
        )
    elif change == "renamed":
        monkeypatch.setattr(children, "_FORK_NAMES", {"another_name"})
    elif change == "another fork":
        monkeypatch.setattr(children, "_ARGUMENT_COUNTS", {})
    elif change == "not here":
        monkeypatch.setattr(children, "spawn", lambda *args: None)
    else:
        monkeypatch.setattr(subprocess, "Popen", lambda *args, **kw: popen(*args, **kw))

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"text") == (b"text", None)
        process = await asyncio.create_subprocess_exec(
            *CAT, preexec_fn=os.setpgrp, stdin=subprocess.DEVNULL
        )
        assert await process.wait() == 0
        with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn"):
            await asyncio.create_subprocess_exec(*CAT, preexec_fn=fail)
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such")

    run(mioloop_loop, main())


def of_popen(**keywords):
    """The error of Popen, as (type, arguments, filename)."""
    with pytest.raises(Exception) as caught:
        subprocess.Popen(**keywords).wait()
    return describe(caught.value)


def describe(error):
    return type(error), error.args, getattr(error, "filename", None)


@pytest.mark.known_difference("uvloop", "spawns by itself")
async def test_errors_of_a_start_are_popen_s(loop, tmp_path):
    """R77, R80: type, arguments and filename, whichever step failed."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    not_a_program = tmp_path / "not a program"
    not_a_program.write_text("text")
    not_a_program.chmod(0o700)
    cases = [
        {"args": ["/no/such"]},
        {"args": ["no-such-program-on-the-path"]},
        {"args": ["argv-zero"], "executable": "/no/such"},
        {"args": [tmp_path]},
        {"args": [tmp_path], "cwd": "/"},
        {"args": [tmp_path], "stdin": 1},
        {"args": [tmp_path], "close_fds": False},
        {"args": [tmp_path], "pass_fds": (1,)},
        {"args": [tmp_path], "restore_signals": False},
        {"args": [tmp_path], "stdin": PIPE, "stdout": PIPE, "stderr": subprocess.DEVNULL},
        {"args": [tmp_path], "umask": 7},
        {"args": [tmp_path], "start_new_session": True},
        {"args": ["x"], "executable": tmp_path},
        {"args": [script]},
        {"args": [not_a_program]},
        {"args": [b"/etc/passwd"]},
        {"args": ["/bin/cat"], "cwd": "/no/such"},
        {"args": ["/bin/cat"], "cwd": tmp_path / "no such"},
        {"args": ["/no/such"], "cwd": "/no/such directory"},
        {"args": ["/no/such"], "env": {"PATH": ""}},
        {"args": ["cat"], "env": {"PATH": "/no/such:/etc/passwd"}},
        {"args": ["/bin/cat"], "env": {"A=B": ""}},
        {"args": ["/bin/cat"], "env": {"A": "\0"}},
        {"args": ["/bin/cat", "\0"]},
        {"args": ["/bin/cat"], "cwd": "\0"},
        {"args": ["/bin/cat"], "cwd": 5},
        {"args": ["/bin/cat"], "pass_fds": (999,)},
        {"args": ["/bin/cat"], "pass_fds": (-1,)},
        {"args": ["/bin/cat"], "umask": 1 << 80},
        {"args": ["/bin/cat", "x" * 3_000_000]},
    ]
    if sys.version_info >= (3, 11):
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 21})
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 21, "cwd": "/"})
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 80})
    for keywords in cases:
        expected = of_popen(**keywords)
        args = keywords.pop("args")
        with pytest.raises(Exception) as caught:
            await asyncio.create_subprocess_exec(*args, **keywords)
        assert describe(caught.value) == expected, (args, keywords)


STATE = """
import os, signal, sys
print(
    [int(fd) for fd in os.listdir("/proc/self/fd")][:-1],
    [os.readlink("/proc/self/fd/%d" % fd) for fd in range(3)],
    [line for line in open("/proc/self/status") if line.startswith(("Umask", "Groups"))],
    [
        # Without libc's own two, which its posix_spawn() leaves ignored.
        (name, hex(int(value, 16) & ~(3 << 31)))
        for name, _, value in (line.partition("\t") for line in open("/proc/self/status"))
        if name in ("SigPnd:", "SigBlk:", "SigIgn:", "SigCgt:")
    ],
    os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getcwd(),
    sorted(os.environ.items()), sys.argv[1:], file=open(os.environ["OUT"], "w")
)
"""


@pytest.mark.known_difference("uvloop", "spawns by itself")
def test_child_is_in_the_state_in_which_popen_starts_it(loop, run, tmp_path):
    """R77: descriptors, signals, umask, session, directory, environment; with each keyword."""
    listener = os.open("/dev/null", os.O_RDONLY)
    inherited = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    log = open(tmp_path / "log", "wb")
    cases = [
        {},
        {"close_fds": False},
        {"pass_fds": (listener,)},
        {"pass_fds": (listener, inherited)},
        {"restore_signals": False},
        {"start_new_session": True},
        {"umask": 0o027},
        {"cwd": tmp_path},
        {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT},
        {"stdin": listener, "stdout": inherited, "stderr": subprocess.DEVNULL},
        {"stdin": 0, "stdout": 1, "stderr": 2},
        {"stdin": 2, "stdout": 0, "stderr": 1},
        {"stdin": 1, "stdout": 2, "stderr": 0},
    ]
    if sys.version_info >= (3, 11):
        cases.append({"process_group": 0})
    out = tmp_path / "out"
    environment = {"OUT": os.fspath(out), "LC_ALL": "C", "NAME": "v\u00e4lue"}
    args = (*python(STATE), "one", "", "tw\u00f6")

    async def main():
        for keywords in cases:
            subprocess.Popen(args, env=environment, **keywords).wait()
            expected = out.read_text()
            process = await asyncio.create_subprocess_exec(*args, env=environment, **keywords)
            assert await process.wait() == 0
            assert out.read_text() == expected, keywords
        os.environ["OUT"] = os.fspath(out)
        try:
            subprocess.Popen(args).wait()
            expected = out.read_text()
            process = await asyncio.create_subprocess_exec(*args)
            assert await process.wait() == 0
            assert out.read_text() == expected
        finally:
            del os.environ["OUT"]

    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
    try:
        run(loop, main(), 60)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTIN})
        signal.signal(signal.SIGUSR2, before)
        log.close()
        os.close(listener)
        os.close(inherited)


@pytest.mark.time_limit(30)
async def test_environment_may_change_while_children_start(loop):
    """R77: each child has the variables of the moment at which it was started."""
    processes = []
    for i in range(50):
        os.environ["MIOLOOP_TEST"] = str(i) * 500
        processes.append(
            loop.create_task(
                asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", "echo $MIOLOOP_TEST", stdout=PIPE
                )
            )
        )
        await asyncio.sleep(0)
    del os.environ["MIOLOOP_TEST"]
    for i, task in enumerate(processes):
        out, _ = await (await task).communicate()
        assert out == str(i).encode() * 500 + b"\n"


async def test_popen_object_of_a_child_is_a_popen(loop):
    """R77: of the class itself, without attributes of the loop's."""
    transport, protocol = await loop.subprocess_exec(Recorder, "/bin/sh", "-c", "exit 3")
    popen = transport.get_extra_info("subprocess")
    if "uvloop" not in type(loop).__module__:
        assert type(popen) is subprocess.Popen
        with subprocess.Popen(["/bin/true"]) as other:
            assert vars(popen).keys() == vars(other).keys()
    await asyncio.wait_for(protocol.lost, 10)
    transport.close()


# -- starts that are given up ----------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(6))
@pytest.mark.parametrize("preexec_fn", [None, os.setpgrp], ids=["", "preexec_fn"])
def test_cancelled_start_leaves_no_child(loop, run, turn, preexec_fn):
    """R78: whenever the cancellation comes; descriptors and zombies are counted by fixtures."""

    async def main():
        task = loop.create_task(
            asyncio.create_subprocess_exec(
                *CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=preexec_fn
            )
        )
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            pass
        else:  # it was quicker
            process.kill()
            await process.communicate()
        await turns()

    run(loop, main())
    if "uvloop" in type(loop).__module__:
        run(loop, asyncio.sleep(0.1))


@pytest.mark.known_difference("asyncio", "blocks for ever", run=False)
@pytest.mark.known_difference("uvloop", "blocks for ever", run=False)
async def test_start_that_is_cancelled_in_preexec_function_leaves_no_child(loop, gate):
    """R80: the child is killed where it waits."""
    task = loop.create_task(
        asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE, preexec_fn=gate.wait)
    )
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()


def test_pipe_that_cannot_be_connected_fails_the_start(mioloop_loop, run):
    """R78: the error, no child, no descriptor, no hang (+: asyncio hangs from 3.11)."""
    loop = mioloop_loop

    async def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loop.connect_read_pipe = refuse

    async def main():
        with pytest.raises(OSError, match="No space"):
            await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await turns()

    run(loop, main())


# -- nasty orders ----------------------------------------------------------------------------------


async def test_child_that_ends_before_its_pipes_are_connected(mioloop_loop, monkeypatch):
    """R78: Popen returns only when the child is a zombie; every byte and call still comes."""
    popen_class = subprocess.Popen

    class Slow(popen_class):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    transport, protocol = await mioloop_loop.subprocess_exec(
        Recorder, "/bin/sh", "-c", "echo out; echo err >&2; exit 4"
    )
    await asyncio.wait_for(protocol.lost, 10)
    assert transport.get_returncode() == 4
    assert protocol.calls[0] == ("connection_made",)
    assert protocol.calls[-1] == ("connection_lost", None)
    assert ("pipe_data_received", 1, b"out\n") in protocol.calls
    assert ("pipe_data_received", 2, b"err\n") in protocol.calls
    assert protocol.calls.count(("process_exited",)) == 1


async def test_transport_closed_early_kills_and_reaps(loop):
    """R78: close() twice; then nothing but the end is heard."""
    transport, protocol = await loop.subprocess_exec(Recorder, *CAT)
    transport.close()
    transport.close()
    await asyncio.wait_for(protocol.lost, 10)
    assert transport.get_returncode() == -signal.SIGKILL
    assert protocol.calls[-1] == ("connection_lost", None)
    assert protocol.calls.count(("process_exited",)) == 1


def test_killed_pid_is_never_another_process(mioloop_loop, run, monkeypatch):
    """R78: no signal once the child is reaped, though a grandchild keeps its stdout open."""
    killed = []
    holder_read, holder_write = os.pipe()

    async def main():
        transport, protocol = await mioloop_loop.subprocess_exec(
            Recorder,
            "/bin/sh",
            "-c",
            "exec 3<&0; cat <&3 & exit 3",
            stdin=holder_read,
            stderr=None,
        )
        while ("process_exited",) not in protocol.calls:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
        transport.kill()
        transport.terminate()
        transport.send_signal(signal.SIGUSR1)
        monkeypatch.undo()
        os.close(holder_write)
        await asyncio.wait_for(protocol.lost, 10)
        assert transport.get_returncode() == 3
        with pytest.raises(ProcessLookupError):
            transport.kill()
        transport.close()

    try:
        run(mioloop_loop, main())
    finally:
        os.close(holder_read)
    assert killed == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "connection_made",
            marks=pytest.mark.known_difference("uvloop", "raises it at the caller", run=False),
        ),
        "pipe_data_received",
        "pipe_connection_lost",
        "process_exited",
        "connection_lost",
    ],
)
def test_protocol_that_raises_is_reported_and_the_rest_goes_on(loop, run, reports, name):
    """R13: one report a call, and every other call comes."""

    async def main():
        transport, protocol = await loop.subprocess_exec(
            lambda: Recorder(name), "/bin/sh", "-c", "echo out"
        )
        transport.get_pipe_transport(0).close()
        await asyncio.wait_for(protocol.lost, 10)
        await turns()
        assert {call[0] for call in protocol.calls} == {
            "connection_made",
            "pipe_data_received",
            "pipe_connection_lost",
            "process_exited",
            "connection_lost",
        }
        transport.close()

    run(loop, main())
    assert reports
    assert {str(report["exception"]) for report in reports} == {name}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("streams", [PIPE, None], ids=["pipes", "no pipes"])
@pytest.mark.parametrize("way", ["closed", "dropped"])
def test_loop_closed_before_its_child(mioloop_kind, no_leaked_descriptor, streams, way):
    """R78: the transport's end kills the child, in silence (+: asyncio raises from close())."""
    loop = mioloop_kind.new()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(
            asyncio.SubprocessProtocol, "/bin/sleep", "60", stdin=streams, stdout=streams
        )
    )
    popen = transport.get_extra_info("subprocess")
    loop.close()
    if way == "closed":
        transport.close()
        transport.close()
    del transport
    gc.collect()
    assert popen.wait(10) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_forked_process_does_not_touch_the_child(mioloop_loop, run):
    """R89: it closes and forgets inherited descriptors; the child belongs to the parent."""
    holder = [mioloop_loop]

    async def main():
        transport, protocol = await mioloop_loop.subprocess_exec(Recorder, *CAT)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio._set_running_loop(None)
                transport.close()
                del transport, protocol
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        transport.get_pipe_transport(0).write(b"alive")
        while ("pipe_data_received", 1, b"alive") not in protocol.calls:
            await asyncio.sleep(0.001)
        transport.get_pipe_transport(0).close()
        await asyncio.wait_for(protocol.lost, 10)
        assert transport.get_returncode() == 0
        transport.close()

    run(holder[0], main())


def test_interrupt_during_a_start_leaves_the_loop_usable(mioloop_loop, run, gate):
    """R13, R80: KeyboardInterrupt while preexec_fn runs; the start goes on in the next run."""
    loop = mioloop_loop
    task = loop.create_task(
        asyncio.create_subprocess_exec(*CAT, preexec_fn=gate.wait, stdin=subprocess.DEVNULL)
    )

    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(loop.call_soon, interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    gate.open()

    async def main():
        process = await task
        assert await process.wait() == 0

    run(loop, main())


def test_pidfd_is_closed_if_waitpid_raises(mioloop_loop, run, monkeypatch):
    """R78: the exception handler gets the error of waitpid(), and the pidfd is closed."""

    def pidfds():
        links = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
        return links.count("anon_inode:[pidfd]")

    reported = mioloop_loop.create_future()
    mioloop_loop.set_exception_handler(lambda loop, context: reported.set_result(context))

    def refuse(pid, options):
        raise OSError("no status")

    async def main():
        before = pidfds()
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        with monkeypatch.context() as patched:
            patched.setattr(os, "waitpid", refuse)
            process.stdin.close()
            assert str((await reported)["exception"]) == "no status"
        os.waitpid(process.pid, 0)
        process._transport._process_exited(0)
        assert await process.wait() == 0
        assert pidfds() == before

    run(mioloop_loop, main())
