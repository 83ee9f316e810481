"""The commands ps and stack: the output, and one line of advice if they cannot work."""

from __future__ import annotations

import json
import os
import signal

import pytest

from mioloop import __main__ as command
from mioloop.console import client, text


@pytest.fixture
def call(capsys):
    def call(*arguments):
        """The status, the output, and the lines of errors of a command."""
        try:
            status = command.main(arguments)
        except SystemExit as exc:
            status = exc.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()

    return call


def test_ps_lists_each_loop_of_each_process(start, call):
    first, second = start(), start()
    status, output, _ = call("ps")
    head, *lines = output.splitlines()
    assert status == 0 and head.split()[:3] == ["PID", "LOOP", "BUSY"]
    assert {int(line.split()[0]) for line in lines} == {first.pid, second.pid}


def test_ps_shows_a_blocked_loop_as_busy(server, call):
    with server.blocked():
        _, output, _ = call("ps", "--json")
    (row,) = json.loads(output)
    assert row["utilization"] == 1.0 and row["transports"] == 1 and row["listeners"] == 1


def test_ps_of_a_process_prints_the_tree_of_its_tasks(server, call):
    with server.blocked():
        status, output, _ = call("ps", str(server.pid))
    assert status == 0
    assert "Task-1 main() waiting" in output
    assert "serve() running" in output and "in wait_for_the_test()" in output


def test_stack_without_a_pid_takes_the_only_process(server, call):
    with server.blocked():
        status, output, _ = call("stack")
    assert status == 0
    head, *_, last = output.splitlines()
    assert head.startswith(f"process {server.pid}, loop 1 in MainThread: executes, task 'Task-")
    assert last.endswith("in wait_for_the_test()")


def test_ps_without_any_console_says_so(sockets, call):
    assert call("ps") == (0, "no process of this user has a loop with a console\n", [])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["4194303"], "there is no process 4194303"),
        (["99999999999"], "'99999999999' is not the number of a process"),
        (["1x"], "'1x' is not the number of a process"),
        (["OWN"], "process OWN has no console: start it with"),
        ([], "no process of this user has a console: start one with MIOLOOP_CONSOLE=1"),
        (["--jsn"], "there is no option '--jsn'; did you mean --json?"),
    ],
)
def test_a_process_that_cannot_be_asked_is_answered_with_advice(sockets, call, arguments, error):
    own = str(os.getpid())
    status, output, errors = call("stack", *(each.replace("OWN", own) for each in arguments))
    assert (status, output) == (2, "")
    assert errors[0].startswith("python -m mioloop stack: ")
    assert error.replace("OWN", own) in errors[0]
    assert len(errors) == (2 if "--jsn" in arguments else 1)


def test_a_process_of_another_user_is_answered_with_advice(sockets, call, monkeypatch):
    monkeypatch.setattr(client, "is_root", lambda: False)
    monkeypatch.setattr(client, "owner_of", lambda pid: os.geteuid() + 4321)
    status, _, errors = call("ps", "1")
    assert status == 2
    assert errors == [
        f"python -m mioloop ps: process 1 belongs to user {os.geteuid() + 4321}:"
        " run this as that user, or as root"
    ]


def test_several_processes_and_no_terminal_to_choose_on_are_listed(start, call):
    pids = sorted(start().pid for _ in range(2))
    status, _, errors = call("stack")
    assert status == 2
    assert errors[0].endswith(f"2 processes have a console: give one of {pids[0]}, {pids[1]}")


def test_ps_names_a_process_that_does_not_answer_and_lists_the_others(start, call, monkeypatch):
    stopped, other = start(), start()
    os.kill(stopped.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
    monkeypatch.setattr(client, "TIMEOUT_S", 0.5)
    status, output, errors = call("ps", "--json")
    assert status == 0 and {row["pid"] for row in json.loads(output)} <= {other.pid}
    assert any(f"process {stopped.pid} has not answered for 0.5 s" in each for each in errors)


def test_control_characters_in_names_do_not_reach_the_terminal():
    (line,) = text.trees_of([{
        "id": 1, "name": "\x1b[2J", "coroutine": "f", "state": "ready", "waits_for": None,
        "stack": [], "awaited_by": [],
    }])
    assert line == r"\x1b[2J f() ready"


def test_run_with_console_has_one(start, call):
    server = start("pass", "-m", "mioloop", "run", "--console", "-c", PROGRAM, MIOLOOP_CONSOLE="")
    status, output, _ = call("ps", str(server.pid))
    assert status == 0 and " main() " in output


PROGRAM = (
    "import asyncio\n"
    "async def main():\n"
    "    print('ready', flush=True)\n"
    "    await asyncio.get_running_loop().create_future()\n"
    "asyncio.run(main())\n"
)
