"""`mioloop run`: a real program runs on mioloop in every process of its own, or it is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frameworks.server_process import WAIT_S, ServedLoop, server_process
from tests.frameworks.test_page_servers import own_environment

HERE = Path(__file__).parent
LOOP = ServedLoop("mioloop", "edge")

# What programs do, in a few lines each; they print the class of the loop that runs them.
SHOW = "async def main():\n    import asyncio; print(type(asyncio.get_running_loop()).__module__)\n"
PROGRAMS = {
    "asyncio.run": "import asyncio; asyncio.run(main())",
    "new_event_loop": "import asyncio; loop = asyncio.new_event_loop(); "
    "loop.run_until_complete(main()); loop.close()",
    "SelectorEventLoop": "import asyncio; loop = asyncio.SelectorEventLoop(); "
    "assert isinstance(loop, asyncio.SelectorEventLoop); "
    "loop.run_until_complete(main()); loop.close()",
    "Runner": "import asyncio\n"
    "with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner: runner.run(main())",
    "a selector": "import asyncio, selectors; "
    "loop = asyncio.SelectorEventLoop(selectors.SelectSelector()); "
    "loop.run_until_complete(main()); loop.close()",
    "a subclass": "import asyncio\nclass Loop(asyncio.SelectorEventLoop): __module__ = 'mioloop'\n"
    "loop = Loop(); assert 'mioloop.loop.event_loop' in str(Loop.__mro__); "
    "loop.run_until_complete(main()); loop.close()",
}
WITH_UVLOOP = {
    "run": "import uvloop; uvloop.run(main())",
    "install": "import asyncio, uvloop; uvloop.install(); asyncio.run(main())",
    "Runner": "import asyncio, uvloop\n"
    "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner: runner.run(main())",
    "policy": "import asyncio, uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy()); "
    "asyncio.run(main())",
    "new_event_loop": "import uvloop; loop = uvloop.new_event_loop(); "
    "assert isinstance(loop, uvloop.Loop); loop.run_until_complete(main()); loop.close()",
    "try_use_uvloop": "import asyncio, uvloop, importlib.util\n"
    "assert importlib.util.find_spec('uvloop') is not None\n"
    "if not isinstance(asyncio.get_event_loop_policy(), uvloop.EventLoopPolicy):\n"
    "    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
    "asyncio.run(main())",
    "metadata": "import importlib.metadata, uvloop\n"
    "assert importlib.metadata.version('uvloop') == uvloop.__version__ == '0.22.1'\n"
    "uvloop.run(main())",
}


def run(*arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MIOLOOP_")}
    environment |= keywords.pop("env", {})  # type: ignore[call-overload]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mioloop", "run", *arguments],
        capture_output=True, text=True, timeout=60, env=environment, **keywords,  # type: ignore[call-overload]
    )


def skip_without_runner(program: str) -> None:
    if program == "Runner" and sys.version_info < (3, 11):
        pytest.skip("there is no asyncio.Runner")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_way_to_a_loop_leads_to_mioloop(program: str) -> None:
    skip_without_runner(program)
    done = run("--strict", "-c", SHOW + PROGRAMS[program])
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("mioloop") for line in done.stdout.split()), done.stdout


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="there are no policies")
@pytest.mark.parametrize("program", WITH_UVLOOP)
def test_every_use_of_uvloop_leads_to_mioloop_if_asked(program: str) -> None:
    skip_without_runner(program)
    done = run("--as-uvloop", "--strict", "-c", SHOW + WITH_UVLOOP[program])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "mioloop.loop.event_loop\n"


def test_uvloop_need_not_be_installed_for_its_stand_in() -> None:
    hide = "import sys, importlib.machinery as m; f = m.PathFinder.find_spec\n"
    hide += "m.PathFinder.find_spec = lambda n, *a: None if n == 'uvloop' else f(n, *a)\n"
    done = run("-c", hide + SHOW + WITH_UVLOOP["run"], env={"MIOLOOP_AS_UVLOOP": "1"})
    assert done.stdout == "mioloop.loop.event_loop\n", done.stderr


def test_comparison_reaches_the_real_uvloop_behind_its_stand_in() -> None:
    pytest.importorskip("uvloop")
    code = "import mioloop, uvloop; print(type(mioloop.new_event_loop(backend='uvloop')).__module__"
    done = run("--as-uvloop", "-c", code + ", uvloop.Loop.__module__)")
    assert done.stdout == "uvloop mioloop.loop.event_loop\n", done.stderr


@pytest.mark.parametrize("strict", [False, True])
def test_program_on_another_loop_is_named_at_its_end(strict: bool) -> None:
    pytest.importorskip("uvloop")
    options = ["--strict"] if strict else []
    done = run(*options, "-c", SHOW + WITH_UVLOOP["run"])
    assert done.stdout == "uvloop\n"
    assert "mioloop run: the program ran on uvloop.Loop, not on mioloop" in done.stderr
    assert done.returncode == strict


def test_program_without_a_loop_is_named_at_its_end() -> None:
    assert run("-c", "print(1)").stderr == "mioloop run: no event loop ran\n"


# -- other processes -----------------------------------------------------------------------------

# A process that nothing has switched on: its modules, its finders and its loop.
UNTOUCHED = """\
import os, sys
assert not any(name.partition(".")[0] == "mioloop" for name in sys.modules), sys.modules
assert not any(name.startswith("MIOLOOP_") for name in os.environ), os.environ
assert not any(type(finder).__module__.startswith("mioloop") for finder in sys.meta_path)
assert not any(os.path.basename(path) == "hook" for path in sys.path)
import asyncio
async def main():
    return type(asyncio.get_running_loop()).__module__
