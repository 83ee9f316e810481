"""A file for Perfetto (ui.perfetto.dev) or chrome://tracing from the records of a process.

The format is Chrome's "Trace Event Format": complete events ("X") with times in microseconds. Each
loop has four rows: its turns, its waits, the callbacks and events with the steps of tasks, and the
bytes that it has received and sent (counters).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]

ROWS = ("turns", "waits", "callbacks")


class Trace:
    """Collects the answers to "records", and makes one list of events of them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.events: list[Event] = []
        self.lost = 0
        self.count = 0
        self._named: set[int] = set()
        self._loops: dict[int, _LoopTrace] = {}

    def add(self, answer: dict[str, Any]) -> None:
        for loop in answer["loops"]:
            self._introduce(loop, answer["program"])
        self.lost += answer["lost"]
        self.count += len(answer["records"])
        fields = answer["fields"]
        for values in answer["records"]:
            record = dict(zip(fields, values))
            number = record["loop"]
            if number not in self._loops:
                self._loops[number] = _LoopTrace(self.pid, number)
            self.events += self._loops[number].events_of(record)

    def finish(self) -> dict[str, Any]:
        """The contents of the file."""
        for loop in self._loops.values():
            self.events += loop.end_turn()
        return {
            "traceEvents": self.events,
            "displayTimeUnit": "ns",
            "otherData": {"lost records": str(self.lost)},
        }

    def _introduce(self, loop: dict[str, Any], program: str) -> None:
        number = loop["loop"]
        if number in self._named:
            return
        if not self._named:
            self._add_name("process_name", 0, program)
        self._named.add(number)
        for i, row in enumerate(ROWS):
            thread = f" in {loop['thread']}" if loop["thread"] else ""
            self._add_name("thread_name", row_of(number, i), f"loop {number}{thread}: {row}")

    def _add_name(self, kind: str, tid: int, name: str) -> None:
        self.events.append(
            {"ph": "M", "name": kind, "pid": self.pid, "tid": tid, "ts": 0, "args": {"name": name}}
        )


def row_of(loop: int, row: int) -> int:
    return loop * 10 + row


class _LoopTrace:
    """The turn of one loop that its last record belongs to, and the waits between records."""

    def __init__(self, pid: int, number: int) -> None:
        self.pid, self._number = pid, number
        self._turn: int | None = None
        self._turn_began_ns = self._turn_ended_ns = 0
        self._idle_ns: int | None = None

    def events_of(self, record: dict[str, Any]) -> Iterable[Event]:
        began_ns, ended_ns = record["began_ns"], record["ended_ns"]
        waited_ns = 0 if self._idle_ns is None else record["idle_ns"] - self._idle_ns
        self._idle_ns = record["idle_ns"]
        if waited_ns > 0:
            # Several waits without a callback between them are shown as one.
            wait_began_ns = max(record["polled_ns"] - waited_ns, self._turn_ended_ns)
            if record["polled_ns"] > wait_began_ns:
                yield self._event("wait", 1, wait_began_ns, record["polled_ns"], {})
        if record["turn"] != self._turn:
            yield from self.end_turn()
            self._turn, self._turn_began_ns = record["turn"], began_ns
        self._turn_ended_ns = max(self._turn_ended_ns, ended_ns)
        function, file, line = record["name"]
        late_us = _us(began_ns - record["ready_ns"])
        args: dict[str, Any] = {"kind": record["kind"], "late_us": late_us}
        if file:
            args["place"] = f"{file}:{line}"
        if record["detail"] is not None:
            args["task" if record["kind"] == "step" else "protocol"] = record["detail"]
        if record["fd"] >= 0:
            args["fd"] = record["fd"]
        if record["bytes_in"]:
            args["read_bytes"] = record["bytes_in"]
        if record["bytes_out"]:
            args["written_bytes"] = record["bytes_out"]
        yield self._event(function, 2, began_ns, ended_ns, args)
        if record["bytes_in"] or record["bytes_out"]:
            yield {
                "ph": "C", "name": f"loop {self._number}: bytes", "pid": self.pid,
                "tid": row_of(self._number, 2), "ts": _us(ended_ns),
                "args": {"read": record["bytes_in"], "written": record["bytes_out"]},
            }

    def end_turn(self) -> Iterable[Event]:
        if self._turn is not None:
            yield self._event(
                f"turn {self._turn}", 0, self._turn_began_ns, self._turn_ended_ns, {}
            )
            self._turn = None

    def _event(
        self, name: str, row: int, began_ns: int, ended_ns: int, args: dict[str, Any]
    ) -> Event:
        return {
            "ph": "X", "name": name, "cat": ROWS[row], "pid": self.pid,
            "tid": row_of(self._number, row), "ts": _us(began_ns), "dur": _us(ended_ns - began_ns),
            "args": args,
        }


def _us(ns: int) -> float:
    return ns / 1000
