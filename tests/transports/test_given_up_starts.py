"""Starts of children that are given up: R78, R80. Real children."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from tests.support.children import CAT, PIPE, REAL_CHILDREN
from tests.support.waiting import turns

pytestmark = REAL_CHILDREN


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
