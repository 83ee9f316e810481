"""``python -m mioloop``: run, doctor, and mistyped names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SHOW_LOOP = """\
import asyncio, os, sys
async def main():
    loop = asyncio.get_running_loop()
    print(type(loop).__module__, getattr(loop, "trigger", None), sys.argv[1:], __name__)
asyncio.run(main())
"""


def mioloop(*arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mioloop", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd=directory,
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], "mioloop.loop.event_loop edge"),
        (["--trigger", "level"], "mioloop.loop.event_loop level"),
        (["--trigger=oneshot", "--selector=poll"], "mioloop.loop.event_loop oneshot"),
        (["--backend", "asyncio"], "asyncio.unix_events None"),
    ],
)
@pytest.mark.parametrize("as_module", [False, True])
def test_run_sets_the_policy_and_leaves_the_programs_arguments_alone(
    tmp_path: Path, options: list[str], shown: str, as_module: bool
) -> None:
    (tmp_path / "show.py").write_text(SHOW_LOOP)
    program = ["-m", "show"] if as_module else ["show.py"]
    done = mioloop("run", *options, *program, "--trigger", "x", directory=tmp_path)

    assert done.stdout == f"{shown} ['--trigger', 'x'] __main__\n"
    assert done.returncode == 0


def test_run_ends_as_the_program_does(tmp_path: Path) -> None:
    (tmp_path / "end.py").write_text("raise SystemExit(7)\n")

    assert mioloop("run", "end.py", directory=tmp_path).returncode == 7


def test_doctor_finds_a_working_loop() -> None:
    done = mioloop("doctor")

    assert done.returncode == 0, done.stdout
    assert "mio, poll, level: works" in done.stdout
    assert "never awaited" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m mioloop COMMAND"),
        (["compar"], "there is no command 'compar'; did you mean compare?\nthe commands are run,"),
        (["run"], "there is no program to run"),
        (["run", "no-such.py"], "there is no file 'no-such.py'"),
        (["run", "no-such"], "there is no file and no program 'no-such'"),
        (["run", "-m"], "-m needs a module to run"),
        (["run", "--spin", "2", "x.py"], "spin must be a number of seconds from 0 to 1"),
        (["run", "--triger", "edge", "x.py"], "did you mean --trigger?"),
        (["run", "--trigger", "egde", "x.py"], "must be one of edge, level, oneshot"),
        (["run", "--backend", "uv", "x.py"], "backend must be one of mio, uvloop, asyncio"),
        (["doctor", "now"], "there is no use for now"),
    ],
)
def test_mistake_is_answered_with_the_right_form(arguments: list[str], message: str) -> None:
    done = mioloop(*arguments)

    assert done.returncode == 2
    assert message in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["doctor"], []])
def test_command_ends_quietly_if_its_reader_has_gone(arguments: list[str], unbuffered: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "mioloop", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait(60) == 128 + signal.SIGPIPE
    program.stderr.close()
