"""The recording of callbacks, steps and events, while a client asks for it (loop/tracing.pyx).

A loop records in a ring in C. The thread of the console empties the rings `LOOK_S` apart, and gives
the records to each subscriber. A subscriber that has not asked for `PATIENCE_S` is dropped: so a
stopped client does not keep a loop recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from mioloop.console.tasks import stack_of

if TYPE_CHECKING:
    from mioloop.loop.event_loop import EventLoop

LOOK_S = 0.05
PATIENCE_S = 10.0
PIECE = 2048            # records that are taken at a time: other threads may run between
MOST_KEPT = 200_000     # records that wait for the client that traces
LONG_STEP_NS = 50_000_000
MOST_LONG_STEPS = 50
MOST_FRAMES = 5         # of a long step, the innermost


class Record(NamedTuple):
    """As TracingReactor._take_records() returns it."""

    kind: str
    began_ns: int
    ended_ns: int
    ready_ns: int
    turn: int
    polled_ns: int
    idle_ns: int
    bytes_in: int
    bytes_out: int
    spins: bool
    fd: int
    task: int
    name: CodeType | str
    detail: str | None


def place_of(name: CodeType | str) -> tuple[str, str, int]:
    """The function, its file and its first line; an empty file for a name."""
    if isinstance(name, str):
        return name, "", 0
    return getattr(name, "co_qualname", name.co_name), name.co_filename, name.co_firstlineno


class Subscriber:
    """A client that asks for records."""

    def __init__(self) -> None:
        self.asked_at = time.monotonic()

    def take(self, loop: int, records: list[Record], lost: int) -> None:
        raise NotImplementedError

    def see(self, loop: int, began_ns: int, stack: list[dict[str, Any]]) -> None:
        """A callback that has taken long already executes *stack*."""


class Recorder:
    """Lets the loops record while there are subscribers. Used by the thread of the console."""

    def __init__(self, loops: Callable[[], dict[int, EventLoop]]) -> None:
        self._loops = loops
        self._subscribers: list[Subscriber] = []

    @property
    def is_on(self) -> bool:
        return bool(self._subscribers)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._subscribers

    def subscribe(self, subscriber: Subscriber) -> None:
        self.look()                         # the records until now are not for it
        self._subscribers.append(subscriber)
        self.look()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            if not self._subscribers:
                for loop in self._loops().values():
                    loop._record(False)

    def look(self) -> None:
        """Let new loops record, and pass the records on."""
        if not self._subscribers:
            return
        late = time.monotonic() - PATIENCE_S
        for subscriber in [each for each in self._subscribers if each.asked_at < late]:
            self.unsubscribe(subscriber)
        for number, loop in self._loops().items():
            if not self._subscribers:
                return
            loop._record(True)
            self._look_at_long_step(number, loop)
            taken = PIECE
            while taken == PIECE:
                records, lost = loop._take_records(PIECE)
                taken = len(records)
                named = [Record._make(record) for record in records]
                for subscriber in self._subscribers:
                    subscriber.take(number, named, lost)


    def _look_at_long_step(self, number: int, loop: EventLoop) -> None:
        under_way = loop._under_way()
        if under_way is not None and time.monotonic_ns() - under_way[0] >= LONG_STEP_NS:
            stack = stack_of(loop)[-MOST_FRAMES:]
            for subscriber in self._subscribers:
                subscriber.see(number, under_way[0], stack)


class Tracing(Subscriber):
    """Keeps the records of each loop until the client takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, Record]] = []
        self.lost = 0

    def take(self, loop: int, records: list[Record], lost: int) -> None:
        room = MOST_KEPT - len(self.records)
        self.records += [(loop, record) for record in records[:room]]
        self.lost += lost + max(0, len(records) - room)


class FunctionFigures:
    """The steps of one coroutine function, or the calls of one callback."""

    def __init__(self, record: Record) -> None:
        self.name = record.name             # also keeps the id of a code object in use
        self.kind = record.kind
        self.detail = record.detail if record.kind == "event" else None
        self.count = self.spins = 0
        self.total_ns = self.longest_ns = 0
        self.late_ns = self.latest_ns = 0

    def add(self, record: Record) -> None:
        took_ns, late_ns = record.ended_ns - record.began_ns, record.began_ns - record.ready_ns
        self.count += 1
        self.spins += record.spins
        self.total_ns += took_ns
        self.late_ns += late_ns
        self.longest_ns = max(self.longest_ns, took_ns)
        self.latest_ns = max(self.latest_ns, late_ns)

    def described(self) -> dict[str, Any]:
        function, file, line = place_of(self.name)
        return {
            "function": function if self.detail is None else f"{function} of {self.detail}",
            "file": file, "line": line, "kind": self.kind, "count": self.count,
            "spins": self.spins, "total_ns": self.total_ns, "longest_ns": self.longest_ns,
            "late_ns": self.late_ns, "latest_ns": self.latest_ns,
        }


class Summing(Subscriber):
    """Sums the records up by function between two requests, and keeps the long steps."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: dict[int, dict[Any, FunctionFigures]] = {}
        self.long_steps: dict[int, list[dict[str, Any]]] = {}
        self._seen: dict[int, tuple[int, list[dict[str, Any]]]] = {}
        self.spinning: dict[tuple[int, int], int] = {}      # spins in a row by loop and task
        self.lost = 0

    def take(self, loop: int, records: list[Record], lost: int) -> None:
        functions = self.functions.setdefault(loop, {})
        self.lost += lost
        for record in records:
            name = record.name
            key = (
                name if isinstance(name, str) else id(name),
                record.detail if record.kind == "event" else None,
            )
            figures = functions.get(key)
            if figures is None:
                figures = functions[key] = FunctionFigures(record)
            figures.add(record)
            if record.task:
                self._count_spins(loop, record)
            if record.ended_ns - record.began_ns >= LONG_STEP_NS:
                self._keep(loop, record)

    def see(self, loop: int, began_ns: int, stack: list[dict[str, Any]]) -> None:
        self._seen[loop] = (began_ns, stack)

    def _count_spins(self, loop: int, record: Record) -> None:
        key = (loop, record.task)
        if record.spins:
            self.spinning[key] = self.spinning.get(key, 0) + 1
        elif key in self.spinning:
            del self.spinning[key]

    def _keep(self, loop: int, record: Record) -> None:
        function, file, line = place_of(record.name)
        began_ns, stack = self._seen.get(loop, (0, []))
        steps = self.long_steps.setdefault(loop, [])
        steps.append({
            "function": function, "file": file, "line": line, "kind": record.kind,
            "detail": record.detail, "began_ns": record.began_ns,
            "took_ns": record.ended_ns - record.began_ns,
            "stack": stack if began_ns == record.began_ns else [],
        })
        del steps[:-MOST_LONG_STEPS]

    def functions_of(self, loop: int) -> list[dict[str, Any]]:
        """The functions of *loop* since the last call, the one with the most time first."""
        found = [each.described() for each in self.functions.pop(loop, {}).values()]
        return sorted(found, key=lambda each: -each["total_ns"])
