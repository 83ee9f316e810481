"""Ways to choose a loop: policy, options, environment, run(): R91 and the public surface."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.*policy.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def clean_choice(monkeypatch, no_leaked_descriptor):
    """No environment from outside; the policy that was set is set again."""
    for name in ("MIOLOOP_BACKEND", "MIOLOOP_TRIGGER", "MIOLOOP_SELECTOR", "MIOLOOP_SPIN"):
        monkeypatch.delenv(name, raising=False)
    before = asyncio.get_event_loop_policy()
    yield
    asyncio.set_event_loop_policy(before)


async def running_loop():
    return asyncio.get_running_loop()


def selectors_of_this_build():
    from mioloop.mio import selectors

    return selectors()


def test_public_names_are_there():
    """The public names of the package are those names that the README shows."""
    import mioloop

    for name in mioloop.__all__:
        assert getattr(mioloop, name) is not None
    assert mioloop.Loop is mioloop.EventLoop
    assert set(mioloop.__all__) <= set(dir(mioloop)) or hasattr(mioloop, "__getattr__")
    with pytest.raises(AttributeError):
        _ = mioloop.no_such_name


def test_new_event_loop_makes_each_kind(loop_kind):
    """new_event_loop(backend=, trigger=, selector=)."""
    import mioloop

    loop = mioloop.new_event_loop(**loop_kind.options)
    try:
        assert isinstance(loop, mioloop.EventLoop) == (loop_kind.backend == "mio")
        assert type(loop).__module__.startswith(loop_kind.name)
        assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"
    finally:
        loop.close()


def test_default_is_the_loop_of_mio():
    """No option, no environment: backend mio, and the build's first selector."""
    import mioloop

    loop = mioloop.new_event_loop()
    try:
        assert type(loop) is mioloop.EventLoop
        assert loop.poll.selector == selectors_of_this_build()[0]
    finally:
        loop.close()


def test_loop_says_its_backend(mioloop_kind):
    """The repr names trigger and selector."""
    loop = mioloop_kind.new()
    try:
        assert mioloop_kind.trigger in repr(loop)
        assert mioloop_kind.selector in repr(loop)
        assert loop.poll.selector == mioloop_kind.selector
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("option", "valid"),
    [
        ("backend", ("mio", "uvloop", "asyncio")),
        ("trigger", ("edge", "level", "oneshot")),
        ("selector", ("poll",)),
    ],
)
@pytest.mark.parametrize("way", ["new_event_loop", "EventLoopPolicy", "install", "environment"])
def test_unknown_value_is_refused_with_the_valid_ones(monkeypatch, option, valid, way):
    """ValueError names the value and the valid ones, wherever it was given."""
    import mioloop

    with pytest.raises(ValueError, match="nonsense") as caught:
        if way == "environment":
            monkeypatch.setenv(f"MIOLOOP_{option.upper()}", "nonsense")
            mioloop.new_event_loop()
        else:
            getattr(mioloop, way)(**{option: "nonsense"})
    for name in valid:
        assert name in str(caught.value)


@pytest.mark.parametrize("option", ["backend", "trigger", "selector"])
@pytest.mark.parametrize("value", [3, b"edge", ["edge"]])
def test_value_of_the_wrong_type_is_refused(option, value):
    """A clear TypeError or ValueError, nothing half-built."""
    import mioloop

    with pytest.raises((TypeError, ValueError)):
        mioloop.new_event_loop(**{option: value})


def test_unknown_option_is_refused():
    """An option's name that is wrong is a TypeError, as for every function."""
    import mioloop

    with pytest.raises(TypeError):
        mioloop.new_event_loop(triger="edge")
    with pytest.raises(TypeError):
        mioloop.EventLoopPolicy("mio")


@pytest.mark.parametrize("backend", ["uvloop", "asyncio"])
@pytest.mark.parametrize("option", ["trigger", "selector"])
def test_option_that_the_backend_does_not_have_is_refused(backend, option):
    """A trigger for uvloop would be silently ignored: ValueError instead."""
    import mioloop

    with pytest.raises(ValueError, match=option):
        mioloop.new_event_loop(
            backend=backend, **{option: "poll" if option == "selector" else "edge"}
        )


