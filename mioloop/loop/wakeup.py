"""The wakeup descriptor of signals, while a loop runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mioloop.loop import signals

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop


@contextlib.contextmanager
def signal_wakeup(loop: EventLoop) -> Iterator[None]:
    """While the loop runs in the main thread, let a signal end the poll by the self-pipe.

    Rule R82: Ctrl-C ends an idle poll and a busy loop. If the program has set a wakeup descriptor
    of its own, it stays, as on asyncio: the program waits for signals there. A signal that the main
    thread gets then ends the poll by EINTR.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = loop._csock.fileno()
    before = signals.set_wakeup_fd(ours)
    if before not in (-1, ours) and not _put_back(before, loop):
        before = -1
    try:
        yield
    finally:
        # Set the new descriptor in one step: a signal that comes while there is none would be
        # lost. While there are handlers, signals between two runs are kept for the next run.
        if before == ours:
            before = -1
        ours = loop._csock.fileno()  # it has changed if this is a forked child
        restored = ours if loop._signal_handlers else before
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            now = signal.set_wakeup_fd(restored, warn_on_full_buffer=restored != ours)
            if now != ours:  # the program's, perhaps a new one: keep it
                signal.set_wakeup_fd(now)


def _put_back(fd: int, loop: EventLoop) -> bool:
    """Make the program's *fd* the wakeup descriptor again. Return False if it is closed.

    A signal that came meanwhile has its number in the self-pipe: it is written to *fd*, too.
    """
    try:
        signal.set_wakeup_fd(fd)
    except (ValueError, OSError):
        return False
    with contextlib.suppress(OSError):  # the self-pipe is empty, or *fd* is full
        os.write(fd, loop._ssock.recv(4096, socket.MSG_PEEK).replace(b"\0", b""))
    return True
