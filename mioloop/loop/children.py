"""Children: subprocess.Popen starts them, and the loop polls a pidfd for the end of each.

The transport of a child behaves as the stdlib's of the running Python. This module implements it.

Ends     Each child has a pidfd, or a waiting thread where the system has no pidfd. SIGCHLD is not
         used: that signal belongs to the program. The status is read under the lock that Popen has
         for it, so that a status which Popen.poll() or Popen.wait() took is not lost (rule R78).
Starts   Popen makes the child in the loop's own thread. In a helper thread a fork would copy
         locks that the loop's thread holds at that moment, PR_SET_PDEATHSIG would count that
         thread as the parent, and preexec_fn would see that thread's locals. Only the wait for
         exec() is left out: the loop waits for it by polling a descriptor. Rule R80: the start of a
         child does not block the loop.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import types
import warnings
from asyncio import events
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mioloop import stdlib
from mioloop.loop.spawn import SUPPORTED, Spawned, spawn

try:
    from _posixsubprocess import fork_exec as _fork_exec
except ImportError:
    _fork_exec = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

# Up to 3.13: if a policy's getter is none of these, or its watcher has another class, a program
# has chosen the watcher. A policy makes its default watcher by itself at the first request.
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
    """Whether the program has chosen the child watcher of the policy (R78).

    PidfdChildWatcher does not count: it works like the loop does by itself, with more conditions.
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
    """Wait until *process* has ended, and reap it. 255 if the program has taken the status."""
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
        # No such call here, or forbidden, or no descriptor left: a thread watches the child.
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
        # WNOWAIT leaves the status for the loop's thread. If this thread reaped the pid during a
        # send_signal(), another process might have it by the time of the kill().
        with contextlib.suppress(ChildProcessError):  # the program has taken the status
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        exit_status(process)
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        exit_status(process)
        logger.warning("Loop %r that handles pid %r is closed", loop, process.pid)


# Positions of the arguments of _posixsubprocess.fork_exec() that are used here. 3.11 added
# process_group in the middle and allow_vfork at the end; 3.14 removed allow_vfork.
_ARGUMENT_COUNTS = {21: 0, 22: 1, 23: 1}    # -> number of places that process_group takes
_STREAMS = slice(6, 12)
_REPORT_READ, _REPORT_WRITE, _RESTORE_SIGNALS = 12, 13, 14
_FORK_NAMES = {"_fork_exec", "_posixsubprocess"}     # from 3.11 on, and 3.10


def _uses_posix_spawn(
    args: Any, new_session: bool, group: int, ids: Any, umask: int, preexec_fn: Any
) -> bool:
    """Whether Popen would have called posix_spawn(). Its errors name the program as a str."""
    paths, close_fds, keep, cwd = args[1:5]
    streams = args[_STREAMS]
    return (
        getattr(subprocess, "_USE_POSIX_SPAWN", False)
        and (not close_fds or getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False))
        and len(paths) == 1
        and bool(os.path.dirname(paths[0]))
        and (len(keep), cwd, ids, umask, preexec_fn) == (1, None, (None, None, None), -1, None)
        and (bool(new_session), group) == (False, -1)
        and not {0, 1, 2} & {streams[0], streams[3], streams[5]}
    )


class _Os:
    """The module os for Popen._execute_child(): a read of the report pipe returns b"" at once.

    The `UnawaitedStart` takes the read end over, reads the report and closes the descriptor.
    """

    def __init__(self, start: UnawaitedStart) -> None:
        self._start = start

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, fd: int, size: int) -> bytes:
        if fd != self._start.expected_fd:
            return os.read(fd, size)
        self._start.report_fd = fd
        return b""

    def close(self, fd: int) -> None:
        if fd != self._start.report_fd:
            os.close(fd)


