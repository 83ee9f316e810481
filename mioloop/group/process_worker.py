"""ProcessWorker: a worker in a process of its own, as the parent sees it.

A worker process is spawned: a new Python imports the program's main module, by the functions of
`multiprocessing.spawn`, and unpickles `main`. A fork would be quicker, and could run any function;
but a fork copies locks that other threads of the parent hold, and loops, connections and threads
of libraries which the child cannot use. It is not a `multiprocessing.Process`, because that leaves
a resource tracker behind: a process, and a descriptor to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

from mioloop import stdlib
from mioloop.group.calls import (
    RequestCancelled,
    WorkerFailed,
    dump,
    dump_exception,
    load_exception,
    settle,
)
from mioloop.group.link import Link
from mioloop.group.report import Figures
from mioloop.group.run import Outcome

if TYPE_CHECKING:
    from mioloop.group.supervisor import Supervisor

# In the new process, before sys.path is the parent's, only the standard library can be imported.
BOOT = """\
import os, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C is for the parent
with os.fdopen(os.dup({desk}), "rb") as file:
    sys.path[:] = pickle.load(file)
from mioloop.group.child import main
main({link}, {desk})
"""
DESK_REQUEST = 65536
CANCELLED = dump_exception(RequestCancelled("the request was cancelled"))


def pickled_main(main: Callable[..., Any]) -> bytes:
    """Pickle *main*. Raises TypeError if a worker process could not import it."""
    module = sys.modules["__main__"]
    target: Any = main
    while isinstance(target, functools.partial):
        target = target.func
    if getattr(target, "__module__", None) == "__main__" and not hasattr(module, "__file__"):
        raise TypeError(
            f"a worker process cannot import {target!r} from `python -c`, a pipe or a prompt:"
            " write it into a file, or use kind='thread'"
        )
    return dump(main, "main")


def cause(status: int) -> str:
    """The name of the signal, or the exit code, of the status of a process."""
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):       # a real-time signal has no name
        return signal.Signals(-status).name
    return f"signal {-status}"


class ProcessWorker:
    """One worker process, from its start to its end. All methods but `call` are for the loop."""

    def __init__(self, supervisor: Supervisor, index: int) -> None:
        self.index = index
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._process: Any = None
        self._link: Link | None = None          # once the process has been told what it runs
        self._early: list[tuple[Callable[[], object], Future[Any]]] = []    # wait for the link
        self._desk: socket.socket | None = None
        self._outcome: Outcome | None = None
        self._terminated = False
        self._stop: float | None = None         # the grace, once the worker shall stop
        self._lock = threading.Lock()           # of the next one
        self._channels: dict[int, Future[Any]] = {}     # requests that wait for a channel
        self._lost = self._loop.create_future()

    def __str__(self) -> str:
        pid = "" if self._process is None else f" (process {self._process.pid})"
        return f"worker {self.index}{pid}"

    # -- its life --------------------------------------------------------------------------------

    async def live(self) -> Outcome:
        """Start the process, and return when it has ended."""
        try:
            link = await self._start()
            self._link = link
            for send, _ in self._early:
                send()
            if self._stop is not None:
                self.stop(self._stop)
            await self._lost
            status = await self._process.wait()
        finally:
            for _, answer in self._early:
                if self._link is None:
                    settle(answer, None, WorkerFailed(f"{self} could not be started"))
            self._early.clear()
            with self._lock:
                waiting = list(self._channels.values())
            for future in waiting:
                future.cancel()
            if self._desk is not None:
                self._loop.remove_reader(self._desk)
                self._desk.close()
            if self._link is not None:
                self._link.close()
        if self._outcome is None:
            return Outcome(None, WorkerFailed(f"{self} has ended by {cause(status)}"), Figures())
        if self._terminated and self._supervisor.stopping:
            return self._outcome._replace(exception=None)
        return self._outcome

    async def _start(self) -> Link:
        settings = self._supervisor.settings
        preparation = spawn.get_preparation_data(f"mioloop worker {self.index}")
        preparation["authkey"] = bytes(preparation["authkey"])      # else it refuses to be pickled
        link, link_of_child = socket.socketpair()
        desk, desk_of_child = socket.socketpair()
        self._desk = desk
        with link_of_child, desk_of_child:
            end = Link(self._handle_message, self._link_lost)
            await end.open(link)
            desk.sendall(pickle.dumps(preparation["sys_path"]))
            desk.setblocking(False)
            link_fd, desk_fd = link_of_child.fileno(), desk_of_child.fileno()
            self._process = await asyncio.create_subprocess_exec(
                os.fsdecode(spawn.get_executable()),
                *stdlib.interpreter_flags(),
                "-c", BOOT.format(link=link_fd, desk=desk_fd),
                stdin=subprocess.DEVNULL,
                pass_fds=(link_fd, desk_fd),
            )
        self._loop.add_reader(desk, self._serve_desk, desk)
        end.send(
            preparation, self.index, settings.workers, self._supervisor.blob, settings.options
        )
        return end

    def stop(self, grace: float) -> None:
        self._stop = grace
        if self._link is not None:
            self._link.send("stop", grace)

    def kill(self) -> bool:
        """End the process at once. Returns whether that was possible."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        return True

    # -- messages --------------------------------------------------------------------------------

    def _link_lost(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    def _handle_message(self, name: str, *args: Any) -> None:
        if name == "ended":
            result, failure, figures = args
            self._outcome = Outcome(
                None if result is None else pickle.loads(result),
                None if failure is None else load_exception(failure),
                Figures(*figures),
            )
        elif name == "terminated":
            self._terminated = True
            self.stop(self._supervisor.settings.grace)
        elif name == "call":
            self._forward(*args)
        elif name == "forget":
            with self._lock:
                future = self._channels.get(args[0])
            if future is not None:
                future.cancel()
        elif name == "give_back":
            number, item = args
            self._supervisor.queue(number).give_back(item)
        else:
            self._use_channel(name, *args)

    def _forward(self, number: int, index: int, blob: bytes) -> None:
        """A call by this worker to worker *index*; the parent does not unpickle it."""
        link = self._link
        assert link is not None
        try:
            answer = self._supervisor.call_pickled(index, blob)
        except Exception as exc:
            link.reply(number, None, dump_exception(exc))
            return

        def answered(answer: Future[Any]) -> None:
            exc = answer.exception()
            if exc is None:
                link.reply(number, answer.result())
            else:
                link.reply(number, None, dump_exception(exc))

        answer.add_done_callback(answered)

    def _use_channel(self, name: str, number: int, channel: int, *item: bytes) -> None:
        link = self._link
        assert link is not None
        queue = self._supervisor.queue(channel)
        future: Future[Any] = queue.get() if name == "get" else queue.put(*item)
        with self._lock:
            self._channels[number] = future

        def done(future: Future[Any]) -> None:
            with self._lock:
                del self._channels[number]
            if future.cancelled():
                link.reply(number, None, CANCELLED)
            elif (exc := future.exception()) is not None:
                link.reply(number, None, dump_exception(exc))
            elif name == "get" and link.closed:
                queue.give_back(future.result())
            else:
                link.reply(number, future.result())

        future.add_done_callback(done)

    def _serve_desk(self, desk: socket.socket) -> None:
        try:
            request = desk.recv(DESK_REQUEST)
        except BlockingIOError:
            return
        if not request:
            self._loop.remove_reader(desk)
            return
        try:
            descriptor, handed = self._supervisor.listening.open(
                self.index, *pickle.loads(request)
            )
        except Exception as exc:
            desk.sendall(pickle.dumps((None, dump_exception(exc))))
            return
        try:
            socket.send_fds(desk, [pickle.dumps((handed, None))], [descriptor])
        finally:
            os.close(descriptor)

    # -- calls: any thread -----------------------------------------------------------------------

    def call(self, blob: bytes) -> Future[Any]:
        """Run a pickled ``(function, args)`` in the worker; the result is pickled, too."""
        return self._request("call", blob)

    def figures(self) -> Future[Any]:
        """Pickled `Figures` of the worker, from now."""
        if self._link is None:          # it is still being started
            none: Future[Any] = Future()
            none.set_result(pickle.dumps(tuple(Figures())))
            return none
        return self._request("figures")

    def _request(self, *message: Any) -> Future[Any]:
        answer: Future[Any] = Future()

        def send() -> None:
            assert self._link is not None
            self._link.request(*message).add_done_callback(answered)

        def answered(sent: Future[Any]) -> None:
            exc = sent.exception()
            settle(answer, None if exc else sent.result(), exc)

        def begin() -> None:
            if self._lost.done():
                settle(answer, None, WorkerFailed(f"{self} has ended"))
            elif self._link is None:
                self._early.append((send, answer))
            else:
                send()

        self._loop.call_soon_threadsafe(begin)
        return answer
