"""Link: messages between the parent and one worker process, over a Unix socket.

A message is a pickled tuple behind its length. A request has a number, and the other end replies to
it once. Each end belongs to a loop; any thread may send.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from mioloop.group.calls import WorkerFailed, load_exception, settle

LENGTH = struct.Struct("!Q")
Late = Callable[[Any, "BaseException | None"], object]
Message = tuple[Any, ...]


def frame(message: Message) -> bytes:
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body


def receive(sock: socket.socket) -> Message:
    """The next message of a blocking socket. Raises EOFError if the other end is closed."""
    message: Message = pickle.loads(_exactly(sock, LENGTH.unpack(_exactly(sock, LENGTH.size))[0]))
    return message


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError("the other end of the link is closed")
        data += piece
    return bytes(data)


class Link(asyncio.Protocol):
    """One end of the socket.

    Args:
        handle: called in the loop with each message that is not a reply.
        lost: called in the loop when the other end is closed, or its process has ended.
    """

    def __init__(self, handle: Callable[..., object], lost: Callable[[], object]) -> None:
        self._handle_message, self._lost = handle, lost
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._received = bytearray()
        self._numbers = itertools.count()
        self._lock = threading.Lock()       # of the numbers, and of the next two
        self._closed = False
        self._waiting: dict[int, tuple[Future[Any], Late | None]] = {}
        self._drained = asyncio.Event()
        self._drained.set()
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def closed(self) -> bool:
        return self._closed

    async def open(self, sock: socket.socket) -> None:
        await self._loop.create_connection(lambda: self, sock=sock)

    def close(self) -> None:
        """Close this end, also with messages that are not sent."""
        if self._transport is not None:
            self._transport.abort()

    async def flush(self) -> None:
        """Wait until all messages are sent, or the link is lost."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(0)
        await self._drained.wait()

    # -- sending: any thread -----------------------------------------------------------------

    def send(self, *message: Any) -> None:
        """Send a message. Nothing happens if the link is lost."""
        data = frame(message)
        try:
            running: object = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._write(data)
            return
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._write, data)

    def request(
        self, *message: Any, late: Late | None = None
    ) -> Future[Any]:
        """Send ``(name, number, ...)``, and return the future of its reply.

        The future can be cancelled; an answer that comes nevertheless is passed to *late*. If the
        link is lost the future raises WorkerFailed.
        """
        name, *rest = message
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            if not self._closed:
                self._waiting[number] = future, late
        if number not in self._waiting:
            settle(future, None, WorkerFailed("the worker has ended"))
            return future
        self.send(name, number, *rest)

        def ended(future: Future[Any]) -> None:
            if future.cancelled():
                self.send("forget", number)

        future.add_done_callback(ended)
        return future

    def reply(self, number: int, result: Any, failure: bytes | None = None) -> None:
        """Answer request *number*: with *result*, or by an exception of `dump_exception`."""
        self.send("reply", number, result, failure)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._closed:
            self.bytes_out += len(data)
            self._transport.write(data)

    # -- receiving: the loop -------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self._received += data
        at = 0
        while len(self._received) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received, at)
            if len(self._received) - at - LENGTH.size < size:
                break
            body = self._received[at + LENGTH.size : at + LENGTH.size + size]
            at += LENGTH.size + size
            self._dispatch(pickle.loads(body))
        del self._received[:at]

    def _dispatch(self, message: Message) -> None:
        if message[0] != "reply":
            self._handle_message(*message)
            return
        _, number, result, failure = message
        with self._lock:
            future, late = self._waiting.pop(number)
        exc = None if failure is None else load_exception(failure)
        if not settle(future, result, exc) and late is not None:
            late(result, exc)

    def connection_lost(self, exc: Exception | None) -> None:
        with self._lock:
            self._closed = True
            waiting = list(self._waiting.values())
            self._waiting.clear()
        self._drained.set()
        for future, _ in waiting:
            settle(future, None, WorkerFailed("the worker has ended before it answered"))
        self._lost()
