"""The stall watch: which line has blocked the loop for too long, reported while it blocks.

A thread looks at a loop several times within the limit. If the loop has made no progress between
two looks (no callback has returned, no event has been dispatched), the callback of the first look
still runs. So the watch costs the loop nothing but a comparison after each wait: the loop wakes the
thread, which sleeps while the loop waits.

The thread exists while the loop is watched and has something to do. It ends when the loop is closed
or freed, and before a fork: CPython 3.12 and later warn if a process with several threads forks.
After a fork the parent's loop starts a new thread when it next wakes up; so does the child's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from mioloop.loop import threads

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

logger = logging.getLogger("mioloop.stall")

LOOKS_PER_LIMIT = 4
LONGEST_INTERVAL_S = 60.0


@dataclass(frozen=True)
class Stall:
    """One report of a callback that has not returned, or of one that has returned at last.

    Attributes:
        seconds: how long the loop has made no progress.
        ended: False while the callback still runs.
        reason: "callback"; "garbage collection"; or "gil", if no other thread could run meanwhile,
            so that the report is late.
        file: the file of the place that the loop's thread executes, or executed last.
        line: its line.
        function: its function.
        stack: the frames of the callback, outermost first.
        handle: the function that the loop has called; or the transport with the event that it
            serves, the class of its protocol and its descriptor.
        task: the name of the task that runs, or None.
        awaited_by: the names of the tasks that wait for this task, the nearest first.
    """

    seconds: float
    ended: bool
    reason: str
    file: str
    line: int
    function: str
    stack: list[traceback.FrameSummary] = field(repr=False)
    handle: str
    task: str | None
    awaited_by: tuple[str, ...]

    def __str__(self) -> str:
        if self.stack:
            place = f"{self.file}:{self.line} in {self.function}()"
        else:
            place = "in code that is not Python"
        if self.handle not in (f"{self.function}()", "?()"):
            place += f", called by {self.handle}"
        if self.task is not None:
            place += f", task {self.task!r}"
        if self.awaited_by:
            place += f" (awaited by {', '.join(map(repr, self.awaited_by))})"
        if self.ended:
            text = f"the loop is free again after {self.seconds:.3f} s: {place}"
        else:
            text = f"the loop has been blocked for {self.seconds:.3f} s: {place}"
        if self.reason == "garbage collection":
            text += "; this was a garbage collection"
        elif self.reason == "gil":
            text += "; the code held the GIL meanwhile"
        return text


class StallWatch:
    """Watches one loop for callbacks that take longer than *limit* seconds."""

    def __init__(self, loop: EventLoop, limit: float) -> None:
        self.limit = limit
        self._loop = weakref.ref(loop, self._loop_is_gone)
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._ends = False
        self._woken = 0.0               # time.monotonic() at the last wake()
        self._collecting_since = 0.0    # time.monotonic() at the start of a collection, or 0
        self._collected = (0.0, 0.0)    # beginning and end of the last long collection
        _watches.add(self)

    # -- called by the loop's thread -----------------------------------------

    def wake(self) -> None:
        """The loop works again. Start the thread if there is none."""
        self._woken = time.monotonic()
        if self._thread is None:
            self._ends = False
            self._awake.clear()
            thread = threading.Thread(target=self._watch, name="mioloop stall watch", daemon=True)
            try:
                thread.start()
            except RuntimeError:            # no thread can be made: the loop runs without a watch
                logger.exception("the stall watch of %r cannot run", self._loop())
                return
            gc.callbacks.append(self._note_collection)
            self._thread = thread
        else:
            self._awake.set()

    def end(self) -> None:
        """End the thread. The next wake() starts another one."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ends = True
        self._awake.set()
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._note_collection)
        if thread is not threading.current_thread():
            threads.join(thread)        # a report may be under way, in code of the program

    def _loop_is_gone(self, _: object) -> None:
        self._ends = True
        self._awake.set()

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        loop = self._loop()
        if loop is None or loop._thread_id != threading.get_ident():
            return
        if phase == "start":
            self._collecting_since = time.monotonic()
        elif self._collecting_since:
            now = time.monotonic()
            if now - self._collecting_since >= self.limit:
                self._collected = (self._collecting_since, now)
            self._collecting_since = 0.0

    # -- the thread ------------------------------------------------------------

    def _watch(self) -> None:
        interval = self.limit / LOOKS_PER_LIMIT
        me = threading.current_thread()
        known: object = None            # the progress that the last look saw
        known_since = 0.0               # time of the first look that saw it
        looked = self._woken            # time of the last look, or when this thread was woken
        next_report = self.limit
        last: Stall | None = None       # the report of the stall under way
        while not self._ends and self._thread in (me, None):    # None: wake() is about to set it
            loop = self._loop()
            if loop is None or loop.is_closed():
                break
            now = time.monotonic()
            progress = loop._progress()
            if progress != known:
                if last is not None:
                    self._report(loop, self._ended(last, now - known_since))
                known, known_since, next_report, last = progress, now, self.limit, None
                if now - looked >= self.limit + interval:
                    # No look was possible: other code held the GIL, or the system was busy.
                    ended, current = loop._stretches()
                    if current >= self.limit:
                        known_since = now - current
                    elif ended >= self.limit:
                        self._report(loop, self._missed(ended, looked), first=True)
            if progress is None:        # the loop waits, and wakes this thread when it has waited
                loop._stretches()
                del loop
                self._awake.wait()
                self._awake.clear()
                looked = self._woken
                continue
            if now - known_since >= next_report:
                stall = self._stall(loop, now - known_since, now - looked)
                self._report(loop, stall, first=last is None)
                last = stall
                next_report = min(2 * next_report, next_report + LONGEST_INTERVAL_S)
            looked = now
            del loop, progress
            self._awake.wait(interval)
            self._awake.clear()
        loop = self._loop()
        if loop is not None and loop.is_closed():       # after a fork the stall may still go on
            now = time.monotonic()
            ended, _ = loop._stretches()
            if last is not None:
                self._report(loop, self._ended(last, now - known_since))
            elif ended >= self.limit and now - looked >= self.limit + interval:
                self._report(loop, self._missed(ended, looked), first=True)

    def _stall(self, loop: EventLoop, seconds: float, waited: float) -> Stall:
        frame = sys._current_frames().get(loop._thread_id or 0)
        stack = _callback_stack(frame)
        place = stack[-1] if stack else traceback.FrameSummary("?", 0, "?")
        task = _task_of(loop)
        held = waited >= self.limit / 2 + self.limit / LOOKS_PER_LIMIT
        return Stall(
            seconds, False, self._reason(seconds, held), place.filename, place.lineno or 0,
            place.name, stack, _handle_of(loop, stack), None if task is None else task.get_name(),
            _awaiters(loop, task),
        )

    def _reason(self, seconds: float, held: bool) -> str:
        began = time.monotonic() - seconds
        if self._collecting_since or self._collected[1] >= began + seconds / 2:
            return "garbage collection"
        return "gil" if held else "callback"

    def _ended(self, stall: Stall, seconds: float) -> Stall:
        return Stall(
            max(seconds, stall.seconds), True, stall.reason, stall.file, stall.line,
            stall.function, stall.stack, stall.handle, stall.task, stall.awaited_by,
        )

    def _missed(self, seconds: float, looked: float) -> Stall:
        """The report of a callback that has ended before this thread could run."""
        reason = "garbage collection" if self._collected[1] > looked else "gil"
        return Stall(seconds, True, reason, "?", 0, "?", [], "?()", None, ())

    def _report(self, loop: EventLoop, stall: Stall, *, first: bool = False) -> None:
        loop._count_stall(first, stall.seconds if stall.ended else 0.0)
        sys.audit("mioloop.stall", loop, stall)
        logger.warning("%s", stall, extra={"stall": stall})
        if loop.on_stall is not None:
            try:
                loop.on_stall(stall)
            except Exception:
                logger.exception("on_stall of %r has failed", loop)


