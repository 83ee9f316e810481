"""Children with a preexec_fn: R80. Real children."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import threading
import warnings

import pytest

from tests.support.children import CAT, PIPE, REAL_CHILDREN, fail, python
from tests.support.waiting import turns

pytestmark = REAL_CHILDREN


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