def test_missing_uvloop_is_an_error_with_advice(monkeypatch):
    """ImportError names the package."""
    import mioloop

    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ImportError, match="uvloop.*install"):
        mioloop.new_event_loop(backend="uvloop")


def test_environment_chooses_when_a_loop_is_made(monkeypatch):
    """MIOLOOP_* are read by every call; an argument has precedence."""
    import mioloop

    monkeypatch.setenv("MIOLOOP_BACKEND", "asyncio")
    loop = mioloop.new_event_loop()
    loop.close()
    assert not isinstance(loop, mioloop.EventLoop)

    loop = mioloop.new_event_loop(backend="mio")
    loop.close()
    assert isinstance(loop, mioloop.EventLoop)

    monkeypatch.delenv("MIOLOOP_BACKEND")
    monkeypatch.setenv("MIOLOOP_TRIGGER", "oneshot")
    monkeypatch.setenv("MIOLOOP_SELECTOR", "poll")
    loop = mioloop.new_event_loop()
    assert "oneshot" in repr(loop)
    assert loop.poll.selector == "poll"
    loop.close()
    loop = mioloop.new_event_loop(trigger="level")
    assert "level" in repr(loop)
    loop.close()


def test_environment_reaches_a_policy_that_was_set_before(monkeypatch):
    """The policy too reads it when a loop is made."""
    import mioloop

    mioloop.install()
    monkeypatch.setenv("MIOLOOP_BACKEND", "asyncio")
    loop = asyncio.new_event_loop()
    loop.close()
    assert not isinstance(loop, mioloop.EventLoop)


def test_empty_environment_variable_is_no_choice(monkeypatch):
    """`MIOLOOP_BACKEND= program` runs the default."""
    import mioloop

    for name in ("BACKEND", "TRIGGER", "SELECTOR"):
        monkeypatch.setenv(f"MIOLOOP_{name}", "")
    loop = mioloop.new_event_loop()
    loop.close()
    assert isinstance(loop, mioloop.EventLoop)


def test_policy_makes_the_loops_of_asyncio_run(loop_kind):
    """R91: asyncio.run() under the policy, for each kind."""
    import mioloop

    asyncio.set_event_loop_policy(mioloop.EventLoopPolicy(**loop_kind.options))
    loop = asyncio.run(running_loop())
    assert type(loop).__module__.startswith(loop_kind.name)
    assert loop.is_closed()


def test_policy_is_the_stdlib_s_own_but_for_the_loop():
    """R91: get_event_loop(), set_event_loop(), the thread's own."""
    from asyncio import unix_events

    import mioloop

    policy = mioloop.EventLoopPolicy()
    assert isinstance(policy, unix_events._UnixDefaultEventLoopPolicy)
    asyncio.set_event_loop_policy(policy)
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        assert loop.run_until_complete(running_loop()) is loop
        missing = []

        def in_a_thread():
            try:
                asyncio.get_event_loop()
            except RuntimeError:
                missing.append(True)

        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join(10)
        assert missing == [True]
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="raises from 3.14")
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
def test_get_event_loop_creates_in_the_main_thread():
    """R91: as the stdlib's policy does to 3.13."""
    import mioloop

    asyncio.set_event_loop_policy(mioloop.EventLoopPolicy())
    loop = asyncio.get_event_loop_policy().get_event_loop()
    try:
        assert isinstance(loop, mioloop.EventLoop)
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_install_sets_the_policy():
    """install() is set_event_loop_policy(EventLoopPolicy())."""
    import mioloop

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mioloop.install(trigger="level")
    deprecated = sys.version_info >= (3, 14)
    assert [(w.category, w.filename) for w in caught] == deprecated * [
        (DeprecationWarning, __file__)
    ]
    assert isinstance(asyncio.get_event_loop_policy(), mioloop.EventLoopPolicy)
    assert "level" in repr(asyncio.run(running_loop()))