class UnawaitedStart:
    """One Popen that returns as soon as the child exists; the loop waits for its exec() (R80).

    Popen waits until all write ends of a pipe are closed: by exec(), or by a child that has
    written why exec() failed. It does so in _execute_child(). `popen` runs the code of that method
    with other globals: an `os` with a read() that does not wait, and a fork that does not wait
    either (spawn.pyx), because vfork() and posix_spawn() suspend the caller until the child's
    exec(). If the stdlib lacks the names that this needs, or a program has replaced them, Popen
    waits.
    """

    expected_fd = -1        # the read end that Popen would wait for
    report_fd = -1          # that read end, once Popen has tried to read from it
    _spawned: Spawned | None = None

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._report = b""
        self._reported: asyncio.Future[None] | None = None

    def popen(self, **keywords: Any) -> subprocess.Popen[bytes]:
        """Return or raise like ``subprocess.Popen(**keywords)``, but do not wait."""
        program = "/bin/sh" if keywords["shell"] else keywords["args"][0]
        self._program = keywords.get("executable") or program
        self._cwd = keywords.get("cwd")
        popen_class: Any = subprocess.Popen
        execute = getattr(popen_class, "_execute_child", None)
        if (
            type(popen_class) is not type
            or not isinstance(execute, types.FunctionType)
            or execute.__globals__ is not vars(subprocess)
            or execute.__closure__ is not None
            or not {"os", "sys"} <= set(execute.__code__.co_names)
            or not _FORK_NAMES & set(execute.__code__.co_names)
            or _fork_exec is None
            or not (SUPPORTED or keywords.get("preexec_fn"))
        ):
            return popen_class(**keywords)  # type: ignore[no-any-return]
        # Up to 3.12, Popen reports an error of any step between fork and exec as one of chdir().
        self._chdir_is_told = "noexec:chdir" in execute.__code__.co_consts
        namespace = {
            **execute.__globals__,
            "os": _Os(self),
            "_USE_POSIX_SPAWN": False,
            "_fork_exec": self.fork_exec,
            "_posixsubprocess": self,
        }
        unawaited = types.FunctionType(
            execute.__code__, namespace, execute.__name__, execute.__defaults__
        )
        unawaited.__kwdefaults__ = execute.__kwdefaults__
        new: Callable[..., subprocess.Popen[bytes]] = popen_class.__new__
        process = new(popen_class, **keywords)
        vars(process)["_execute_child"] = types.MethodType(unawaited, process)
        try:
            process.__init__(**keywords)  # type: ignore[misc]
        except BaseException:
            self.close()
            raise
        finally:
            vars(process).pop("_execute_child", None)
        if 0 <= self.report_fd < 3:  # a standard stream's number, for as long as the exec takes
            low, self.report_fd = self.report_fd, fcntl.fcntl(
                self.report_fd, fcntl.F_DUPFD_CLOEXEC, 3
            )
            os.close(low)
        return process

    def fork_exec(self, *args: Any) -> int:
        """The replacement of _posixsubprocess.fork_exec()."""
        real = getattr(subprocess, "_fork_exec", _fork_exec)
        group_places = _ARGUMENT_COUNTS.get(len(args))
        if real is not _fork_exec or group_places is None:
            return int(real(*args))
        restore_signals, new_session, *rest = args[_RESTORE_SIGNALS:]
        process_group = rest.pop(0) if group_places else -1
        gid, gids, uid, umask, preexec_fn = rest[:5]
        ids = (gid, gids, uid)
        if _uses_posix_spawn(args, new_session, process_group, ids, umask, preexec_fn):
            self._program = os.fspath(self._program)
        self.expected_fd = args[_REPORT_READ]
        # With any of these CPython forks anyway, so it may also carry them out.
        forks = (*ids, preexec_fn) != (None, None, None, None)
        if not forks and getattr(subprocess, "_USE_VFORK", True):  # False: a program's choice
            try:
                self._spawned = spawn(
                    *args[:6],
                    args[_STREAMS],
                    args[_REPORT_READ],
                    args[_REPORT_WRITE],
                    restore_signals,
                    new_session,
                    process_group,
                    umask,
                )  # type: ignore[call-arg]
            except (TypeError, ValueError, OverflowError):
                pass  # the real fork_exec() raises its own exception, before there is a child
        if self._spawned is None:
            return int(real(*args))
        return self._spawned.pid

    async def outcome(self) -> BaseException | None:
        """Wait for exec(). None if the program runs, else the exception that Popen would raise."""
        if self.report_fd < 0:
            return None
        self._reported = self._loop.create_future()
        try:
            os.set_blocking(self.report_fd, False)
            self._loop._add_reader(self.report_fd, self._read_report)
            await self._reported
        finally:
            self._loop._remove_reader(self.report_fd)
            self.close()
        return self._error() if self._report else None

    def _read_report(self) -> None:
        assert self._reported is not None
        try:
            part = os.read(self.report_fd, 4096)
        except BlockingIOError:
            return
        self._report += part
        if not part:
            self.executed()
            if not self._reported.done():
                self._reported.set_result(None)

    def _error(self) -> BaseException:
        try:
            kind, number, reason = self._report.split(b":", 2)
            message = reason.decode()
        except ValueError:
            text = f"Bad exception data from child: {self._report!r}"
            return subprocess.SubprocessError(text)
        error = getattr(builtins, kind.decode("ascii", "replace"), subprocess.SubprocessError)
        if not (issubclass(error, OSError) and number):
            return error(message)
        code = int(number, 16)
        filename = self._program
        if message == "noexec:chdir" or (message == "noexec" and not self._chdir_is_told):
            filename = self._cwd
        elif message == "noexec":
            filename = None
        if message.startswith("noexec"):
            message = ""
        if code:
            message = os.strerror(code)
        if filename is None and self._chdir_is_told:
            return OSError(code, message)
        return OSError(code, message, filename)

    def executed(self) -> None:
        """Called when the child has executed its program, or has ended."""
        if self._spawned is not None:
            self._spawned.executed()

    def close(self) -> None:
        fd, self.report_fd = self.report_fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class SubprocessTransport(stdlib.UnixSubprocessTransport):  # type: ignore[misc]  # typeshed has none
    """A child of a mioloop loop."""

    _closed: bool
    _unawaited: UnawaitedStart

    def _start(self, **popen: Any) -> None:
        self._ended = self._loop.create_future()
        self._unawaited = UnawaitedStart(self._loop)
        try:
            self._proc = self._unawaited.popen(universal_newlines=False, **popen)
            call_at_exit(self._loop, self._proc, self._has_ended)
        except BaseException:
            self._unawaited.close()
            raise

    def _has_ended(self) -> None:
        status = exit_status(self._proc)
        self._unawaited.executed()
        self._ended.set_result(status)
        self._process_exited(status)

    async def _connect_pipes(self, waiter: asyncio.Future[None]) -> None:
        process = self._proc
        try:
            error = await self._unawaited.outcome()
            if error is not None:
                await self._ended  # Popen also raises only after it has reaped the child
                raise error
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:
            if not waiter.done():
                waiter.set_exception(exc)
        else:
            if not self._closed:
                await super()._connect_pipes(waiter)
        # A start that failed or was cancelled leaves no pipe open, whether connected or not.
        for stream, pipe in zip((process.stdin, process.stdout, process.stderr), range(3)):
            protocol = self._pipes.get(pipe)
            if protocol is None:
                if stream is not None:
                    stream.close()
            elif self._closed:
                protocol.pipe.close()

    async def until_started(self, waiter: asyncio.Future[None]) -> None:
        """Return once the protocol may use the transport.

        If the start fails or is cancelled, no child is left.
        """
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except GeneratorExit:  # the loop was closed in the middle of the start
            self.close()
            raise
        except BaseException:
            self.close()
            await asyncio.shield(self._ended)
            raise

    def send_signal(self, signal: int) -> None:
        # A child that has been reaped has no pid: another process may have its number now.
        if self._proc is None or self._proc.returncode is None:
            super().send_signal(signal)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_closed", True):
            return
        text = f"unclosed transport {self!r}"
        try:
            self.close()
        finally:
            # Last: a filter may turn the warning into an exception, and a hook may run any code.
            _warn(text, ResourceWarning, source=self)

    def close(self) -> None:
        if self._closed or self._proc is None or not self._loop.is_closed():
            super().close()
            return
        # The loop was closed before the transport: call_soon() would raise.
        self._closed = True
        self._unawaited.close()
        for protocol in self._pipes.values():
            if protocol is not None:
                protocol.pipe._pipe = None
        for stream in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if stream is not None:
                stream.close()
        if self._proc.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._proc.kill()
