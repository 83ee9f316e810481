"""A child starts, and fails to start, as Popen starts it: R77, R80. Real children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.support.children import CAT, PIPE, REAL_CHILDREN, Recorder, fail, python

pytestmark = REAL_CHILDREN


@pytest.mark.parametrize("low", [(0,), (0, 1), (0, 1, 2)], ids=str)
def test_pipe_of_a_start_is_no_standard_stream(mioloop_kind, low):
    """R80: in a process that has closed some; the child's are as Popen leaves them."""
    code = f"""
import asyncio, os
out = os.dup(1)
import mioloop
loop = mioloop.new_event_loop(**{mioloop_kind.options!r})
for fd in {low!r}:
    os.close(fd)
async def main():
    keywords = dict(pass_fds=(out,), preexec_fn=preexec_fn)
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f"ls /proc/self/fd >&{{out}}", **keywords))
    while not opened:
        await asyncio.sleep(0)
    assert min(opened) > 2, opened
    assert not os.get_inheritable(opened[0])
    assert await (await starting).wait() == 0
opened = []
from mioloop.loop import children
class Start(children.UnawaitedStart):
    def popen(self, **keywords):
        process = super().popen(**keywords)
        opened.append(self.report_fd)
        return process
children.UnawaitedStart = Start
for preexec_fn in (None, int):
    opened.clear()
    loop.run_until_complete(main())
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, timeout=60)
    assert (done.stderr, done.returncode) == (b"", 0)


@pytest.mark.parametrize(
    "change", ["replaced", "renamed", "another fork", "not here", "a function"])
def test_popen_that_differs_is_used_and_waited_for(mioloop_loop, run, monkeypatch, change):
    """R80: if the stdlib is not as the loop expects, children start and fail as always."""
    from mioloop.loop import children

    popen = subprocess.Popen
    if change == "replaced":
        execute = popen._execute_child
        monkeypatch.setattr(
            popen, "_execute_child", lambda self, *args, **kw: execute(self, *args, **kw)
        )
    elif change == "renamed":
        monkeypatch.setattr(children, "_FORK_NAMES", {"another_name"})
    elif change == "another fork":
        monkeypatch.setattr(children, "_ARGUMENT_COUNTS", {})
    elif change == "not here":
        monkeypatch.setattr(children, "spawn", lambda *args: None)
    else:
        monkeypatch.setattr(subprocess, "Popen", lambda *args, **kw: popen(*args, **kw))

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"text") == (b"text", None)
        process = await asyncio.create_subprocess_exec(
            *CAT, preexec_fn=os.setpgrp, stdin=subprocess.DEVNULL
        )
        assert await process.wait() == 0
        with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn"):
            await asyncio.create_subprocess_exec(*CAT, preexec_fn=fail)
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such")

    run(mioloop_loop, main())


def of_popen(**keywords):
    """The error of Popen, as (type, arguments, filename)."""
    with pytest.raises(Exception) as caught:
        subprocess.Popen(**keywords).wait()
    return describe(caught.value)


def describe(error):
    return type(error), error.args, getattr(error, "filename", None)


@pytest.mark.known_difference("uvloop", "spawns by itself")
async def test_errors_of_a_start_are_popen_s(loop, tmp_path):
    """R77, R80: type, arguments and filename, whichever step failed."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    not_a_program = tmp_path / "not a program"
    not_a_program.write_text("text")
    not_a_program.chmod(0o700)
    cases = [
        {"args": ["/no/such"]},
        {"args": ["no-such-program-on-the-path"]},
        {"args": ["argv-zero"], "executable": "/no/such"},
        {"args": [tmp_path]},
        {"args": [tmp_path], "cwd": "/"},
        {"args": [tmp_path], "stdin": 1},
        {"args": [tmp_path], "close_fds": False},
        {"args": [tmp_path], "pass_fds": (1,)},
        {"args": [tmp_path], "restore_signals": False},
        {"args": [tmp_path], "stdin": PIPE, "stdout": PIPE, "stderr": subprocess.DEVNULL},
        {"args": [tmp_path], "umask": 7},
        {"args": [tmp_path], "start_new_session": True},
        {"args": ["x"], "executable": tmp_path},
        {"args": [script]},
        {"args": [not_a_program]},
        {"args": [b"/etc/passwd"]},
        {"args": ["/bin/cat"], "cwd": "/no/such"},
        {"args": ["/bin/cat"], "cwd": tmp_path / "no such"},
        {"args": ["/no/such"], "cwd": "/no/such directory"},
        {"args": ["/no/such"], "env": {"PATH": ""}},
        {"args": ["cat"], "env": {"PATH": "/no/such:/etc/passwd"}},
        {"args": ["/bin/cat"], "env": {"A=B": ""}},
        {"args": ["/bin/cat"], "env": {"A": "\0"}},
        {"args": ["/bin/cat", "\0"]},
        {"args": ["/bin/cat"], "cwd": "\0"},
        {"args": ["/bin/cat"], "cwd": 5},
        {"args": ["/bin/cat"], "pass_fds": (999,)},
        {"args": ["/bin/cat"], "pass_fds": (-1,)},
        {"args": ["/bin/cat"], "umask": 1 << 80},
        {"args": ["/bin/cat", "x" * 3_000_000]},
    ]
    if sys.version_info >= (3, 11):
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 21})
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 21, "cwd": "/"})
        cases.append({"args": ["/bin/cat"], "process_group": 1 << 80})
    for keywords in cases:
        expected = of_popen(**keywords)
        args = keywords.pop("args")
        with pytest.raises(Exception) as caught:
            await asyncio.create_subprocess_exec(*args, **keywords)
        assert describe(caught.value) == expected, (args, keywords)


