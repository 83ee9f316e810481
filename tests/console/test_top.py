"""top shows which functions take the time, and the line that blocks the loop."""

from __future__ import annotations

import io
import json
import os
import time

import pytest

from mioloop.console import client, recorder
from mioloop.console.deltas import difference, percentile
from mioloop.console.recorder import LONG_STEP_NS, Record, Summing
from mioloop.console.watch import Watch, sparkline


def block(server, connection, watch):
    """Block the loop until the console has seen it. Return the figures of when it has ended."""
    watch.add(connection.ask("top"))
    with server.blocked():
        while connection.ask("top")["loops"][0]["under_way"]["since_ns"] <= LONG_STEP_NS:
            pass
        connection.ask("top")
    while True:
        figures = watch.add(connection.ask("top"))
        if figures["loops"][0]["long_steps"]:
            return figures


def test_the_function_and_the_line_that_block_are_shown(server):
    watch = Watch()
    with client.connect(server.pid) as connection:
        (loop,) = block(server, connection, watch)["loops"]
    (first,) = [each for each in loop["functions"] if each["longest_ns"] > LONG_STEP_NS]
    assert first["function"] == "serve" and first["kind"] == "step"
    (step,) = loop["long_steps"]
    assert [frame["function"] for frame in step["stack"]][-2:] == ["block", "wait_for_the_test"]
    assert [each["kind"] for each in loop["findings"]] == ["long step"]


def test_a_loop_that_is_blocked_now_is_shown_with_its_stack(server):
    watch = Watch()
    with client.connect(server.pid) as connection:
        watch.add(connection.ask("top"))
        with server.blocked():
            watch.add(connection.ask("top"))
            (loop,) = watch.add(connection.ask("top"))["loops"]
            assert loop["blocked"] and loop["utilization"] == 1.0
            assert loop["stack"][-1]["function"] == "wait_for_the_test"
            assert loop["under_way"]["function"] == "serve"
        (loop,) = watch.add(connection.ask("top"))["loops"]
        assert not loop["blocked"]


def test_a_loop_records_only_while_a_client_asks(sockets):
    import mioloop

    loop = mioloop.new_event_loop(console=True)
    try:
        with client.connect(os.getpid()) as connection:
            connection.ask("top")
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert connection.ask("top")["loops"][0]["functions"]
        while client_is_served(loop):
            pass
    finally:
        loop.close()


def client_is_served(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()
    return loop._take_records(1)[0]


def test_a_client_that_does_not_ask_any_more_is_forgotten(monkeypatch):
    monkeypatch.setattr(recorder, "PATIENCE_S", 0.0)
    found = recorder.Recorder(dict)
    subscriber = Summing()
    found._subscribers.append(subscriber)
    while time.monotonic() <= subscriber.asked_at:
        pass
    found.look()
    assert not found.is_on


def test_transports_with_the_most_waiting_bytes_come_first(start):
    server = start(
        "import asyncio, socket, mioloop\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    keep = []\n"
        "    for size in (10, 10_000_000, 1_000_000):\n"
        "        a, b = socket.socketpair()\n"
        "        keep.append(b)\n"
        "        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)\n"
        "        transport.write(bytes(size))\n"
        "        keep.append(transport)\n"
        "    print('ready', flush=True)\n"
        "    await loop.create_future()\n"
        "mioloop.run(main())\n"
    )
    with client.connect(server.pid) as connection:
        transports = connection.ask("top")["loops"][0]["transports"]
    first, second, third = (each["buffered_bytes"] for each in transports)
    assert first > second > third == 0


def test_once_prints_json_for_scripts(server, capsys):
    from mioloop import __main__ as command

    assert command.main(["top", str(server.pid), "--once", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["pid"] == server.pid and figures["seconds"] >= 1
    assert figures["loops"][0]["tasks"] == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--json"], "--json needs --once"), ([], "this is no terminal: use --once")],
)
def test_top_without_a_terminal_says_how_it_can_be_used(sockets, capsys, arguments, error):
    from mioloop import __main__ as command

    with pytest.raises(SystemExit) as exit:
        command.main(["top", *arguments])
    assert exit.value.code == 2 and error in capsys.readouterr().err


def test_the_screen_shows_functions_and_findings(server):
    rich = pytest.importorskip("rich.console")
    from mioloop.console import screen

    watch = Watch()
    with client.connect(server.pid) as connection:
        figures = block(server, connection, watch)
    shown = rich.Console(file=io.StringIO(), width=120)
    for order in "tnlr":
        shown.print(screen.picture(figures, watch, order, False, 40))
    text = shown.file.getvalue()
    assert "serve() <string>" in text and "wait_for_the_test() <string>" in text
    assert "1 step of serve() took up to" in text and "longest ▾" in text


def test_the_screen_has_keys_to_sort_and_to_quit(server):
    pytest.importorskip("rich")
    import pty
    import subprocess
    import sys

    ours, theirs = pty.openpty()
    top = subprocess.Popen(
        [sys.executable, "-m", "mioloop", "top", str(server.pid)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while b"quit" not in seen:
        seen += os.read(ours, 65536)
    os.write(ours, b"l")
    while "longest ▾".encode() not in seen:
        seen += os.read(ours, 65536)
    os.write(ours, b"q")
    try:
        while os.read(ours, 65536):
            pass
    except OSError:                         # Linux: the other end is closed
        pass
    assert top.wait(timeout=10) == 0
    os.close(ours)


# -- sums ------------------------------------------------------------------------------------------


def a_record(**fields):
    default = {
        "kind": "step", "began_ns": 0, "ended_ns": 1000, "ready_ns": 0, "turn": 1, "polled_ns": 0,
        "idle_ns": 0, "bytes_in": 0, "bytes_out": 0, "spins": False, "fd": -1, "task": 7,
        "name": "f", "detail": "Task-1",
    }
    return Record(**default | fields)


def test_records_are_summed_by_function_and_taken_once():
    summing = Summing()
    summing.take(1, [a_record(), a_record(began_ns=500, ended_ns=3500, ready_ns=100)], 0)
    (figures,) = summing.functions_of(1)
    assert figures["count"] == 2 and figures["total_ns"] == 4000
    assert figures["longest_ns"] == 3000 and figures["latest_ns"] == 400
    assert summing.functions_of(1) == []


def test_differences_of_histograms_have_only_the_new_durations():
    assert difference([[0.1, 5], [0.2, 1]], [[0.1, 5], [0.2, 3], [0.4, 1]]) == [[0.2, 2], [0.4, 1]]
    assert difference([[0.1, 5]], [[0.1, 2]]) == [[0.1, 2]]     # the program has called reset()
    assert percentile([[0.2, 98], [0.4, 2]], 50) == 0.2
    assert percentile([[0.2, 98], [0.4, 2]], 99) == 0.4
    assert percentile([], 99) == 0.0


def test_a_sparkline_shows_each_value_above_zero():
    assert sparkline([0.0, 0.001, 0.5, 1.0, 2.0], 1.0) == " ▁▄██"
    assert sparkline([0.0], 0.0) == " "
