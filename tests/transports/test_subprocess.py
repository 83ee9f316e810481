"""Subprocesses: R77 to R80. Real children.

The module test_children.py and its neighbours have the orders of events, and the faults.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import stat
import subprocess
import sys

import pytest

from tests.support.children import FOLLOW_THE_LOOP, PIPE, python
from tests.support.releases import WAIT_ENDS_AT_EXIT
from tests.support.waiting import turns

pytestmark = FOLLOW_THE_LOOP


async def test_exit_status(loop):
    """wait() and returncode."""
    process = await asyncio.create_subprocess_exec(*python("raise SystemExit(7)"))
    assert await process.wait() == 7
    assert process.returncode == 7
    assert await process.wait() == 7


async def test_communicate(loop):
    """stdin, stdout, stderr; more than pipes hold."""
    data = os.urandom(500_000)
    code = (
        "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d);"
        "sys.stderr.buffer.write(d[::-1])"
    )
    process = await asyncio.create_subprocess_exec(
        *python(code), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate(data)
    assert out == data
    assert err == data[::-1]
    assert process.returncode == 0


async def test_shell(loop):
    """create_subprocess_shell; output and status of a command line."""
    process = await asyncio.create_subprocess_shell("echo $((6 * 7)); exit 3", stdout=PIPE)
    out, _ = await process.communicate()
    assert (out, process.returncode) == (b"42\n", 3)


async def test_interactive_child(loop):
    """Lines back and forth while the child lives."""
    code = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    process = await asyncio.create_subprocess_exec(*python(code), stdin=PIPE, stdout=PIPE)
    for i in range(20):
        process.stdin.write(b"line %d\n" % i)
        await process.stdin.drain()
        assert await process.stdout.readline() == b"LINE %d\n" % i
    process.stdin.close()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("method", "number"),
    [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL), ("SIGUSR1", signal.SIGUSR1)],
)
async def test_signals_to_the_child(loop, method, number):
    """terminate(), kill(), send_signal(): a negative status."""
    process = await asyncio.create_subprocess_exec(
        *python("print('up', flush=True); import time; time.sleep(60)"), stdout=PIPE
    )
    assert await process.stdout.readline() == b"up\n"
    if method == "SIGUSR1":
        process.send_signal(number)
    else:
        getattr(process, method)()
    assert await process.wait() == -number
    await process.stdout.read()


async def test_signal_to_a_child_that_has_ended(loop):
    """ProcessLookupError from send_signal, kill and terminate, or nothing."""
    process = await asyncio.create_subprocess_exec(*python(""))
    await process.wait()
    await turns()
    for method in (process.kill, process.terminate):
        try:
            method()
        except ProcessLookupError:
            pass


@pytest.mark.known_difference("uvloop", "spawns by itself")
async def test_keywords_of_popen_are_honoured(loop, tmp_path):
    """R77: cwd, env, executable (argv[0] stays), start_new_session, umask, pass_fds."""
    code = (
        "import os, sys; print(os.getcwd(), os.environ.get('NAME'), os.getsid(0) == os.getpid(),"
        "oct(os.umask(0)), sys.orig_argv[0], os.read(int(sys.argv[1]), 9))"
    )
    read_end, write_end = os.pipe()
    os.write(write_end, b"inherited")
    process = await asyncio.create_subprocess_exec(
        "argv-zero",
        "-S",
        "-c",
        code,
        str(read_end),
        executable=sys.executable,
        cwd=tmp_path,
        env={"NAME": "value"},
        start_new_session=True,
        umask=0o027,
        pass_fds=(read_end,),
        stdout=PIPE,
    )
    out, _ = await process.communicate()
    os.close(read_end)
    os.close(write_end)
    assert out.decode().split(" ", 5) == [
        str(tmp_path),
        "value",
        "True",
        "0o27",
        "argv-zero",
        "b'inherited'\n",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.known_difference("uvloop", "spawns by itself")
async def test_child_runs_as_another_user(loop):
    """R77: user, group, extra_groups."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", "id -u; id -g; id -G"),
        user=65534, group=65533, extra_groups=[65532], stdout=PIPE,
    )
    out, _ = await process.communicate()
    assert out.split() == [b"65534", b"65533", b"65533", b"65532"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since 3.11")
@pytest.mark.known_difference("uvloop", "spawns by itself")
async def test_child_leads_a_process_group(loop):
    """R77: process_group."""
    code = "import os; print(os.getpgid(0) == os.getpid())"
    process = await asyncio.create_subprocess_exec(
        *python(code), process_group=0, stdout=PIPE
    )
    assert await process.communicate() == (b"True\n", None)


@pytest.mark.known_difference("uvloop", "forgets the filename")
async def test_missing_program_is_file_not_found(loop):
    """R77: the error keeps its filename."""
    with pytest.raises(FileNotFoundError) as caught:
        await asyncio.create_subprocess_exec("/no/such/program")
    assert caught.value.filename == "/no/such/program"


@pytest.mark.known_difference("uvloop", "socket pairs")
async def test_standard_streams_are_pipes_in_the_child(loop):
    """R77: FIFOs, as shells and some programs want."""
    code = "import os, stat; print([stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (1, 2)])"
    process = await asyncio.create_subprocess_exec(
        *python(code), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, _ = await process.communicate()
    assert out == b"[True, True]\n"


@pytest.mark.known_difference("uvloop", "no `pipe` extra")
def test_pipe_transports_of_a_child(loop, run):
    """R77: get_pipe_transport(), `pipe` extra, pid, returncode, SubprocessProtocol's calls."""
    calls = []

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.lost = loop.create_future()

        def connection_made(self, transport):
            calls.append("connection_made")

        def pipe_data_received(self, fd, data):
            calls.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            calls.append(("lost", fd, exc))

        def process_exited(self):
            calls.append("process_exited")

        def connection_lost(self, exc):
            calls.append(("connection_lost", exc))
            self.lost.set_result(None)

    async def main():
        transport, protocol = await loop.subprocess_exec(
            Protocol, *python("print(input())"), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert transport.get_pid() > 0
        assert transport.get_returncode() is None
        stdin = transport.get_pipe_transport(0)
        assert transport.get_pipe_transport(1).get_extra_info("pipe") is not None
        assert transport.get_pipe_transport(7) is None
        stdin.write(b"text\n")
        await asyncio.wait_for(protocol.lost, 10)
        assert transport.get_returncode() == 0
        transport.close()

    run(loop, main())
    assert calls[0] == "connection_made"
    assert calls[-1] == ("connection_lost", None)
    assert "process_exited" in calls
    assert b"".join(call[1] for call in calls if call[0] == 1) == b"text\n"
    for fd in (1, 2):
        assert ("lost", fd, None) in calls


@pytest.mark.time_limit(60)
@pytest.mark.slow
async def test_five_hundred_children_at_once(loop):
    """R78: each gets its own status; no zombie and no descriptor stays."""

    async def child(i):
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"exit {i % 200}", stdin=subprocess.DEVNULL
        )
        return process.pid, await process.wait()

    ended = await asyncio.gather(*(child(i) for i in range(500)))
    assert [status for _, status in ended] == [i % 200 for i in range(500)]
    for pid, _ in ended:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


async def test_no_sigchld_handler_is_needed(loop):
    """R78: SIGCHLD is left alone by default."""
    before = signal.getsignal(signal.SIGCHLD)
    process = await asyncio.create_subprocess_exec(*python(""))
    assert signal.getsignal(signal.SIGCHLD) == before
    await process.wait()


@pytest.mark.known_difference("uvloop", "ends at exit", when=not WAIT_ENDS_AT_EXIT)
async def test_end_of_wait_while_a_grandchild_holds_stdout(loop):
    """R79: at the child's exit on 3.10 and 3.14; between them when its pipes are closed, too."""
    held, holder = os.pipe()
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "exec 3<&0; read line; cat <&3 & exit 3", stdin=held, stdout=PIPE
    )
    os.close(held)
    waiting = asyncio.ensure_future(process.wait())
    await turns()
    os.write(holder, b"go on\n")
    while process.returncode is None:
        await asyncio.sleep(0.001)
    await turns()
    ended = waiting.done()
    os.close(holder)
    assert await waiting == 3
    assert await process.stdout.read() == b""
    assert ended == WAIT_ENDS_AT_EXIT


async def test_child_is_reaped_when_its_process_object_is_dropped(loop):
    """R78: no zombie stays behind."""
    process = await asyncio.create_subprocess_exec(*python(""))
    pid = process.pid
    await process.wait()
    del process
    gc.collect()
    await turns()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_cancelled_wait_can_be_repeated(loop):
    """R79: wait() may be given up and asked again."""
    process = await asyncio.create_subprocess_exec(*python("input()"), stdin=PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 0.05)
    process.stdin.close()
    assert await process.wait() == 1


async def test_output_to_a_file_and_to_null(loop, tmp_path):
    """R77: stdout=file, stderr=STDOUT, DEVNULL."""
    with open(tmp_path / "out", "wb") as out:
        process = await asyncio.create_subprocess_shell(
            "echo out; echo err >&2",
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b"out\nerr\n"
    assert stat.S_ISREG((tmp_path / "out").stat().st_mode)


@pytest.mark.parametrize(
    "keywords",
    [
        {"universal_newlines": True},
        {"bufsize": 1},
        {"shell": True},
        {"text": True},
        {"encoding": "utf-8"},
        {"errors": "strict"},
    ],
    ids=str,
)
async def test_keywords_that_cannot_work_are_refused(loop, keywords):
    """R77: ValueError, as asyncio."""
    with pytest.raises(ValueError):
        await asyncio.create_subprocess_exec(sys.executable, **keywords)
