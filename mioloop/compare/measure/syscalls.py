"""Counts the system calls of a process, with strace."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotCounted(Exception):
    """System calls cannot be counted here; the message gives the reason."""


@contextmanager
def counted(pid: int) -> Iterator[dict[str, int]]:
    """Count the system calls that a process and its threads make during the block, by name.

    The dict is filled when the block ends. Raises NotCounted.
    """
    if shutil.which("strace") is None:
        raise NotCounted("strace is not installed")
    with tempfile.TemporaryDirectory() as directory:
        summary = Path(directory) / "summary"
        strace = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-o", str(summary), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert strace.stderr is not None
        first = strace.stderr.readline()
        if "attached" not in first:
            strace.communicate()
            raise NotCounted(f"strace: {first.strip() or 'it could not attach'}")
        counts: dict[str, int] = {}
        try:
            yield counts
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
        for calls, name in re.findall(r"^ *(\d+) +(\w+)$", summary.read_text(), re.MULTILINE):
            if name != "total":
                counts[name] = int(calls)
