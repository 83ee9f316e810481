"""The wakeup descriptor of signals, while a loop runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mioloop.loop import signals

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop


@contextlib.contextmanager
def signal_wakeup(loop: EventLoop) -> Iterator[None]:
    """While the loop runs in the main thread, let a signal end the poll by the self-pipe.

    Rule R82: Ctrl-C ends an idle poll and a busy loop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = loop._csock.fileno()
    before = signals.set_wakeup_fd(ours)
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
            if now != ours:  # the program has set another one during the run: keep it
                signal.set_wakeup_fd(now)
