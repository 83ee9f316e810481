"""What mioloop is to reach against uvloop, and what was measured of it.

The figures hold for CPython 3.13 and, of servers, 64 connections and 1 KiB unless said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mioloop.compare.measure.workloads import KIB
from mioloop.compare.report.figures import Outcome, seconds, times
from mioloop.compare.report.statistics import Spread
from mioloop.compare.report.summary import CaseSummary, Line

OURS, BASE = "mioloop", "uvloop"
NOT_MEASURED = "not measured"
LATE_S = 100e-6         # a sleep of 100 us takes under 200 us


@dataclass(frozen=True)
class Goal:
    """One line of the table, for one case.

    `ratio` is that to uvloop, by requests/s or by CPU for each, whichever is the steadier;
    `over_baseline` how much more CPU than the C baseline it may take; `bytes` the most each may.
    `best` is what the best other loop reached where the goals were set: on a noisy machine with
    two processors.
    """

    text: str
    workload: str
    ratio: float | None = None
    over_baseline: float | None = None
    bytes: int | None = None
    on_time: bool = False
    case: tuple[int, int] = (0, 0)          # size and connections
    best: str = ""

    @property
    def wanted(self) -> str:
        parts = []
        if self.ratio is not None:
            parts.append("at most uvloop's" if self.workload == "idle" else f"{self.ratio:.2f}x")
        if self.over_baseline is not None:
            parts.append(f"CPU within {self.over_baseline:.0%} of the baseline")
        if self.bytes is not None:
            parts.append(f"at most {self.bytes / KIB:g} KiB")
        if self.on_time:
            parts.append("never early, less than 100 us late")
        return ", ".join(parts)


_ECHO = (KIB, 64)

GOALS = (
    Goal(
        "Protocol echo 1 KiB", "echo-protocol", 1.20, over_baseline=0.05, case=_ECHO,
        best="zloop 1.45 in a noisy run; baseline 1.47",
    ),
    Goal(
        "Protocol echo 100 KiB", "echo-protocol", 1.90, over_baseline=0.07, case=(100 * KIB, 64),
        best="zloop 1.89; baseline 2.0",
    ),
    Goal("BufferedProtocol echo", "echo-buffered", 1.25, case=_ECHO),
    Goal("streams echo", "echo-streams", 1.70, case=_ECHO, best="blazio 1.56"),
    Goal("`sock_*` echo", "echo-sock", 2.00, case=_ECHO, best="rloop 1.84"),
    Goal("UDP echo", "udp", 1.50, case=_ECHO, best="rloop 1.38"),
    Goal(
        "TLS echo", "tls", 3.00, case=_ECHO,
        best="aiofastnet over uvloop 2.83 (13 us CPU a message against 41), blazio 2.34",
    ),
    Goal(
        "HTTP protocol, split writes", "http-split", 1.60, case=(0, 64),
        best="blazio 1.58 (single write)",
    ),
    Goal(
        "aiohttp server", "aiohttp-server", 1.40, case=(0, 64),
        best="CPU a request: blazio 20.5 us, zuvloop 21.6, uvloop 29.2, asyncio 31.5;"
        " without client and framework the baseline is 4.7",
    ),
    Goal(
        "connect-echo-close", "connect", 1.30, case=_ECHO,
        best="blazio 1.25, zuvloop 1.19 (CPython 3.14)",
    ),
    Goal("`call_soon` chain", "call-soon-chain", 4.50, best="blazio 4.27"),
    Goal("`call_soon` batch", "call-soon-batch", 2.00, best="rloop 1.71"),
    Goal("`sleep(0)`", "sleep-0", 2.50, best="rloop 2.35"),
    Goal("task create+gather", "task-create", 1.15, best="uvloop 1.0"),
    Goal("task switch among 100", "task-switch", 1.30, best="rloop 1.19"),
    Goal("timers create+cancel", "timers-cancelled", 3.00, best="rloop 2.59"),
    Goal("timers fire", "timers-fired", 2.00, best="zloop 1.75"),
    Goal("`wait_for`", "wait-for", 1.60, best="blazio 1.52"),
    Goal("`call_soon_threadsafe`", "call-soon-threadsafe", 2.20, best="rloop 1.90"),
    Goal("socketpair by `sock_*`", "socketpair", 2.20, best="blazio 1.98"),
    Goal("memory per idle connection", "idle", 1.00, case=(KIB, 10_000)),
    Goal(
        "memory per idle TLS connection", "idle-tls", bytes=25 * KIB,
        case=(KIB, 10_000),
        best="uvloop 25 KiB, aiofastnet over uvloop 50, asyncio and the rest 280",
    ),
    Goal(
        "timers of 100 us", "timer-accuracy", on_time=True,
        best="loopmini 130 us, uvloop 0 (early)",
    ),
)


def _steadier(line: Line) -> Spread | None:
    found = [ratio for ratio in (line.ratio, line.cpu_ratio) if ratio is not None]
    return min(found, key=lambda ratio: ratio.width, default=None)


def _judge(goal: Goal, line: Line) -> tuple[str, bool]:
    """What was measured, in words, and whether it is enough."""
    parts, reached = [], []
    if goal.ratio is not None:
        steadier = _steadier(line)
        if steadier is None:
            return "no ratio: uvloop has no figure", False
        reached.append(steadier.median >= goal.ratio)
        if line.bytes is not None:
            parts.append(f"{line.bytes / KIB:.1f} KiB, {times(line.ratio)}")
        else:
            parts.append(f"{times(line.ratio)} by rate, {times(line.cpu_ratio) or '-'} by CPU")
    if goal.over_baseline is not None:
        if line.over_baseline is None:
            parts.append("no baseline")
            reached.append(False)
        else:
            parts.append(f"CPU {line.over_baseline.median - 1:+.0%} against the baseline")
            reached.append(line.over_baseline.median <= 1 + goal.over_baseline)
    if goal.bytes is not None and line.bytes is not None:
        parts.append(f"{line.bytes / KIB:.1f} KiB")
        reached.append(line.bytes <= goal.bytes)
    if goal.on_time:
        late_s = line.latencies_s["p50_s"]
        parts.append(f"{line.early or 0:.0%} early, {seconds(late_s)} late (p50)")
        reached.append(not line.early and late_s < LATE_S)
    return "; ".join(parts), all(reached)


def compare(cases: Iterable[CaseSummary]) -> list[Outcome]:
    """Every goal, and what was measured of it against uvloop as the base."""
    lines = {
        (case.workload, case.size, case.connections): {line.loop: line for line in case.lines}
        for case in cases
    }
    found = []
    for goal in GOALS:
        line = lines.get((goal.workload, *goal.case), {}).get(OURS)
        if line is None or line.skipped or not (line.rounds or line.failed):
            measured, verdict = "", NOT_MEASURED
        elif line.failed:
            measured, verdict = line.failed, "failed"
        else:
            measured, reached = _judge(goal, line)
            verdict = "reached" if reached else "missed"
        found.append(Outcome(goal.text, goal.wanted, measured, verdict, goal.best))
    return found


def are_comparable(base: str, cases: Iterable[CaseSummary]) -> bool:
    """Whether there is anything to say: mioloop was measured, against uvloop."""
    return base == BASE and any(line.loop == OURS for case in cases for line in case.lines)
