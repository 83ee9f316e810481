"""Children in every order of events: R78, R80, R89. Real children."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess

import pytest

from tests.support.children import CAT, PIPE, REAL_CHILDREN, Recorder
from tests.support.waiting import turns

pytestmark = REAL_CHILDREN


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
