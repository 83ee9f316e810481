"""Runs the cases: starts the processes, interleaves the rounds, and collects the samples.

In each round every loop has a turn, and every second round runs in the opposite order, so that a
machine that slows down slows all loops equally. Warm-up turns are not counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mioloop.compare.measure.processes import Failure
from mioloop.compare.measure.samplers import Makers, Options, Sample, Sampler
from mioloop.compare.measure.workloads import Case, Workload


@dataclass
class Result:
    """The samples and the failure of one loop in one case."""

    loop: str
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""
    syscalls: float | None = None           # per request
    syscall_counts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class CaseResult:
    case: Case
    results: list[Result] = field(default_factory=list)


@contextlib.contextmanager
def _running_samplers(
    makers: Makers, names: Sequence[str]
) -> Iterator[dict[str, Sampler | Failure]]:
    """The started samplers by name, with a Failure in place of one that could not start."""
    made: dict[str, Sampler | Failure] = {}
    try:
        for name, make in zip(names, makers):       # start all of them ...
            try:
                made[name] = make()
            except Failure as exc:
                made[name] = exc
        for name in names:                          # ... before waiting for each
            sampler = made[name]
            if isinstance(sampler, Failure):
                continue
            try:
                sampler.ready()
            except Failure as exc:
                sampler.stop()
                made[name] = exc
        yield made
    finally:
        for sampler in made.values():
            if not isinstance(sampler, Failure):
                sampler.stop()


def run(
    cases: Sequence[Case],
    samplers: Callable[[Workload], tuple[list[str], Makers]],
    options: Options,
    progress: Callable[[str, float], None],
) -> list[CaseResult]:
    """Run all cases; cases of one workload use the same processes.

    Before each sample, `progress` is called with a text and the expected seconds.
    """
    results: list[CaseResult] = []
    groups: list[list[Case]] = []
    for case in cases:
        shared = groups and (
            groups[-1][0].workload.name == case.workload.name
            or _share_a_process(groups[-1][0].workload, case.workload)
        )
        if shared:
            groups[-1].append(case)
        else:
            groups.append([case])
    for group in groups:
        names, makers = samplers(group[0].workload)
        if time.monotonic() > options.deadline:
            results += [_skipped(case, names) for case in group]
            continue
        with _running_samplers(makers, names) as made:
            for case in group:
                if time.monotonic() > options.deadline:
                    results.append(_skipped(case, names))
                else:
                    results.append(measure(case, made, options, progress))
    return results


def _share_a_process(one: Workload, other: Workload) -> bool:
    """In-process workloads leave nothing behind, so one process of each loop runs them all.

    Except scaling: memory that the allocator keeps of a million timers would help the next."""
    return one.side == other.side == "in_process" and one.family == other.family == ""


def _skipped(case: Case, names: Sequence[str]) -> CaseResult:
    return CaseResult(case, [Result(name, skipped="no time was left") for name in names])


def turns_of(case: Case, options: Options) -> list[float]:
    """The length of each turn: a warm-up, unless the load generator warms up, then the rounds."""
    rounds = [options.seconds_of(case.workload)] * options.rounds_of(case.workload)
    return [options.warm_s, *rounds] if _warms_up(case.workload) else rounds


def _warms_up(workload: Workload) -> bool:
    return workload.side in ("in_process", "client")


def expected_s(case: Case, options: Options, seconds: float) -> float:
    """A rough estimate of the time that a sample takes, for the progress bar."""
    side = case.workload.side
    if side == "idle":      # each sample starts a server, and opens all connections
        return 0.5 + case.connections * (7e-4 if case.workload.tls else 5e-5)
    if side == "in_process":
        return max(seconds, case.timers * 3e-6)
    return seconds + options.warm_s + case.connections * 1e-4


def measure(
    case: Case,
    made: dict[str, Sampler | Failure],
    options: Options,
    progress: Callable[[str, float], None],
) -> CaseResult:
    """Run all rounds of one case."""
    results = {
        name: Result(name, failed=str(sampler) if isinstance(sampler, Failure) else "")
        for name, sampler in made.items()
    }
    first_counted = int(_warms_up(case.workload))
    for turn, seconds in enumerate(turns_of(case, options)):
        order = list(made) if turn % 2 == 0 else list(reversed(made))
        for name in order:
            result, sampler = results[name], made[name]
            progress(f"{case.name}, {name}", expected_s(case, options, seconds))
            if isinstance(sampler, Failure) or result.failed:
                continue
            try:
                sample = sampler.sample(case, options, seconds)
            except Failure as exc:
                result.failed = str(exc)
                continue
            if turn >= first_counted:
                result.samples.append(_by_request(sample))
    if options.syscalls and case.workload.side not in ("idle", "quiet", "import"):
        for name, sampler in made.items():
            if isinstance(sampler, Failure) or results[name].failed:
                continue
            progress(f"{case.name}, {name}, system calls", 0)
            _count_system_calls(case, sampler, results[name], options)
    return CaseResult(case, list(results.values()))


def _by_request(sample: Sample) -> Sample:
    """Turn the processor time of a sample into the time of one request, and add the rate."""
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
    case: Case, sampler: Sampler, result: Result, options: Options
) -> None:
    """Count in a separate sample, because strace slows the process down."""
    try:
        sample = sampler.sample(case, options, options.seconds_of(case.workload), count=True)
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
