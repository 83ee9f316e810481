"""Ending a thread so that a fork finds it gone."""

from __future__ import annotations

import os
import threading
import time

LONGEST_S = 1.0


def join(thread: threading.Thread) -> None:
    """Wait until *thread* has ended, for the system as well; at most a second.

    Before 3.13, Thread.join() returns a little earlier than the thread has ended for the system,
    and the interpreter, which warns of a fork in a process with several threads, counts it.
    """
    give_up = time.monotonic() + LONGEST_S
    thread.join(LONGEST_S)
    task = f"/proc/self/task/{thread.native_id}"
    while os.path.exists(task) and time.monotonic() < give_up:
        time.sleep(0.0005)
