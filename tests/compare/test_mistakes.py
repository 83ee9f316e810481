"""``python -m mioloop compare``: every mistake is answered with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from mioloop.compare import cli
from mioloop.compare.measure import cpu, worker
from mioloop.compare.measure.loops import Loop
from mioloop.compare.measure.workloads import BY_NAME

pytest.importorskip("matplotlib")

GOALS = str(Path(__file__).parents[2] / "docs" / "performance.md")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quik"], "there is no option '--quik'; did you mean --quick?"),
        (["ech"], "there is no workload 'ech'\nthe workloads are echo-protocol,"),
        (["echo-protocl"], "there is no workload 'echo-protocl'; did you mean echo-protocol?"),
        (["timer*", "no*"], "there is no workload 'no*'"),
        (["--loops", "uvlop"], "there is no loop 'uvlop'; did you mean uvloop?\nthe loops are"),
        (["--loops", "mioloop:levle"], "did you mean mioloop:level?"),
        (["--loops", "mioloop-level"], "did you mean mioloop:level?"),
        (["--loops", "mioloop:level:level"], "has the same option twice"),
        (["--loops", "mioloop:edge:level"], "has the same option twice"),
        (["--loops", "mioloop:spin=fast"], "'fast' is not a number of seconds, e.g. spin=0.0001"),
        (["--loops", ","], "--loops names none"),
        (["--loops", "no_such_module:make"], "no_such_module is not installed"),
        (["--loops", "json:nothing"], "AttributeError: module 'json' has no attribute 'nothing'"),
        (["--loops", "builtins:dict"], "which is not an event loop"),
        (["--base", "uvlop"], "did you mean uvloop?"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--rounds", "2.5"], "'2.5' is not a whole number above 0"),
        (["--seconds", "nan"], "'nan' is not a number above 0"),
        (["--spin", "-1"], "--spin"),
        (["--sizes", "1x"], "'1x' is not a number of bytes"),
        (["--connections", "1,,2"], "'1,,2' is not a list of numbers"),
        (["--timers", "0"], "'0' is not a list of numbers from 1 up"),
        (["--cpus", "1"], "'1' is not SERVER,CLIENT"),
        (["--cpus", "0,100000"], "--cpus 0,100000: the processors are"),
        (["--json", "/no/such/file"], "there is no directory /no/such"),
        (["--report", "/no/such/directory"], "there is no directory /no/such"),
        (["--goals", "/no/such/file"], "--goals: [Errno 2] No such file"),
        (["--goals", "/dev/null"], "/dev/null has no lines <!-- goals"),
        (["--goals", GOALS, "--loops", "asyncio"], "against uvloop, and this run against asyncio"),
        (["--quick", "--scaling"], "--quick leaves no time for --scaling"),
        (["--quick", "idle-tls"], "--quick has none of these workloads"),
        (["--app", "nothing"], "--app 'nothing' is not MODULE:NAME"),
        (["--app", "a:b", "--", "python3"], "--app and a command exclude each other"),
        (["--app", "a:b", "http"], "a program of your own is measured by itself"),
        (["--app", "a:b", "--scaling"], "--scaling and --spin are for workloads"),
        (["--app", "a:b", "--sizes", "1k"], "--sizes is for workloads"),
        (["--port", "80"], "--port is for a command"),
        (["--port", "70000"], "'70000' is not a port: 1 to 65535"),
        (["--path", "/x"], "--path is for a program of your own"),
        (["--", "sh", "server"], "the command names no {port}"),
        (["--", "no-such-command", "{port}"], "there is no command 'no-such-command'"),
        (["--path", "x", "--app", "a:b"], "--path 'x' does not begin with /"),
    ],
)
def test_mistake_is_answered_with_what_would_be_right(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--loops", "asyncio", *arguments])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def chosen(*arguments: str) -> tuple[list[str], str]:
    parser = cli.make_parser()
    cases, warnings = cli.chosen_cases(parser.parse(arguments), parser)
    return [case.workload.name for case in cases], "; ".join(warnings)


def test_all_workloads_are_those_of_no_family_and_of_the_families_asked_for() -> None:
    plain = {name for name, workload in BY_NAME.items() if not workload.family}

    assert set(chosen()[0]) == plain
    assert set(chosen("--scaling", "--spin", "0.0001")[0]) == set(BY_NAME)
    assert chosen("--timers", "1,2", "scale-timers")[0] == ["scale-timers"] * 2


def test_what_only_linux_can_measure_is_left_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LINUX", False)
    names, warnings = chosen("idle", "sleep-0")

    assert names == ["sleep-0"]
    assert "idle is left out: it can be measured on Linux only" in warnings


def test_more_connections_than_a_process_may_have_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.resource, "getrlimit", lambda which: (1024, 1024))
    names, warnings = chosen("echo-protocol", "--sizes", "1k", "--connections", "64,1000")

    assert names == ["echo-protocol"]
    assert "echo-protocol 1 KiB x 1,000 is left out: a process may open 1,024 files" in warnings


def test_connections_that_do_not_fit_into_memory_are_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "available_bytes", lambda: 2**30)
    worker._check_memory(100 * 2**20, 1000, 8_000)
    with pytest.raises(OSError, match=r"10,000 connections would need another 0.9 GiB of memory"):
        worker._check_memory(100 * 2**20, 1000, 10_000)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("asyncio", {"backend": "asyncio"}),
        ("mioloop", {"backend": "mio"}),
        ("mioloop:level", {"backend": "mio", "trigger": "level"}),
        ("mioloop:edge:poll", {"backend": "mio", "trigger": "edge", "selector": "poll"}),
        ("mioloop:spin=0.0001", {"backend": "mio", "spin": 0.0001}),
        ("mioloop:io_uring=off", {"backend": "mio", "io_uring": False}),
        ("mioloop.factory:new_event_loop", {}),
        ("package.module:make.loop", {}),
    ],
)
def test_loop_names(name: str, options: dict[str, object]) -> None:
    assert Loop(name).options == options


def test_options_of_a_loop_reach_a_program_by_its_environment() -> None:
    assert Loop("mioloop:level:spin=0.0001:io_uring=off").environment == {
        "MIOLOOP_BACKEND": "mio",
        "MIOLOOP_TRIGGER": "level",
        "MIOLOOP_SPIN": "0.0001",
        "MIOLOOP_IO_URING": "False",
        "MIOLOOP_COMPARE_LOOP": "mioloop:level:spin=0.0001:io_uring=off",
    }


@pytest.mark.parametrize(
    "name",
    ["", "uv", "mioloop:fast", "mioloop:edge:select", "mioloop:io_uring=maybe", "a:", "a:b c"],
)
def test_unknown_loop_is_refused_with_the_ones_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)there is no loop .*the loops are asyncio, uvloop"):
        Loop(name)
