"""Children whose exec() takes its time: R80. Real children."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.support.children import PIPE, REAL_CHILDREN, Recorder
from tests.support.waiting import turns

pytestmark = REAL_CHILDREN

# Elsewhere vfork() suspends the loop's thread until the child has executed.
EXEC_CAN_BE_LEFT_WAITING = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")

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
