"""The program of a worker process: `main` is called by the command line of `ProcessWorker`.

The process has two sockets to its parent: the link (`mioloop.group.link`), and the desk, where it
asks for a listening socket, and waits for the answer with the descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import spawn
from typing import Any

from mioloop.group.calls import (
    RequestCancelled,
    WorkerFailed,
    check,
    dump,
    dump_exception,
    load_exception,
    perform,
    settle,
)
from mioloop.group.link import Link, frame, receive
from mioloop.group.report import Figures
from mioloop.group.run import Main, Outcome, WorkerRun
from mioloop.group.worker import Worker

LAST_WORDS_S = 5.0          # for a worker to end when its parent has died
DESK_REQUEST = 65536        # more than any request, or answer, at the desk


class ChannelPort:
    """This process's way to the items of one channel.

    Each get() asks the parent for an item, and each request has one answer. Items are given to the
    waiting get() calls in order, and not each to the call that has asked for it. An item for which
    no call waits, because its call was cancelled, is held until all requests are answered: a next
    item may be on its way. Then the parent has it back, before any later request.
    """

    def __init__(self, link: Link, number: int) -> None:
        self._link, self._number = link, number
        self._lock = threading.Lock()       # of all below
        self._gets: deque[Future[Any]] = deque()
        self._held: deque[Any] = deque()
        self._asked: deque[Future[Any]] = deque()   # not answered, not cancelled
        self._unanswered = 0                # also counts requests that were cancelled

    def put(self, item: bytes) -> Future[None]:
        return self._link.request("put", self._number, item)

    def get(self) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._gets.append(future)
            self._unanswered += 1
        asked = self._link.request("get", self._number, late=self._deliver)
        with self._lock:
            self._asked.append(asked)
        asked.add_done_callback(self._answered)
        future.add_done_callback(lambda each: self._ask_for_no_more() if each.cancelled() else None)
        self._hand_out()
        return future

    def give_back(self, item: bytes) -> None:
        """A call had *item*, and was cancelled before it could return the item."""
        with self._lock:
            self._held.appendleft(item)
        self._hand_out()

    def _answered(self, asked: Future[Any]) -> None:
        if asked.cancelled():           # the answer is still to come
            return
        with self._lock, contextlib.suppress(ValueError):   # it was about to be cancelled
            self._asked.remove(asked)
        exc = asked.exception()
        self._deliver(None if exc else asked.result(), exc)

    def _deliver(self, item: Any, exc: BaseException | None) -> None:
        """The answer to one request."""
        with self._lock:
            self._unanswered -= 1
            if exc is None:
                self._held.append(item)
            ends = exc is not None and not isinstance(exc, RequestCancelled)
            failed = self._next_get() if ends else None
        if failed is not None:
            failed.set_exception(exc)
        self._hand_out()

    def _next_get(self) -> Future[Any] | None:
        while self._gets:
            future = self._gets.popleft()
            if future.set_running_or_notify_cancel():
                return future
        return None

    def _hand_out(self) -> None:
        while True:
            with self._lock:
                future = self._next_get() if self._held else None
                if future is None:
                    if not self._unanswered:
                        while self._held:
                            self._link.send("give_back", self._number, self._held.pop())
                    break
                item = self._held.popleft()
            future.set_result(item)
        self._ask_for_no_more()

    def _ask_for_no_more(self) -> None:
        """Cancel the requests for which no call waits any more."""
        with self._lock:
            waiting = sum(not each.done() for each in self._gets)
            cancelled = [self._asked.pop() for _ in range(len(self._asked) - waiting)]
        for each in cancelled:
            each.cancel()


class LatePort:
    """A ChannelPort that is found when it is used: channels come before there is a link."""

    def __init__(self, number: int) -> None:
        self._number = number

    def _port(self) -> ChannelPort:
        if _child is None or _child.link is None:
            raise RuntimeError("a channel of a group is for the loops of that group")
        return _child.channel(self._number)

    def put(self, item: bytes) -> Future[None]:
        return self._port().put(item)

    def get(self) -> Future[Any]:
        return self._port().get()

    def give_back(self, item: bytes) -> None:
        self._port().give_back(item)


def port_of_channel(number: int) -> LatePort:
    return LatePort(number)


class Child:
    """The worker of this process, between its parent and its run."""

    def __init__(self, link: socket.socket, desk: socket.socket) -> None:
        self._sock, self._desk = link, desk
        self.link: Link | None = None
        self._ended_by: int | None = None
        self._channels: dict[int, ChannelPort] = {}
        self._run: WorkerRun
        self._workers: int

    def execute(self, index: int, count: int, main: Main, options: Any) -> Outcome:
        self._workers = count
        worker = Worker(index, count, "process", self._open_port, self._place_call)
        self._run = WorkerRun(worker, main, options, self._opened, self._closing)
        watch = threading.Thread(target=self._watch_parent, daemon=True)
        watch.name = "mioloop parent watch"
        watch.start()
        outcome = self._run.execute()
        if self._ended_by is not None and outcome.exception is None:
            name = signal.Signals(self._ended_by).name
            failed = WorkerFailed(f"worker {index} (process {os.getpid()}) was ended by {name}")
            outcome = outcome._replace(exception=failed)
        return outcome._replace(figures=self._own(outcome.figures))

    def _own(self, figures: Figures) -> Figures:
        """Without the bytes of the link."""
        if self.link is None:
            return figures
        return figures._replace(
            bytes_in=figures.bytes_in - self.link.bytes_in,
            bytes_out=figures.bytes_out - self.link.bytes_out,
        )

    # -- the loop --------------------------------------------------------------------------------

    async def _opened(self) -> None:
        link = Link(self._handle_message, self._abort_run)
        await link.open(self._sock.dup())
        self.link = link
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminated)

    async def _closing(self) -> None:
        if self.link is not None:
            await self.link.flush()
            self.link.close()
            await asyncio.sleep(0)

    def _terminated(self) -> None:
        """SIGTERM to this process alone."""
        self._ended_by = signal.SIGTERM
        assert self.link is not None
        self.link.send("terminated")    # the parent knows the grace

    def _abort_run(self) -> None:
        self._run.post(self._run.stop, 0.0)

    def _handle_message(self, name: str, *args: Any) -> None:
        if name == "stop":
            self._run.stop(*args)
        elif name == "figures":
            self._reply(args[0], self._own(self._run.figures()), None)
        elif name == "call":
            number, blob = args
            try:
                function, arguments = pickle.loads(blob)
            except BaseException as exc:
                self._reply(number, None, exc)
                return
            perform(function, arguments, lambda *end: self._reply(number, *end))

    def _reply(self, number: int, result: Any, exc: BaseException | None) -> None:
        assert self.link is not None
        blob = None
        if exc is None:
            try:
                blob = dump(result, "the result of a call")
            except TypeError as unpicklable:
                exc = unpicklable
        self.link.reply(number, blob, None if exc is None else dump_exception(exc))

    def channel(self, number: int) -> ChannelPort:
        assert self.link is not None
        return self._channels.setdefault(number, ChannelPort(self.link, number))

    # -- of the worker -----------------------------------------------------------------------------

    def _place_call(self, index: int, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        assert self.link is not None
        check(index, self._workers, function)
        answer: Future[Any] = Future()
        blob = dump((function, args), "a function of call(), with its arguments,")
        sent = self.link.request("call", index, blob)

        def received(sent: Future[Any]) -> None:
            if sent.cancelled():
                return
            exc = sent.exception()
            try:
                settle(answer, None if exc else pickle.loads(sent.result()), exc)
            except Exception as failure:
                settle(answer, None, failure)

        sent.add_done_callback(received)
        return answer

    def _open_port(self, host: str | None, port: int, number: int) -> tuple[int, Any]:
        """Ask at the desk. The parent answers at once: this blocks the loop for a moment."""
        self._desk.sendall(pickle.dumps((host, port, number)))
        data, descriptors, _, _ = socket.recv_fds(self._desk, DESK_REQUEST, 1)
        if not data:
            raise WorkerFailed("the parent of this worker has ended")
        handed, failure = pickle.loads(data)
        if failure is not None:
            raise load_exception(failure)
        return descriptors[0], handed

    # -- the parent --------------------------------------------------------------------------------

    def _watch_parent(self) -> None:
        """End this process when its parent has died, also if the loop is blocked."""
        poll = select.poll()
        poll.register(self._sock, 0)        # POLLHUP is always reported
        poll.poll()
        self._abort_run()
        threading.Event().wait(LAST_WORDS_S)
        os._exit(1)


_child: Child | None = None


def main(link_fd: int, desk_fd: int) -> None:
    """Run one worker. The command line has set sys.path to the parent's already."""
    global _child
    link, desk = socket.socket(fileno=link_fd), socket.socket(fileno=desk_fd)
    link.setblocking(True)
    try:
        preparation, index, count, blob, options = receive(link)
    except EOFError:                    # the parent has ended
        return
    process: Any = multiprocessing.current_process()
    _child = Child(link, desk)
    try:
        process._inheriting = True      # the main module must not start a group when it is imported
        try:
            spawn.prepare(preparation)
            function = pickle.loads(blob)
        finally:
            del process._inheriting
        outcome = _child.execute(index, count, function, options)
    except BaseException as exc:
        outcome = Outcome(None, exc, Figures())
    result = failure = None
    if outcome.exception is None:
        try:
            result = dump(outcome.result, "the result of main")
        except TypeError as exc:
            failure = dump_exception(exc)
    else:
        failure = dump_exception(outcome.exception)
    link.setblocking(True)
    with contextlib.suppress(OSError):  # the parent has ended
        link.sendall(frame(("ended", result, failure, tuple(outcome.figures))))
