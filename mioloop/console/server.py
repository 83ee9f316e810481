"""The socket and the thread of the console (see `mioloop.console` for the protocol).

Forks: CPython 3.12 and later warn if a process with several threads forks. So the thread ends
before a fork, and another one goes on in the parent when the interpreter has counted the threads.
In the child the sockets are closed: it does not answer for its parent. It gets a console of its own
when it runs a loop that has one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Any

from mioloop.console import VERSION, place
from mioloop.console.answers import Answers
from mioloop.loop import threads
from mioloop.reactor.forking import call_after_forks

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

logger = logging.getLogger("mioloop.console")

LONGEST_REQUEST = 65536
MOST_CLIENTS = 16
PIECE = 65536

_PEER = struct.Struct("3i")             # struct ucred: pid, uid, gid


class Client:
    """One connection: the part of a request that has come, and the rest of an answer to send."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.unsent = b""
        self.memory: dict[str, Any] = {}    # of `Answers`, between two requests


class Console:
    """Answers for all loops of this process that were made with ``console=True``."""

    _current: Console | None = None

    @classmethod
    def of_this_process(cls) -> Console:
        if cls._current is None:
            cls._current = cls()
            atexit.register(cls._current.end)
            os.register_at_fork(
                before=cls._current._before_fork,
                after_in_child=cls._current._after_fork_in_child,
            )
            call_after_forks(cls._current._after_fork_in_parent)
        return cls._current

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # The thread of the console copies this without the lock.
        self._loops: dict[int, weakref.ref[EventLoop]] = {}
        self._numbers = 0
        self._begun_forks = 0                 # that have begun, and hold the lock
        self._endpoint: ConsoleSocket | None = None
        self._answers = Answers(self.loops)

    def loops(self) -> dict[int, EventLoop]:
        """The loops by number, in the order in which they were made. From any thread."""
        found = {}
        for number, weak in sorted(self._loops.copy().items()):
            loop = weak()
            if loop is not None and not loop.is_closed():
                found[number] = loop
        return found

    def add(self, loop: EventLoop) -> None:
        """Answer for *loop*, too. If there can be no socket, log why: the loop works without."""
        with self._lock:
            if all(weak() is not loop for weak in self._loops.values()):
                self._numbers += 1
                self._loops[self._numbers] = weakref.ref(loop)
            if self._endpoint is None:
                try:
                    self._endpoint = ConsoleSocket(self._answers)
                    self._endpoint.start()
                except (OSError, RuntimeError) as exc:
                    logger.warning("process %d has no console: %s", os.getpid(), exc)
                    self._drop_endpoint(unlink=True)

    def remove(self, loop: EventLoop) -> None:
        """Forget *loop*. The socket and the thread end with the last loop."""
        with self._lock:
            for number, weak in list(self._loops.items()):
                if weak() is loop or weak() is None:
                    del self._loops[number]
            if not self._loops:
                self.end()

    def end(self) -> None:
        with self._lock:
            if self._endpoint is not None:
                self._endpoint.stop()
            self._drop_endpoint(unlink=True)

    def _drop_endpoint(self, unlink: bool) -> None:
        sock, self._endpoint = self._endpoint, None
        if sock is not None:
            sock.close(unlink)

    # -- forks ---------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._begun_forks += 1
        if self._endpoint is not None:
            self._endpoint.stop()

    def _after_fork_in_parent(self) -> None:
        if self._begun_forks == 0:            # this is a child of a fork that was not finished
            return
        self._begun_forks -= 1
        try:
            if self._endpoint is not None:
                self._endpoint.start()
        except RuntimeError as exc:
            logger.warning("process %d has no console: %s", os.getpid(), exc)
            self._drop_endpoint(unlink=True)
        finally:
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._begun_forks = 0
        self._drop_endpoint(unlink=False)


