"""Runs the cells: starts the processes, interleaves the rounds, collects the samples.

In each round every loop gets its turn, and every other round in the opposite order, so that a
machine that slows down slows them all. What warms up is not counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mioloop.compare.measure.contestants import Contestant, Makers, Options, Sample
from mioloop.compare.measure.processes import Failure
from mioloop.compare.measure.workloads import Cell, Workload


@dataclass
class Result:
    """All that was seen of one loop in one cell."""

    loop: str
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""
    syscalls: float | None = None           # for each request
    syscall_counts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class CellResult:
    cell: Cell
    results: list[Result] = field(default_factory=list)


@contextlib.contextmanager
def _started(
    makers: Makers, names: Sequence[str]
) -> Iterator[dict[str, Contestant | Failure]]:
    """The contestants by name; a Failure stands for one that could not start."""
    made: dict[str, Contestant | Failure] = {}
    try:
        for name, make in zip(names, makers):       # all at once ...
            try:
                made[name] = make()
            except Failure as exc:
                made[name] = exc
        for name in names:                          # ... and then wait for each
            contestant = made[name]
            if isinstance(contestant, Failure):
                continue
            try:
                contestant.ready()
            except Failure as exc:
                contestant.stop()
                made[name] = exc
        yield made
    finally:
        for contestant in made.values():
            if not isinstance(contestant, Failure):
                contestant.stop()


def run(
    cells: Sequence[Cell],
    contestants: Callable[[Workload], tuple[list[str], Makers]],
    options: Options,
    progress: Callable[[str, float], None],
) -> list[CellResult]:
    """All cells, those of one workload on the same processes. `progress` hears of each sample
    and of how many seconds it is expected to take."""
    found: list[CellResult] = []
    groups: list[list[Cell]] = []
    for cell in cells:
        shared = groups and (
            groups[-1][0].workload.name == cell.workload.name
            or _share_a_process(groups[-1][0].workload, cell.workload)
        )
        if shared:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    for group in groups:
        names, makers = contestants(group[0].workload)
        if time.monotonic() > options.deadline:
            found += [_skipped(cell, names) for cell in group]
            continue
        with _started(makers, names) as made:
            for cell in group:
                if time.monotonic() > options.deadline:
                    found.append(_skipped(cell, names))
                else:
                    found.append(measure(cell, made, options, progress))
    return found


def _share_a_process(one: Workload, other: Workload) -> bool:
    """Local workloads leave nothing behind: one process of each loop does them all. Except a
    million timers: what the allocator keeps of them would be the next one's."""
    return one.side == other.side == "local" and one.family == other.family == ""


def _skipped(cell: Cell, names: Sequence[str]) -> CellResult:
    return CellResult(cell, [Result(name, skipped="no time was left") for name in names])


def turns_of(cell: Cell, options: Options) -> list[float]:
    """How long each turn is: the warm-up where the load generator does none, then the rounds."""
    rounds = [options.seconds_of(cell.workload)] * options.rounds_of(cell.workload)
    return [options.warm_s, *rounds] if _warms_up(cell.workload) else rounds


def _warms_up(workload: Workload) -> bool:
    return workload.side in ("local", "client")


def expected_s(cell: Cell, options: Options, seconds: float) -> float:
    """What a sample takes altogether, roughly: for the progress bar."""
    side = cell.workload.side
    if side == "idle":      # a server is started for each, and all the connections made
        return 0.5 + cell.connections * (7e-4 if cell.workload.tls else 5e-5)
    if side == "local":
        return max(seconds, cell.timers * 3e-6)
    return seconds + options.warm_s + cell.connections * 1e-4


def measure(
    cell: Cell,
    made: dict[str, Contestant | Failure],
    options: Options,
    progress: Callable[[str, float], None],
) -> CellResult:
    """All rounds of one cell."""
    results = {
        name: Result(name, failed=str(contestant) if isinstance(contestant, Failure) else "")
        for name, contestant in made.items()
    }
    first_counted = int(_warms_up(cell.workload))
    for turn, seconds in enumerate(turns_of(cell, options)):
        order = list(made) if turn % 2 == 0 else list(reversed(made))
        for name in order:
            result, contestant = results[name], made[name]
            progress(f"{cell.name}, {name}", expected_s(cell, options, seconds))
            if isinstance(contestant, Failure) or result.failed:
                continue
            try:
                sample = contestant.sample(cell, options, seconds)
            except Failure as exc:
                result.failed = str(exc)
                continue
            if turn >= first_counted:
                result.samples.append(_by_request(sample))
    if options.syscalls and cell.workload.side not in ("idle", "quiet", "import"):
        for name, contestant in made.items():
            if isinstance(contestant, Failure) or results[name].failed:
                continue
            progress(f"{cell.name}, {name}, system calls", 0)
            _count_system_calls(cell, contestant, results[name], options)
    return CellResult(cell, list(results.values()))


def _by_request(sample: Sample) -> Sample:
    """A sample whose processor time is for one request."""
    requests, elapsed_s = sample["requests"], sample["elapsed_s"]
    if not requests:
        return sample
    sample["rate"] = requests / elapsed_s
    if "cpu_s" in sample:
        sample["busy"] = sample["cpu_s"] / elapsed_s
    for name in ("cpu_s", "user_s", "system_s"):
        if sample.get(name) is not None:
            sample[name] /= requests
    return sample


def _count_system_calls(
    cell: Cell, contestant: Contestant, result: Result, options: Options
) -> None:
    """In a sample of its own: what is watched so closely is not fast."""
    try:
        sample = contestant.sample(cell, options, options.seconds_of(cell.workload), count=True)
    except Failure as exc:
        result.notes.append(f"system calls are not counted: {exc}")
        return
    if "not_counted" in sample:
        result.notes.append(f"system calls are not counted: {sample['not_counted']}")
        return
    counts = sample["syscalls"]
    result.syscalls = sum(counts.values()) / sample["requests"]
    result.syscall_counts = {
        name: count / sample["requests"]
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
    }