def test_run_uses_the_chosen_loop_with_any_policy(loop_kind):
    """mioloop.run(main, **options), and the policy is as before."""
    import mioloop

    before = asyncio.get_event_loop_policy()
    loop = mioloop.run(running_loop(), **loop_kind.options)
    assert type(loop).__module__.startswith(loop_kind.name)
    assert loop.is_closed()
    assert asyncio.get_event_loop_policy() is before


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_debug(debug):
    """mioloop.run(main, debug=)."""
    import mioloop

    async def main():
        return asyncio.get_running_loop().get_debug()

    assert mioloop.run(main(), debug=debug) is debug


def test_run_cancels_remaining_tasks_and_raises_the_exception_of_main():
    """mioloop.run() ends as asyncio.run() does."""
    import mioloop

    ended = []

    async def straggler():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("straggler")

    async def main():
        task = asyncio.ensure_future(straggler())
        await asyncio.sleep(0)
        assert not task.done()
        raise ValueError("main's own")

    with pytest.raises(ValueError, match="main's own"):
        mioloop.run(main())
    assert ended == ["straggler"]


def test_run_refuses_other_objects_than_coroutines_and_a_running_loop():
    """mioloop.run(3) and mioloop.run() inside a loop."""
    import mioloop

    with pytest.raises((TypeError, ValueError)):
        mioloop.run(3)

    async def main():
        inner = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                mioloop.run(inner)
        finally:
            inner.close()

    mioloop.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_runner_takes_the_loop_factory():
    """asyncio.Runner(loop_factory=mioloop.new_event_loop)."""
    import mioloop

    with asyncio.Runner(loop_factory=mioloop.new_event_loop) as runner:
        assert isinstance(runner.run(running_loop()), mioloop.EventLoop)
        assert runner.run(asyncio.sleep(0.001, "again")) == "again"


def test_one_line_switches_a_program(tmp_path):
    """A program that knows nothing of mioloop runs on it, and exits cleanly with -X dev."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, mioloop\n"
        "mioloop.install()\n"
        "async def main():\n"
        "    process = await asyncio.create_subprocess_exec('true')\n"
        "    await process.wait()\n"
        "    print(type(asyncio.get_running_loop()).__name__)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning:__main__", str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "EventLoop\n", "")


def test_poll_api_alone_imports_neither_asyncio_nor_the_loop():
    """`import mioloop.mio` is for programs without asyncio."""
    names = "('asyncio', 'mioloop.loop')"
    code = f"import sys, mioloop.mio; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_first_loop_imports_only_modules_that_it_needs():
    """A start must stay short: dataclasses alone would take 2 ms of it."""
    code = (
        "import asyncio, sys; before = set(sys.modules); import mioloop\n"
        "mioloop.new_event_loop().close(); new = set(sys.modules) - before\n"
        "print(new & {'dataclasses', 'mioloop.mio', 'mioloop.takeover', 'mioloop.transports.tls'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_source_that_was_never_compiled_says_so():
    """For Python started in the repository without the modules that a build makes."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import mioloop; mioloop.new_event_loop()"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is source that has not been compiled: start Python in another dir" in done.stderr


# Python 3.16 has no policies: it has a loop for each thread, and asyncio.EventLoop.
WITHOUT_POLICIES = '''
import asyncio, sys, threading
from asyncio import events, unix_events

for module in (asyncio, events, unix_events):
    for name in [name for name in vars(module) if "olicy" in name]:
        delattr(module, name)

set_loops = threading.local()

def get_event_loop():
    loop = asyncio._get_running_loop() or getattr(set_loops, "loop", None)
    if loop is None:
        raise RuntimeError("There is no current event loop")
    return loop

def set_event_loop(loop):
    set_loops.loop = loop

def new_event_loop():
    return asyncio.SelectorEventLoop()

for module in (asyncio, events):
    for function in (get_event_loop, set_event_loop, new_event_loop):
        setattr(module, function.__name__, function)
'''


