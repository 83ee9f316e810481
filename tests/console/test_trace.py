"""trace writes a file in Chrome's trace event format, with rows that nest."""

from __future__ import annotations

import json
import numbers

import pytest

from mioloop import __main__ as command
from mioloop.console import cli, client
from mioloop.console.trace import ROWS, row_of


def check(trace):
    """The rules of the Trace Event Format for the events that are used."""
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in trace["otherData"].values())
    for event in trace["traceEvents"]:
        assert event["ph"] in ("X", "M", "C"), event
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["ts"], numbers.Real) and event["ts"] >= 0
        assert isinstance(event["args"], dict)
        if event["ph"] == "X":
            assert isinstance(event["dur"], numbers.Real) and event["dur"] >= 0
            assert event["cat"] in ROWS
        elif event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
        else:
            assert all(isinstance(value, numbers.Real) for value in event["args"].values())
    check_nesting([each for each in trace["traceEvents"] if each["ph"] == "X"])


def check_nesting(events):
    """In each row an event is inside another one or after it: viewers draw nothing else."""
    open_until: dict[int, list[float]] = {}
    for each in sorted(events, key=lambda each: (each["tid"], each["ts"], -each["dur"])):
        outer = open_until.setdefault(each["tid"], [])
        while outer and outer[-1] <= each["ts"] + 0.0005:
            outer.pop()
        assert not outer or each["ts"] + each["dur"] <= outer[-1] + 0.0005, each
        outer.append(each["ts"] + each["dur"])


def exchange(server, times):
    with server.connect() as sock:
        for _ in range(times):
            sock.sendall(b"hello\n")
            assert sock.recv(100) == b"hello\n"


def trace_of(server, work):
    with client.connect(server.pid) as connection:
        trace = cli.Trace(connection.pid)
        trace.add(connection.ask("records"))
        work()
        trace.add(connection.ask("records"))
    return json.loads(json.dumps(trace.finish()))


def row(trace, number):
    return [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == row_of(1, number)]


def test_turns_waits_steps_reads_and_writes_are_in_the_trace(server):
    trace = trace_of(server, lambda: exchange(server, 50))
    check(trace)
    turns, waits, callbacks = (row(trace, i) for i in range(3))
    assert len(turns) >= 50 and waits       # a slow machine need not wait each time
    steps = [each for each in callbacks if each["name"] == "serve"]
    assert len(steps) >= 50
    assert sum(each["args"].get("written_bytes", 0) for each in steps) == 300
    reads = [each for each in callbacks if "read_bytes" in each["args"]]
    assert sum(each["args"]["read_bytes"] for each in reads) == 300
    assert all(each["args"]["protocol"] == "StreamReaderProtocol" for each in reads)


def test_each_callback_is_inside_a_turn_and_outside_of_each_wait(server):
    trace = trace_of(server, lambda: exchange(server, 20))
    turns, waits, callbacks = (
        [(each["ts"], each["ts"] + each["dur"]) for each in row(trace, i)] for i in range(3)
    )
    for began, ended in callbacks:
        assert any(a - 0.001 <= began and ended <= b + 0.001 for a, b in turns)
        assert not any(a + 0.001 < ended and began < b - 0.001 for a, b in waits)


def test_a_traced_program_answers_as_one_that_is_not(server):
    with client.connect(server.pid) as connection:
        connection.ask("records")
        exchange(server, 200)
        connection.ask("records")
    exchange(server, 200)


def test_the_command_writes_the_file(server, tmp_path, capsys):
    path = tmp_path / "out.json"
    exchange(server, 1)
    status = command.main(["trace", str(server.pid), "-o", str(path), "--seconds", "0.3"])
    assert status == 0
    assert capsys.readouterr().out.startswith(f"{path}: ")
    check(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--seconds", "0"], "'0' is not a number of seconds"),
        (["--seconds", "x"], "'x' is not a number of seconds"),
        (["-o", "/no/such/directory/x"], "/no/such/directory/x cannot be written"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_recording(server, capsys, arguments, error):
    with pytest.raises(SystemExit) as exit:
        command.main(["trace", str(server.pid), *arguments])
    assert exit.value.code == 2 and error in capsys.readouterr().err
