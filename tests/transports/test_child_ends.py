"""How the loop learns that a child has ended: R78. Real children."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import threading

import pytest

from tests.support.children import CAT, PIPE, REAL_CHILDREN, Recorder

pytestmark = REAL_CHILDREN


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
