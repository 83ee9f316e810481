"""Children: started by subprocess.Popen, their ends seen by a pidfd that the loop polls.

What a child's transport promises is the stdlib's, in the Python at hand; here is how it is kept.

Ends     One pidfd a child, or a waiting thread where the system has none. No SIGCHLD: that signal
         is the program's. The status is read under the lock that Popen has for it, so that a
         status which Popen.poll() or Popen.wait() took is not lost (R78).
Starts   Popen forks in the loop's own thread, also with preexec_fn. In a helper thread the fork
         would find whatever lock the loop's thread held just then locked for ever, the child's
         parent to PR_SET_PDEATHSIG would be that thread, and preexec_fn would see another's thread
         locals. What holds the loop up is waiting for exec(): that alone is left out (R80).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from asyncio import events
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop import stdlib

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

# Up to 3.13: a policy whose getter is none of these, or whose watcher is of another class, is one
# that a program has set up. A policy makes its default watcher by itself, as soon as it is asked.
_PLAIN_GETTERS = [
    vars(policy)["get_child_watcher"]
    for policy in (
        getattr(events, "AbstractEventLoopPolicy", None),
        stdlib.UnixDefaultEventLoopPolicy,
    )
    if policy is not None and "get_child_watcher" in vars(policy)
]
_DEFAULT_WATCHERS = ["PidfdChildWatcher"]
if sys.version_info < (3, 12):
    _DEFAULT_WATCHERS.append("ThreadedChildWatcher")


def watcher_was_chosen() -> bool:
    """Whether the policy has a child watcher of the program's own choice (R78).

    PidfdChildWatcher is none: it does what the loop does by itself, with more conditions.
    """
    if not _PLAIN_GETTERS:  # 3.14
        return False
    policy = asyncio.get_event_loop_policy()
    if type(policy).get_child_watcher not in _PLAIN_GETTERS:
        return True
    watcher = getattr(policy, "_watcher", None)
    defaults = (getattr(asyncio, name) for name in _DEFAULT_WATCHERS)
    return watcher is not None and type(watcher) not in defaults


def exit_status(process: subprocess.Popen[bytes]) -> int:
    """Reap *process*; waits until it has ended. 255 if somebody else took the status."""
    with process._waitpid_lock:  # type: ignore[attr-defined]
        if process.returncode is None:
            try:
                _, status = os.waitpid(process.pid, 0)
            except ChildProcessError:
                process.returncode = 255
                logger.warning(
                    "child process pid %d exit status already read: will report returncode 255",
                    process.pid,
                )
            else:
                process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode


def call_at_exit(
    loop: EventLoop, process: subprocess.Popen[bytes], callback: Callable[[], None]
) -> None:
    """Call *callback* from the loop once *process* has ended."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # No such call here, or forbidden, or no descriptor left: the child is watched all the same.
        pass
    else:
        try:
            loop._watch_process(pidfd, callback)
            return
        except OSError:
            os.close(pidfd)
        except BaseException:
            os.close(pidfd)
            raise
    name = f"mioloop-waitpid-{process.pid}"
    threading.Thread(target=_wait, args=(loop, process, callback), name=name, daemon=True).start()


def _wait(loop: EventLoop, process: subprocess.Popen[bytes], callback: Callable[[], None]) -> None:
    if hasattr(os, "waitid"):  # macOS has it from 3.13 on
        # The status stays where it is until the loop's thread takes it: a pid that is reaped
        # beside a running send_signal() may be another process's by the time of its kill().
        with contextlib.suppress(ChildProcessError):  # somebody else took it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        exit_status(process)
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        exit_status(process)
        logger.warning("Loop %r that handles pid %r is closed", loop, process.pid)


class _ReportReader(asyncio.Protocol):
    """All that comes, as one. The loop owns it, unlike a StreamReader, and so who waits for it."""

    def __init__(self, report: asyncio.Future[bytes]) -> None:
        self.report = report
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.report.done():
            self.report.set_result(self._data)