print(asyncio.run(main()))
"""


def test_import_of_mioloop_changes_no_loop_and_no_child() -> None:
    code = f"""\
import asyncio, os, subprocess, sys
before = dict(vars(asyncio)), dict(os.environ), list(sys.meta_path), list(sys.path)
import mioloop
assert before == (dict(vars(asyncio)), dict(os.environ), list(sys.meta_path), list(sys.path))
assert type(asyncio.new_event_loop()).__module__ == "asyncio.unix_events"
subprocess.run([sys.executable, "-c", {UNTOUCHED!r}], check=True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=60, env=own_environment(),
    )
    assert (done.returncode, done.stdout) == (0, "asyncio.unix_events\n"), done.stderr


def test_process_beside_a_program_of_run_is_as_without_it() -> None:
    code = "import asyncio; asyncio.run(asyncio.sleep(0)); print('runs', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-m", "mioloop", "run", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own_environment(),
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "runs\n"
        done = subprocess.run(
            [sys.executable, "-c", UNTOUCHED],
            capture_output=True, text=True, timeout=60, env=own_environment(),
        )
        program.communicate("\n", timeout=60)
    assert (done.returncode, done.stdout) == (0, "asyncio.unix_events\n"), done.stderr
    assert program.returncode == 0


CHILDREN = """\
import asyncio, concurrent.futures, multiprocessing, subprocess, sys

def loop_name(_):
    async def main():
        return type(asyncio.get_running_loop()).__module__
    return asyncio.run(main())

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            print(*executor.map(loop_name, [1]), flush=True)
    subprocess.run([sys.executable, "-c", "import asyncio, __main__\\n"
        "async def main(): print(type(asyncio.get_running_loop()).__module__)\\n"
        "asyncio.run(main())"], check=True)
"""


def test_choice_reaches_children(tmp_path: Path) -> None:
    (tmp_path / "children.py").write_text(CHILDREN)
    done = run("--strict", "children.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["mioloop.loop.event_loop"] * 4


def test_children_of_a_program_tell_for_it(tmp_path: Path) -> None:
    """A supervisor has no loop of its own."""
    child = "import asyncio; asyncio.run(asyncio.sleep(0))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    done = run("--strict", "-c", parent)
    assert (done.returncode, done.stderr) == (0, "")


PROBE = """\
import sys, threading, time
print(__name__, __file__ if "__file__" in globals() else None, sys.argv, sys.path[0],
      sys.orig_argv[1:], __spec__ and __spec__.name, sys.flags.dev_mode)
threading.Thread(target=lambda: (time.sleep(0.05), print("late", __name__))).start()
sys.exit(7)
"""


@pytest.mark.parametrize("how", ["script", "-m", "-c", "-", "directory", "zip", "-X dev"])
def test_program_finds_all_as_python_gives_it(tmp_path: Path, how: str) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(PROBE)
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "folder")
    options, program, text = {
        "script": ([], ["probe.py", "x", "--trigger"], None),
        "-m": ([], ["-m", "probe", "x"], None),
        "-c": ([], ["-c", PROBE, "x"], None),
        "-": ([], ["-", "x"], PROBE),
        "directory": ([], ["folder", "x"], None),
        "zip": ([], ["archive.zip", "x"], None),
        "-X dev": (["-X", "dev"], ["probe.py"], None),
    }[how]
    outputs = []
    for command in ([], ["-m", "mioloop", "run"]):
        done = subprocess.run(
            [sys.executable, *options, *command, *program],
            input=text, capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )
        assert done.returncode == 7, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert "late __main__" in outputs[0]


