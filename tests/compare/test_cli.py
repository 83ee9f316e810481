"""The command line of compare: choices, and the answer to each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mioloop.compare import cli
from mioloop.compare.measure import cpu, environment
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
        (["--io-uring", "of"], "there is no io_uring choice 'of'; did you mean off?\n"),
        (["--io-uring", "yes"], "the io_uring choices are on, off, both"),
        (["--io-uring", "both"], "no loop of this run is mioloop with a choice of io_uring"),
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
        (["--", "sh", "server"], "the command contains no {port}"),
        (["--", "no-such-command", "{port}"], "there is no command 'no-such-command'"),
        (["--path", "x", "--app", "a:b"], "--path 'x' does not begin with /"),
    ],
)
def test_mistake_is_answered_with_the_right_form(
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


def test_default_is_every_workload_without_a_family_or_of_a_requested_one() -> None:
    plain = {name for name, workload in BY_NAME.items() if not workload.family}

    assert set(chosen()[0]) == plain
    assert set(chosen("--scaling", "--spin", "0.0001")[0]) == set(BY_NAME)
    assert chosen("--timers", "1,2", "scale-timers")[0] == ["scale-timers"] * 2


def test_workload_that_needs_linux_is_left_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LINUX", False)
    names, warnings = chosen("idle", "sleep-0")

    assert names == ["sleep-0"]
    assert "idle is left out: it can be measured on Linux only" in warnings


def test_case_with_more_connections_than_open_files_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.resource, "getrlimit", lambda which: (1024, 1024))
    names, warnings = chosen("echo-protocol", "--sizes", "1k", "--connections", "64,1000")

    assert names == ["echo-protocol"]
    assert "echo-protocol 1 KiB x 1,000 is left out: a process may open 1,024 files" in warnings


# -- io_uring -----------------------------------------------------------------------------

OFF = "mioloop:io_uring=off"


def loops_of(*arguments: str) -> tuple[list[str], dict[str, str], str | None]:
    """The names of the loops, the ones that are shown as a column, and the base."""
    parser = cli.make_parser()
    options = parser.parse(["--loops", "asyncio,mioloop", *arguments])
    chosen, _ = cli.chosen_loops(options, parser)
    found, columns = cli.apply_io_uring(options, chosen, parser)
    return [loop.name for loop in found], columns, options.base


@pytest.mark.parametrize(
    ("arguments", "names", "columns"),
    [
        ([], ["asyncio", "mioloop"], {}),
        (["--io-uring", "on"], ["asyncio", "mioloop"], {}),
        (["--io-uring", "off"], ["asyncio", OFF], {}),
        (["--io-uring", "both"], ["asyncio", "mioloop", OFF], {OFF: "mioloop"}),
        (["--loops", f"mioloop,{OFF}"], ["mioloop", OFF], {}),
        (["--loops", f"mioloop,{OFF}", "--io-uring", "both"], ["mioloop", OFF], {OFF: "mioloop"}),
        (["--loops", f"mioloop,{OFF}", "--io-uring", "off"], [OFF], {}),
        (
            ["--loops", "mioloop:level,mioloop:edge:io_uring=on", "--io-uring", "both"],
            ["mioloop:level", "mioloop:edge:io_uring=on", "mioloop:level:io_uring=off"],
            {"mioloop:level:io_uring=off": "mioloop:level"},
        ),
    ],
)
def test_io_uring_adds_a_column_or_changes_the_loops(
    arguments: list[str], names: list[str], columns: dict[str, str]
) -> None:
    assert loops_of(*arguments)[:2] == (names, columns)


def test_io_uring_of_the_base_is_switched_off_too() -> None:
    assert loops_of("--io-uring", "off", "--base", "mioloop") == (["asyncio", OFF], {}, OFF)
    assert loops_of("--io-uring", "both", "--base", OFF)[1] == {}


@pytest.mark.parametrize(
    ("choice", "warned"), [("on", True), ("both", True), ("off", False), (None, False)]
)
def test_system_that_refuses_io_uring_is_named_in_a_warning(
    choice: str | None, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "io_uring_problem", lambda: "EPERM")
    options = cli.make_parser().parse(["--io-uring", choice] if choice else [])
    expected = ["the system refuses io_uring (EPERM): every loop is measured without it"]

    assert cli.warnings_of_io_uring(options) == (expected if warned else [])
    assert environment.describe([], [])["io_uring"] == "refused: EPERM"
