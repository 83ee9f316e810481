"""The table: the figures of each loop, for one program and one set of requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from rich import box
from rich.table import Table

from .checks import CheckResult
from .load import Load


@dataclass
class Outcome:
    """All results of one loop."""

    loop_name: str
    check: CheckResult = field(default_factory=CheckResult)
    loads: list[Load] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)    # the server's, in each of `loads`
    failures: list[str] = field(default_factory=list)   # the server's or the load generator's

    @property
    def requests(self) -> int:
        return self.check.requests + sum(load.requests for load in self.loads)

    @property
    def errors(self) -> int:
        unanswered = sum(load.requests == 0 for load in self.loads)
        return (
            len(self.check.errors)
            + sum(load.errors for load in self.loads)
            + len(self.failures)
            + unanswered
        )

    @property
    def messages(self) -> list[str]:
        return [*self.failures, *self.check.errors]


def table_of(outcomes: list[Outcome]) -> Table:
    """One row a loop; the figures are the medians of its runs under load."""
    table = Table(
        title="One aiohttp program, several event loops",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),       # fits 80 columns
    )
    table.add_column("loop", no_wrap=True)
    for heading in ("requests", "errors", "requests/s", "p50", "p99", "CPU per request"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(outcome.loop_name, *_cells(outcome), style="red" if outcome.errors else None)
    return table


def _cells(outcome: Outcome) -> list[str]:
    loads = [load for load in outcome.loads if load.requests]
    cells = [f"{outcome.requests:,}", f"{outcome.errors:,}"]
    if not loads:
        return [*cells, "-", "-", "-", "-"]
    cpu = "-"
    if len(outcome.cpu_s) == len(outcome.loads):
        per_request_s = [
            cpu_s / load.requests
            for cpu_s, load in zip(outcome.cpu_s, outcome.loads)
            if load.requests
        ]
        cpu = f"{median(per_request_s) * 1e6:.1f} us"
    return [
        *cells,
        f"{median(load.requests / load.seconds for load in loads):,.0f}",
        f"{median(load.p50_s for load in loads) * 1e3:.2f} ms",
        f"{median(load.p99_s for load in loads) * 1e3:.2f} ms",
        cpu,
    ]