@pytest.mark.parametrize(
    "end",
    [
        "raise ValueError('own')",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
        "async def main():\n    os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(5)\n"
        "asyncio.run(main())",
        "asyncio.run(asyncio.sleep(0)); os.kill(os.getpid(), signal.SIGTERM)",
    ],
    ids=["exception", "interrupt", "interrupt of a loop", "signal"],
)
def test_program_ends_as_under_python(tmp_path: Path, end: str) -> None:
    (tmp_path / "ends.py").write_text(
        "import asyncio, atexit, os, signal, sys, time\n"
        "atexit.register(lambda: print('atexit', sys.argv, flush=True))\n" + end
    )
    ends = []
    for command in ([], ["-m", "mioloop", "run"]):
        done = subprocess.run(
            [sys.executable, *command, "ends.py"],
            capture_output=True, text=True, timeout=60, cwd=tmp_path, env=own_environment(),
        )
        last = [line for line in done.stderr.splitlines() if not line.startswith("mioloop run:")]
        ends.append((done.returncode, done.stdout, last[-1:]))
    assert ends[0] == ends[1]


def test_traceback_has_the_programs_own_frames_alone(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def broken():\n    raise KeyError('own')\nbroken()\n")
    done = run("broken.py", cwd=tmp_path)
    assert done.returncode == 1
    assert re.findall(r'File "([^"]+)"', done.stderr) == [str(tmp_path / "broken.py")] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--triger level x.py", "there is no option '--triger'; did you mean --trigger?"),
        ("--trigger egde x.py", "trigger must be one of edge, level, oneshot, not 'egde'"),
        ("--spin long x.py", "--spin must be a number of seconds from 0 to 1, not 'long'"),
        ("--backend mi x.py", "backend must be one of mio, uvloop, asyncio, not 'mi'"),
        ("--trigger", "argument --trigger: expected one argument"),
        ("", "there is no program to run"),
        ("-m", "-m needs a module to run"),
        ("x.py", "there is no file 'x.py'"),
        ("pythn app:app", "there is no file and no program 'pythn'; did you mean python?"),
        ("folder", "there is no file __main__.py in the directory 'folder'"),
    ],
)
def test_mistake_on_the_command_line_is_named(
    tmp_path: Path, arguments: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    done = run(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"python -m mioloop run: {message}"


def test_directory_with_the_name_of_a_console_script_does_not_hide_it(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "uvicorn").mkdir()
    (tmp_path / "uvicorn" / "notes.txt").write_text("")
    done = run("uvicorn", "--version", cwd=tmp_path)
    assert done.stdout.startswith("Running uvicorn"), done.stderr


# -- servers -------------------------------------------------------------------------------------


def ask(port: int) -> str:
    give_up = time.monotonic() + WAIT_S
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        with contextlib.closing(client):
            try:
                client.request("GET", "/")
            except ConnectionRefusedError:      # uvicorn's workers listen, not their parent
                assert time.monotonic() < give_up
                time.sleep(0.02)
            else:
                return str(json.loads(client.getresponse().read())["loop"])


@contextlib.contextmanager
def served(*command: str, pattern: str) -> Iterator[int]:
    with server_process(LOOP, "-m", "mioloop", "run", *command) as server:
        port = int(server.wait_for_line(pattern)[1])
        yield port
        server.process.send_signal(signal.SIGINT)


UVICORN = ("asgi_app:app", "--port", "0", "--no-use-colors")
UVICORN_RUNS = r"running on https?://127\.0\.0\.1:(\d+)"


# The lines of docs/frameworks.md have their tests in test_page_servers.py.
@pytest.mark.parametrize("choice", ["uvloop", "asyncio"])
def test_server_that_is_told_another_loop_serves_on_mioloop(choice: str) -> None:
    with served("-m", "uvicorn", *UVICORN, "--loop", choice, pattern=UVICORN_RUNS) as port:
        assert ask(port).startswith("mioloop.")