class ConsoleSocket:
    """The listening socket, its connections, and the thread that serves them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._thread: threading.Thread | None = None
        self._clients: dict[int, Client] = {}
        directory = place.make_directory()
        self.path = os.path.join(directory, place.socket_name(os.getpid()))
        with contextlib.ExitStack() as undo:
            self._listening = undo.enter_context(socket.socket(socket.AF_UNIX))
            self._listen()
            undo.callback(self._unlink)
            self._waker, self._wakened = socket.socketpair()
            undo.enter_context(self._waker)
            undo.enter_context(self._wakened)
            self._wakened.setblocking(False)
            # Not epoll: a child of fork() would share its registrations with the parent.
            self._selector = selectors.PollSelector()
            self._selector.register(self._listening, selectors.EVENT_READ)
            self._selector.register(self._wakened, selectors.EVENT_READ)
            undo.pop_all()

    def _listen(self) -> None:
        """Bind under another name first: a client removes a socket that refuses connections."""
        self._listening.setblocking(False)
        new = self.path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        self._listening.bind(new)
        try:
            os.chmod(new, 0o600)
            self._listening.listen(MOST_CLIENTS)
            os.rename(new, self.path)   # it replaces the socket of an older process with this pid
        except OSError:
            os.unlink(new)
            raise

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._serve, name="mioloop console", daemon=True)
        self._thread = thread           # before it starts: it ends when it is not this one
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            raise

    def stop(self) -> None:
        """End the thread, and wait for its end. The connections stay."""
        thread, self._thread = self._thread, None
        if thread is None or thread is threading.current_thread():
            return
        self._waker.send(b"x")
        threads.join(thread)

    def close(self, unlink: bool) -> None:
        if unlink:
            self._unlink()
        for client in list(self._clients.values()):
            self._forget(client)
        self._selector.close()
        for sock in (self._listening, self._waker, self._wakened):
            sock.close()

    # -- the thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        me = threading.current_thread()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())    # of the other threads
        while self._thread is me:
            for key, events in self._selector.select(self._answers.pause_s()):
                if key.fileobj is self._wakened:
                    with contextlib.suppress(BlockingIOError):
                        self._wakened.recv(PIECE)
                elif key.fileobj is self._listening:
                    self._accept()
                else:
                    self._go_on(key.data, events)
            try:
                self._answers.look()
            except Exception:
                logger.exception("the console has failed to look at its loops")

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:                         # the client has gone, or no descriptor is left
            return
        if len(self._clients) >= MOST_CLIENTS or not is_allowed(sock):
            sock.close()
            return
        sock.setblocking(False)
        client = self._clients[sock.fileno()] = Client(sock)
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _go_on(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ and not self._receive(client):
                self._forget(client)
                return
            self._send(client)
            while b"\n" in client.received and not client.unsent:
                line, _, client.received = client.received.partition(b"\n")
                answer = {"v": VERSION, "pid": os.getpid()} | self._answer(line, client)
                client.unsent = json.dumps(answer).encode() + b"\n"
                self._send(client)
            # The next request is read when the answer has been sent.
            wanted = selectors.EVENT_WRITE if client.unsent else selectors.EVENT_READ
            self._selector.modify(client.sock, wanted, client)
        except (OSError, KeyError, ValueError):     # it has gone; or this console has ended
            self._forget(client)

    def _receive(self, client: Client) -> bool:
        """Receive a part of a request. False: the connection has ended, or must be ended."""
        try:
            data = client.sock.recv(PIECE)
        except BlockingIOError:
            return True
        client.received += data
        return bool(data) and (len(client.received) < LONGEST_REQUEST or b"\n" in client.received)

    def _send(self, client: Client) -> None:
        """Send as much as the socket takes."""
        with contextlib.suppress(BlockingIOError):
            while client.unsent:
                client.unsent = client.unsent[client.sock.send(client.unsent) :]

    def _answer(self, line: bytes, client: Client) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "a request must be one line of JSON"}
        if not isinstance(request, dict) or request.get("v") != VERSION:
            return {"error": f"this console answers requests of version {VERSION}"}
        try:
            return self._answers.answer(request, client.memory)
        except Exception as exc:        # of a program's own class of tasks or coroutines
            logger.exception("the console cannot answer %r", request.get("ask"))
            return {"error": f"{type(exc).__name__}: {exc}"}

    def _forget(self, client: Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.sock)
        client.sock.close()
        self._answers.client_left(client.memory)


def is_allowed(sock: socket.socket) -> bool:
    """Whether the peer is this user, or root. Elsewhere than on Linux the directory decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(peer)
    return uid in (os.geteuid(), 0)
