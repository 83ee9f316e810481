"""The output of `ps` and `stack` as plain text."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable, Iterator
from typing import Any

from mioloop.console.client import Answer, Connection, ConsoleError
from mioloop.console.deltas import percentile, since, utilization

LONGEST_PROGRAM = 100
NO_LOOP = "no process of this user has a loop with a console"


def ask_all(connections: Iterable[Connection], errors: list[str]) -> dict[int, Answer]:
    """The answers to "loops" by pid. *errors* gets a line for each process without an answer."""
    found = {}
    for connection in connections:
        try:
            found[connection.pid] = connection.ask("loops")
        except ConsoleError as exc:
            errors.append(str(exc))
    return found


def rows_of_loops(before: dict[int, Answer], now: dict[int, Answer]) -> list[dict[str, Any]]:
    """One row for each loop: how busy and how late it was between two answers."""
    rows = []
    for pid, answer in now.items():
        earlier = {each["loop"]: each for each in before.get(pid, {"loops": []})["loops"]}
        for loop in answer["loops"]:
            change = since(earlier.get(loop["loop"]), loop)
            stats = loop["stats"]
            rows.append({
                "pid": pid,
                "program": answer["program"],
                "loop": loop["loop"],
                "thread": loop["thread"],
                "running": loop["running"],
                "utilization": utilization(change),
                "late_p99_s": percentile(change["turns"], 99),
                "late_p99_ever_s": percentile(loop["turns"], 99),
                "tasks": loop["tasks"],
                "transports": stats["streams"] + stats["datagrams"] + stats["pipes"],
                "listeners": stats["listeners"],
            })
    return rows


def table_of_loops(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return NO_LOOP
    lines = [["PID", "LOOP", "BUSY", "LATE P99", "TASKS", "TRANSPORTS", "THREAD", "PROGRAM"]]
    for row in rows:
        lines.append([
            str(row["pid"]), str(row["loop"]),
            f"{row['utilization']:.0%}" if row["running"] else "stopped",
            seconds(row["late_p99_ever_s"]), str(row["tasks"]), str(row["transports"]),
            clean(row["thread"] or "-"), clean(row["program"])[:LONGEST_PROGRAM],
        ])
    return "\n".join(columns(lines, right=6))


def columns(lines: list[list[str]], right: int) -> Iterator[str]:
    """Align the columns: the first *right* of them to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        cells = [
            cell.rjust(width) if i < right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ]
        yield "  ".join(cells).rstrip()


def clean(text: str) -> str:
    """Replace each control character, with which a name could change the terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def seconds(value: float) -> str:
    """The duration in a unit that needs few digits."""
    if value >= 1:
        return f"{value:.2f} s"
    if value >= 0.001:
        return f"{value * 1e3:.1f} ms"
    return f"{value * 1e6:.0f} us"


# -- ps PID --------------------------------------------------------------------------------------


def task_trees(answer: Answer) -> str:
    lines = []
    for loop in answer["loops"]:
        tasks = loop["tasks"]
        count = loop["count"]
        lines.append(f"{head_of(answer, loop)}: {count} task{'s' * (count != 1)}")
        lines += trees_of(tasks)
        if len(tasks) < count:
            lines.append(f"... and {count - len(tasks)} more")
        lines += [clean(f"! {each['text']}") for each in loop["findings"]]
    return "\n".join(lines) if lines else NO_LOOP


def trees_of(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """A tree for each task that no task waits for; below a task, the tasks that it waits for.

    A task that several tasks wait for is shown once in full. So is a circle of tasks that wait for
    each other.
    """
    by_id = {task["id"]: task for task in tasks}
    waits_for: dict[int, list[dict[str, Any]]] = {task["id"]: [] for task in tasks}
    for task in tasks:
        for awaiter in task["awaited_by"]:
            if awaiter in waits_for:
                waits_for[awaiter].append(task)
    roots = [task for task in tasks if not any(each in by_id for each in task["awaited_by"])]
    shown: set[int] = set()
    for task in [*roots, *tasks]:
        if task["id"] in shown:
            continue
        # A stack instead of recursion: a chain of tasks may be longer than Python's stack.
        waiting: list[tuple[dict[str, Any], str, str]] = [(task, "", "")]
        while waiting:
            each, first, rest = waiting.pop()
            again = each["id"] in shown
            shown.add(each["id"])
            yield f"{first}{title_of(each)}{' (shown above)' if again else ''}"
            if again:
                continue
            below = waits_for[each["id"]]
            for frame in each["stack"]:
                yield f"{rest}{'│ ' if below else '  '}  {place_of(frame)}"
            for i in reversed(range(len(below))):
                last = i == len(below) - 1
                waiting.append((
                    below[i], rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
                ))


def title_of(task: dict[str, Any]) -> str:
    state = task["state"]
    if task["waits_for"] is not None and task["waits_for"] not in ("Future", "Task"):
        state += f" for a {task['waits_for']}"
    return clean(f"{task['name']} {task['coroutine']}() {state}")


# -- stack ---------------------------------------------------------------------------------------


def stacks(answer: Answer) -> str:
    lines = []
    for loop in answer["loops"]:
        state = "stopped"
        if loop["running"]:
            state = "waits for events" if loop["waits"] else "executes"
        task = f", task {loop['task']!r}" if loop["task"] is not None else ""
        lines.append(f"{head_of(answer, loop)}: {state}{task}")
        for frame in loop["stack"]:
            lines.append(f"  {place_of(frame)}")
            source = source_of(frame)
            if source:
                lines.append(f"    {source}")
    return "\n".join(lines) if lines else NO_LOOP


def source_of(frame: dict[str, Any]) -> str:
    """The line of the file, if this process can read it. A pipe would block."""
    if not os.path.isfile(frame["file"]):
        return ""
    return clean(linecache.getline(frame["file"], frame["line"]).strip())


def head_of(answer: Answer, loop: dict[str, Any]) -> str:
    thread = f" in {clean(loop['thread'])}" if loop["thread"] else ""
    return f"process {answer['pid']}, loop {loop['loop']}{thread}"


def place_of(frame: dict[str, Any]) -> str:
    return clean(f"{frame['file']}:{frame['line']} in {frame['function']}()")