def run_without_policies(code, *arguments):
    """Return the output of *code* in a process whose asyncio has no policies."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_POLICIES + code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.run() needs policies in 3.10")
def test_loops_need_no_policy():
    """Python 3.16 has none: new_event_loop, run, EventLoop, a Runner and children do without."""
    assert run_without_policies('''
import mioloop

async def main():
    process = await asyncio.create_subprocess_exec("true")
    return type(asyncio.get_running_loop()).__name__, await process.wait()

print(mioloop.run(main()))
with asyncio.Runner(loop_factory=mioloop.new_event_loop) as runner:
    print(runner.run(main()))
loop = mioloop.EventLoop()
print(loop.run_until_complete(main()))
loop.close()
print("mioloop.policy" in sys.modules)
''') == "('EventLoop', 0)\n" * 3 + "False\n"


def test_absent_policy_is_an_error_with_advice():
    """AttributeError, also for `from mioloop import install`: ImportError says it is not there."""
    shown = run_without_policies('''
import mioloop
for name in ("EventLoopPolicy", "install"):
    try:
        getattr(mioloop, name)
    except AttributeError as exc:
        print(exc)
    print(hasattr(mioloop, name))
try:
    from mioloop import install
except ImportError:
    print("ImportError")
import mioloop.mio
''')
    for name in ("EventLoopPolicy", "install"):
        assert f"there is no mioloop.{name}, because asyncio of this Python" in shown
    assert shown.count("use mioloop.run(), or loop_factory=mioloop.new_event_loop") == 2
    assert shown.count("False") == 2 and shown.endswith("ImportError\n")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.run() needs policies in 3.10")
@pytest.mark.parametrize(
    "options", [[], [("MIOLOOP_TRIGGER", "level")], [("MIOLOOP_BACKEND", "asyncio")]]
)
def test_commands_need_no_policy(tmp_path, options):
    """python -m mioloop run: the loops of asyncio.run() and asyncio.new_event_loop().

    The command becomes a Python that has policies again, so the test begins in the middle.
    """
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(type(loop).__name__, getattr(loop, 'trigger', None))\n"
        "asyncio.run(main())\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(main())\n"
        "loop.close()\n"
    )
    shown = run_without_policies(
        "import os, runpy\n"
        f"os.environ.update({dict(options)!r})\n"
        "from mioloop.takeover import TakeOver\n"
        "TakeOver().begin()\n"
        "runpy.run_path(sys.argv[1])\n",
        str(program),
    )
    if ("MIOLOOP_BACKEND", "asyncio") in options:
        assert shown == "_UnixSelectorEventLoop None\n" * 2
    else:
        assert shown == f"EventLoop {options[0][1] if options else 'edge'}\n" * 2


def test_option_that_is_wrong_is_refused_without_a_policy_too():
    """At once, and not at the first loop."""
    shown = run_without_policies('''
from mioloop.__main__ import main
try:
    main(["run", "--trigger", "nonsense", "program.py"])
except SystemExit as exc:
    print(exc.code)
''')
    assert shown == "2\n"


def test_options_are_shown_to_users():
    """Functions that pass the keywords of new_event_loop() on show them to help() and inspect."""
    import inspect

    import mioloop

    options = inspect.signature(mioloop.new_event_loop).parameters
    for function in (mioloop.run, mioloop.install, mioloop.EventLoopPolicy):
        shown = inspect.signature(function).parameters
        assert {name: shown[name] for name in options} == dict(options)
    assert list(inspect.signature(mioloop.EventLoop).parameters) == [
        name for name in options if name != "backend"
    ]


@pytest.mark.parametrize("function", ["run", "install", "EventLoopPolicy"])
def test_option_that_is_unknown_is_refused_by_the_function_that_was_called(function):
    """TypeError names it."""
    import mioloop

    arguments = [None] if function == "run" else []
    with pytest.raises(TypeError, match=rf"{function}.*'triger'"):
        getattr(mioloop, function)(*arguments, triger="edge")