STATE = """
import os, signal, sys
print(
    [int(fd) for fd in os.listdir("/proc/self/fd")][:-1],
    [os.readlink("/proc/self/fd/%d" % fd) for fd in range(3)],
    [line for line in open("/proc/self/status") if line.startswith(("Umask", "Groups"))],
    [
        # Without libc's own two, which its posix_spawn() leaves ignored.
        (name, hex(int(value, 16) & ~(3 << 31)))
        for name, _, value in (line.partition("\t") for line in open("/proc/self/status"))
        if name in ("SigPnd:", "SigBlk:", "SigIgn:", "SigCgt:")
    ],
    os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getcwd(),
    sorted(os.environ.items()), sys.argv[1:], file=open(os.environ["OUT"], "w")
)
"""


@pytest.mark.known_difference("uvloop", "spawns by itself")
def test_child_is_in_the_state_in_which_popen_starts_it(loop, run, tmp_path):
    """R77: descriptors, signals, umask, session, directory, environment; with each keyword."""
    listener = os.open("/dev/null", os.O_RDONLY)
    inherited = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    log = open(tmp_path / "log", "wb")
    cases = [
        {},
        {"close_fds": False},
        {"pass_fds": (listener,)},
        {"pass_fds": (listener, inherited)},
        {"restore_signals": False},
        {"start_new_session": True},
        {"umask": 0o027},
        {"cwd": tmp_path},
        {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT},
        {"stdin": listener, "stdout": inherited, "stderr": subprocess.DEVNULL},
        {"stdin": 0, "stdout": 1, "stderr": 2},
        {"stdin": 2, "stdout": 0, "stderr": 1},
        {"stdin": 1, "stdout": 2, "stderr": 0},
    ]
    if sys.version_info >= (3, 11):
        cases.append({"process_group": 0})
    out = tmp_path / "out"
    environment = {"OUT": os.fspath(out), "LC_ALL": "C", "NAME": "v\u00e4lue"}
    args = (*python(STATE), "one", "", "tw\u00f6")

    async def main():
        for keywords in cases:
            subprocess.Popen(args, env=environment, **keywords).wait()
            expected = out.read_text()
            process = await asyncio.create_subprocess_exec(*args, env=environment, **keywords)
            assert await process.wait() == 0
            assert out.read_text() == expected, keywords
        os.environ["OUT"] = os.fspath(out)
        try:
            subprocess.Popen(args).wait()
            expected = out.read_text()
            process = await asyncio.create_subprocess_exec(*args)
            assert await process.wait() == 0
            assert out.read_text() == expected
        finally:
            del os.environ["OUT"]

    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
    try:
        run(loop, main(), 60)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTIN})
        signal.signal(signal.SIGUSR2, before)
        log.close()
        os.close(listener)
        os.close(inherited)


@pytest.mark.time_limit(30)
async def test_environment_may_change_while_children_start(loop):
    """R77: each child has the variables of the moment at which it was started."""
    processes = []
    for i in range(50):
        os.environ["MIOLOOP_TEST"] = str(i) * 500
        processes.append(
            loop.create_task(
                asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", "echo $MIOLOOP_TEST", stdout=PIPE
                )
            )
        )
        await asyncio.sleep(0)
    del os.environ["MIOLOOP_TEST"]
    for i, task in enumerate(processes):
        out, _ = await (await task).communicate()
        assert out == str(i).encode() * 500 + b"\n"


async def test_popen_object_of_a_child_is_a_popen(loop):
    """R77: of the class itself, without attributes of the loop's."""
    transport, protocol = await loop.subprocess_exec(Recorder, "/bin/sh", "-c", "exit 3")
    popen = transport.get_extra_info("subprocess")
    if "uvloop" not in type(loop).__module__:
        assert type(popen) is subprocess.Popen
        with subprocess.Popen(["/bin/true"]) as other:
            assert vars(popen).keys() == vars(other).keys()
    await asyncio.wait_for(protocol.lost, 10)
    transport.close()