class UnawaitedExec:
    """A preexec_fn for Popen that lets it return as soon as the child is there.

    Popen waits until all write ends of a pipe are closed: by exec(), or by a child that has
    written why there will be none. As its first step the child puts our pipe in the place of
    that one, and so the same is learnt from ours, by the loop. Where the place is not found
    (Popen's local variable has another name) Popen waits, as it always did.
    """

    def __init__(self, preexec_fn: Callable[[], object]) -> None:
        self._preexec_fn = preexec_fn
        read_end, write_end = os.pipe()
        self._report = open(read_end, "rb", buffering=0)
        try:
            # Not 0, 1 or 2: those are the child's by the time it calls us.
            self._write_end = fcntl.fcntl(write_end, fcntl.F_DUPFD_CLOEXEC, 3)
        except BaseException:
            self._report.close()
            raise
        finally:
            os.close(write_end)

    def __call__(self) -> None:
        popens = stdlib.getframe(1).f_locals.get("errpipe_write")
        if popens is not None:
            os.dup2(self._write_end, popens, inheritable=False)
        self._preexec_fn()

    def forked(self) -> None:
        """The parent's part is done, or there is no child."""
        os.close(self._write_end)

    def close(self) -> None:
        self._report.close()

    async def outcome(self, loop: asyncio.AbstractEventLoop, program: Any) -> None:
        """Return once *program* runs, or raise what Popen would have raised."""
        reader = _ReportReader(loop.create_future())
        pipe, _ = await loop.connect_read_pipe(lambda: reader, self._report)
        try:
            report = await reader.report
        finally:
            pipe.close()
        if report:
            kind, number, message = report.split(b":", 2)
            if kind == b"OSError":
                error = int(number, 16)
                raise OSError(error, os.strerror(error), program)
            raise subprocess.SubprocessError(message.decode())


class SubprocessTransport(stdlib.UnixSubprocessTransport):
    """A child of a mioloop loop."""

    _closed: bool
    _unawaited_exec: UnawaitedExec | None = None

    def _start(self, **popen: Any) -> None:
        self._ended = self._loop.create_future()
        if popen.get("preexec_fn") is not None:
            self._unawaited_exec = popen["preexec_fn"] = UnawaitedExec(popen["preexec_fn"])
            program = "/bin/sh" if popen["shell"] else popen["args"][0]
            self._program = popen.get("executable") or program
        try:
            super()._start(**popen)
        except BaseException:
            if self._unawaited_exec is not None:
                self._unawaited_exec.close()
            raise
        finally:
            if self._unawaited_exec is not None:
                self._unawaited_exec.forked()
        call_at_exit(self._loop, self._proc, self._has_ended)

    def _has_ended(self) -> None:
        status = exit_status(self._proc)
        self._ended.set_result(status)
        self._process_exited(status)

    async def _connect_pipes(self, waiter: asyncio.Future[None]) -> None:
        process = self._proc
        try:
            if self._unawaited_exec is not None:
                await self._unawaited_exec.outcome(self._loop, self._program)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if not waiter.done():
                waiter.set_exception(exc)
        else:
            if not self._closed:
                await super()._connect_pipes(waiter)
        # A start that failed or was given up leaves no pipe open, whether connected or not.
        for stream, pipe in zip((process.stdin, process.stdout, process.stderr), range(3)):
            protocol = self._pipes.get(pipe)
            if protocol is None:
                if stream is not None:
                    stream.close()
            elif self._closed:
                protocol.pipe.close()

    async def until_started(self, waiter: asyncio.Future[None]) -> None:
        """Return once the protocol may use us. If that fails, or is cancelled: no child is left."""
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            self.close()
            await asyncio.shield(self._ended)
            raise

    def send_signal(self, signal: int) -> None:
        # A child that has been reaped has no pid: its number may be somebody else's by now.
        if self._proc is None or self._proc.returncode is None:
            super().send_signal(signal)

    def close(self) -> None:
        if self._closed or self._proc is None or not self._loop.is_closed():
            super().close()
            return
        # The loop went first: nothing can be called soon any more.
        self._closed = True
        for protocol in self._pipes.values():
            if protocol is not None:
                protocol.pipe._pipe = None
        for stream in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if stream is not None:
                stream.close()
        if self._proc.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._proc.kill()
