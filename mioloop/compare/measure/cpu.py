"""Processor time and memory of a process, and the processors of the machine.

The processor time of another process is read from its clock. /proc has its split into user and
system time, and its memory. On systems other than Linux, these figures are None.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
LINUX = sys.platform.startswith("linux")


def cpu_s(pid: int) -> float | None:
    """Processor time of all threads of any process, as by clock_getcpuclockid(3)."""
    if not LINUX:
        return None
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) * 1e-9
    except OSError:
        return None


def user_and_system_s(pid: int) -> tuple[float, float] | None:
    """User and system time of a process, in whole ticks of 10 ms."""
    if not LINUX:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Field 2, the command's name, may contain spaces and parentheses. utime is field 14.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return int(user) * TICK_S, int(system) * TICK_S


def process_tree(pid: int) -> list[int]:
    """The ids of a process and of its living descendants."""
    pids = [pid]
    for parent in pids:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return pids


def waited_s(pid: int) -> float | None:
    """Time that the main thread was ready to run and waited for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, IndexError):
        return None


@dataclass
class Usage:
    """Seconds of processor time, and seconds of waiting for a processor."""

    total_s: float | None = None
    user_s: float | None = None
    system_s: float | None = None
    waited_s: float | None = None


class Meter:
    """Measures the processor time of a process and its descendants, from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._waited_s = waited_s(pid)
        self._before = {each: (cpu_s(each), user_and_system_s(each)) for each in process_tree(pid)}

    def read(self) -> Usage:
        """Return the time used since the start.

        The exact total comes from the clock. Ticks are coarse, and only divide it by mode.
        """
        waited = waited_s(self._pid)
        used = Usage()
        if waited is not None and self._waited_s is not None:
            used.waited_s = waited - self._waited_s
        total_s = user_s = system_s = 0.0
        for pid, (before_s, split_before) in self._before.items():
            now_s, split_now = cpu_s(pid), user_and_system_s(pid)
            if before_s is None or now_s is None or split_before is None or split_now is None:
                return used
            total_s += now_s - before_s
            user_s += split_now[0] - split_before[0]
            system_s += split_now[1] - split_before[1]
        used.total_s = total_s
        if user_s + system_s > 0:
            share = user_s / (user_s + system_s)
            used.user_s, used.system_s = total_s * share, total_s * (1 - share)
        return used


class StealMeter:
    """Measures the time that the host of a virtual machine did not give to it, from now on."""

    def __init__(self, processors: Iterable[int | None]) -> None:
        self._names = {f"cpu{each}" for each in processors if each is not None} or {"cpu"}
        self._before_s = self._read_s()

    def _read_s(self) -> float:
        try:
            lines = Path("/proc/stat").read_text().splitlines() if LINUX else []
        except OSError:
            return 0.0
        fields = [line.split() for line in lines]
        return sum(int(each[8]) for each in fields if each[:1] and each[0] in self._names) * TICK_S

    def share(self, elapsed_s: float) -> float:
        """Stolen time as a share of the time of these processors, in ticks of 10 ms."""
        return (self._read_s() - self._before_s) / elapsed_s / len(self._names)


def _kib(path: str, name: str) -> int | None:
    """Return the value of a line "Name:  123 kB" of a file, in bytes."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Rss") if LINUX else None


def available_bytes() -> int | None:
    """Memory that the system can give without swapping."""
    return _kib("/proc/meminfo", "MemAvailable") if LINUX else None


def two_cores() -> tuple[int, int] | None:
    """Two processors that we may use; None if there is one. Prefers two cores to two threads."""
    allowed = sorted(allowed_processors())
    if len(allowed) < 2:
        return None
    for other in allowed[1:]:
        if other not in _threads_of_core(allowed[0]):
            return allowed[0], other
    return allowed[0], allowed[1]


def _threads_of_core(cpu: int) -> set[int]:
    try:
        text = Path(
            f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        ).read_text()
    except OSError:
        return {cpu}
    threads: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        threads.update(range(int(first), int(last or first) + 1))
    return threads


def allowed_processors() -> set[int]:
    """The processors that we may use; an empty set where the system does not tell."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def pin(cpu: int | None) -> None:
    """Keep the calling process on one processor."""
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
