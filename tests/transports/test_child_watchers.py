"""Child watchers of the program, up to Python 3.13: R78. Real children."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from tests.support.children import REAL_CHILDREN

pytestmark = REAL_CHILDREN


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
