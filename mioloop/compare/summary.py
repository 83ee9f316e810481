"""From samples to figures: medians, ratios to the base pair by pair, and what to make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from statistics import median
from typing import Any

from mioloop.compare.loops import FLOOR
from mioloop.compare.runner import CellResult, Result, Sample
from mioloop.compare.spread import Spread, ratios, spread

LATENCIES = ("p50_s", "p99_s", "p999_s", "max_s")
BUSY = 0.95             # of a processor: whoever uses that much has no more to give
WAITED = 0.05           # of the time, for a processor: others use it too


@dataclass(frozen=True)
class Note:
    """Something to know about a figure; *amount* is what differs from one to the next."""

    text: str
    amount: str = ""


@dataclass
class Line:
    """One loop in one cell. A ratio above 1 is better than the base."""

    loop: str
    rounds: int = 0
    rate: float | None = None
    latencies_s: dict[str, float] = field(default_factory=dict)
    cpu_s: float | None = None              # for each request; user and system add up to it
    user_s: float | None = None
    system_s: float | None = None
    bytes: float | None = None              # for each connection
    syscalls: float | None = None           # for each request
    ratio: Spread | None = None             # of what the workload is judged by
    cpu_ratio: Spread | None = None
    verdict: str = ""           # faster, slower, even, too wide, base, floor, failed, skipped
    cpu_verdict: str = ""                   # less, more, even, too wide
    failed: str = ""
    skipped: str = ""
    notes: list[Note] = field(default_factory=list)


@dataclass
class CellSummary:
    name: str
    workload: str
    text: str
    size: int
    connections: int
    unit: str
    judged_by: str
    lines: list[Line]


def _values(samples: Sequence[Sample], name: str) -> list[float | None]:
    return [sample.get(name) for sample in samples]


def _median(samples: Sequence[Sample], name: str) -> float | None:
    present = [value for value in _values(samples, name) if value is not None]
    return median(present) if present else None


def _ratio(ours: Result, base: Result, name: str) -> Spread | None:
    """Round by round; what is better when it is less is turned round."""
    a, b = _values(ours.samples, name), _values(base.samples, name)
    found = ratios(a, b) if name == "rate" else ratios(b, a)
    return spread(found) if found else None


def summarize(found: CellResult, base: str, max_spread: float) -> CellSummary:
    """The figures of a cell. *max_spread* is the widest interval of a ratio, as a share of it,
    from which anything is concluded."""
    workload = found.cell.workload
    base_result = next((result for result in found.results if result.loop == base), None)
    lines = []
    for result in found.results:
        line = Line(
            result.loop,
            rounds=len(result.samples),
            syscalls=result.syscalls,
            failed=result.failed,
            skipped=result.skipped,
            notes=[Note(text) for text in result.notes],
        )
        lines.append(line)
        if result.failed or not result.samples:
            line.verdict = "failed" if result.failed else "skipped"
            continue
        samples = result.samples
        line.rate = _median(samples, "rate")
        line.cpu_s = _median(samples, "cpu_s")
        line.user_s = _median(samples, "user_s")
        line.system_s = _median(samples, "system_s")
        line.bytes = _median(samples, "bytes")
        for name in LATENCIES:
            if (value := _median(samples, name)) is not None:
                line.latencies_s[name] = value
        if base_result is not None and not base_result.failed and result is not base_result:
            line.ratio = _ratio(result, base_result, workload.judged_by)
            if workload.judged_by == "rate":
                line.cpu_ratio = _ratio(result, base_result, "cpu_s")
        if result.loop in (base, FLOOR):
            line.verdict = "base" if result.loop == base else "floor"
        else:
            line.verdict = _verdict(line.ratio, max_spread, "faster", "slower")
            line.cpu_verdict = _verdict(line.cpu_ratio, max_spread, "less", "more")
        line.notes += _notes(line, samples, max_spread)
    return CellSummary(
        found.cell.name, workload.name, workload.text, found.cell.size, found.cell.connections,
        workload.unit, workload.judged_by, lines,
    )


def _verdict(ratio: Spread | None, max_spread: float, better: str, worse: str) -> str:
    if ratio is None:
        return ""
    if ratio.width > max_spread:
        return "too wide"
    if ratio.low > 1:
        return better
    return worse if ratio.high < 1 else "even"


def _notes(line: Line, samples: Sequence[Sample], max_spread: float) -> list[Note]:
    notes = []
    if line.verdict == "too wide" and line.ratio is not None:
        text = (
            f"the spread is wider than {max_spread:.0%}, so nothing is concluded:"
            " measure longer, or on a quieter machine"
        )
        notes.append(Note(text, f"{line.ratio.width:.0%}"))
    client, ours = _median(samples, "client_busy"), _median(samples, "busy")
    if client is not None and client > BUSY and (ours is None or ours < BUSY):
        notes.append(Note("the load generator limits the rate: go by the CPU for each"))
    waited = _median(samples, "waited")
    if waited is not None and waited > WAITED:
        notes.append(Note("it waited for a processor that others used", f"{waited:.0%}"))
    if early := _median(samples, "early"):
        notes.append(Note("timers fired early", f"{early:.0%}"))
    return notes


@dataclass
class Standing:
    """One loop over all cells."""

    loop: str
    faster: int = 0
    even: int = 0
    slower: int = 0
    too_wide: int = 0
    failed: int = 0
    less_cpu: int = 0
    more_cpu: int = 0
    mean_ratio: float | None = None         # geometric, of what is judged
    mean_cpu_ratio: float | None = None


def standings(cells: Iterable[CellSummary], base: str) -> list[Standing]:
    """How often each loop is better than the base, and by how much on the whole."""
    found: dict[str, Standing] = {}
    rates: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    for cell in cells:
        for line in cell.lines:
            if line.loop in (base, FLOOR):
                continue
            standing = found.setdefault(line.loop, Standing(line.loop))
            name = line.verdict.replace(" ", "_")
            if name in ("faster", "even", "slower", "too_wide", "failed"):
                setattr(standing, name, getattr(standing, name) + 1)
            standing.less_cpu += line.cpu_verdict == "less"
            standing.more_cpu += line.cpu_verdict == "more"
            for into, ratio in ((rates, line.ratio), (cpus, line.cpu_ratio)):
                if ratio is not None and ratio.median > 0:
                    into.setdefault(line.loop, []).append(ratio.median)
    for loop, standing in found.items():
        standing.mean_ratio = _geometric_mean(rates.get(loop, []))
        standing.mean_cpu_ratio = _geometric_mean(cpus.get(loop, []))
    return list(found.values())


def _geometric_mean(values: Sequence[float]) -> float | None:
    return exp(sum(map(log, values)) / len(values)) if values else None


def as_json(
    environment: dict[str, Any],
    options: dict[str, Any],
    cells: Sequence[tuple[CellResult, CellSummary]],
    standing: Sequence[Standing],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """All of it: figures, and the samples they were made from."""
    made = []
    for found, summary in cells:
        cell = asdict(summary)
        for line, result in zip(cell["lines"], found.results):
            line["samples"] = result.samples
            line["syscall_counts"] = result.syscall_counts
        made.append(cell)
    return {
        "version": 1,
        "environment": environment,
        "options": options,
        "cells": made,
        "standings": [asdict(each) for each in standing],
        "warnings": list(warnings),
    }