# -- the code that the loop's thread executes -------------------------------------------


def _callback_stack(frame: FrameType | None) -> list[traceback.FrameSummary]:
    """The frames inside the loop's run, outermost first; all frames if there is no run."""
    frames: list[tuple[FrameType, int]] = []
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("run_forever", "_run_once") and _is_asyncio(code):
            break
        if code.co_filename == __file__:    # the watch itself: it notes a garbage collection, or
            frames.clear()                  # starts its thread
        else:
            frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return list(traceback.StackSummary.extract(iter(reversed(frames)), lookup_lines=False))


def _is_asyncio(code: CodeType) -> bool:
    return code.co_filename.startswith((_ASYNCIO, _MIOLOOP))


def _handle_of(loop: EventLoop, stack: list[traceback.FrameSummary]) -> str:
    source = loop._served()
    if source is None:
        return f"{stack[0].name}()" if stack else "?()"
    protocol = getattr(source, "_protocol", None)
    owner = "" if protocol is None else f" of {type(protocol).__qualname__}"
    return f"{type(source).__name__}{owner} on descriptor {source.fd}"


def _task_of(loop: EventLoop) -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def _awaiters(loop: EventLoop, task: asyncio.Task[Any] | None) -> tuple[str, ...]:
    """The names of the tasks that wait for *task*, and for these in turn."""
    names: list[str] = []
    seen = set()
    waiting = {
        getattr(other, "_fut_waiter", None): other for other in asyncio.all_tasks(loop)
    }
    while task is not None and task not in seen:
        seen.add(task)
        task = waiting.get(task)
        if task is not None:
            names.append(task.get_name())
    return tuple(names)


_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_MIOLOOP = os.path.dirname(os.path.dirname(__file__)) + os.sep

# -- forks -------------------------------------------------------------------------

_watches: weakref.WeakSet[StallWatch] = weakref.WeakSet()


def _before_fork() -> None:
    for watch in list(_watches):
        watch.end()
        loop = watch._loop()
        if loop is not None and not loop.is_closed():
            loop._watch_for_stalls(watch)   # it starts the thread again, in parent and child


def _after_fork_in_child() -> None:
    for watch in list(_watches):
        watch._awake = threading.Event()
        watch._thread = None


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
