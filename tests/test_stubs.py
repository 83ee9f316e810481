"""Type information: each compiled module has a stub, and programs are checked against the stubs.

`make lint` runs stubtest, which compares each stub with its module, name by name.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import mioloop
from mioloop import mio

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "mioloop"
BINDINGS = ("mioloop.mio._core", "mioloop.compare.load._load")      # cffi makes these


def modules_of(pattern: str) -> set[str]:
    """The names of the modules whose files in the sources match *pattern*."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in SOURCE.rglob(pattern))
    return {".".join(path.parts) for path in paths}


def compiled_modules() -> set[str]:
    found = set()
    for module in pkgutil.walk_packages(mioloop.__path__, "mioloop."):
        spec = importlib.util.find_spec(module.name)
        if spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES)):
            found.add(module.name)
    return found


def test_each_compiled_module_has_a_stub_and_each_stub_a_module():
    assert modules_of("*.pyi") == modules_of("*.pyx") | set(BINDINGS)
    assert modules_of("*.pyi") == compiled_modules()


@pytest.mark.parametrize("name", BINDINGS)
def test_the_stub_of_a_binding_has_every_name_of_the_header(name):
    """And the number of parameters of each function. stubtest does not look into `lib`."""
    stub = ROOT.joinpath(*name.split(".")).with_suffix(".pyi")
    declared = {}
    for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "_Lib":
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    parameters = member.args.posonlyargs + member.args.args
                    declared[member.name] = len(parameters) - 1     # without self
                else:
                    declared[member.target.id] = None
    module = importlib.import_module(name)
    compiled = {}
    for each in dir(module.lib):
        value = getattr(module.lib, each)
        compiled[each] = len(module.ffi.typeof(value).args) if callable(value) else None
    assert declared == compiled


def test_the_wheel_has_the_stubs_and_the_marker_of_a_typed_package():
    stubs = {f"{name.replace('.', '/')}.pyi" for name in modules_of("*.pyi")}
    needed = {"mioloop/py.typed", *stubs}
    assert (SOURCE / "py.typed").exists()
    installed = {str(file) for file in importlib.metadata.files("mioloop") or ()}
    if "mioloop/__init__.py" in installed:
        assert needed <= installed
        return
    # An editable install has no files of the package: read what a wheel would leave out.
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    excluded = re.search(r"^wheel\.exclude = (\[.*?\])", settings, re.MULTILINE | re.DOTALL)
    patterns = ast.literal_eval(excluded[1])
    left_out = [
        file for file in needed for pattern in patterns
        if fnmatch.fnmatch(file, pattern) or fnmatch.fnmatch(file, pattern.removeprefix("**/"))
    ]
    assert left_out == []
    assert 'wheel.packages = ["mioloop"]' in settings


# -- the public names ------------------------------------------------------------------------------


def public_functions():
    """Each public function, and each method of a public class that mioloop defines in Python."""
    for module in (mioloop, mio, mio.net, mio.unix):
        for name in getattr(module, "__all__", [each for each in vars(module) if each[0] != "_"]):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value):
                own = {}
                for cls in reversed(value.__mro__):
                    if cls.__module__.startswith("mioloop."):
                        own.update(vars(cls))
                for each, member in own.items():
                    member = getattr(member, "fget", getattr(member, "__func__", member))
                    if inspect.isfunction(member) and member.__module__.startswith("mioloop."):
                        yield f"{module.__name__}.{name}.{each}", member


def test_every_public_function_has_type_hints():
    """Parameters and results. A decorator may show other parameters: the source is what counts."""
    lacking = []
    assert {"mioloop.run", "mioloop.EventLoop.watch", "mioloop.mio.Poll.register"} <= {
        name for name, _ in public_functions()
    }
    for name, function in public_functions():
        function = inspect.unwrap(function)
        signature = inspect.signature(function, follow_wrapped=False)
        own = list(signature.parameters.values())
        if own and own[0].name in ("self", "cls"):
            del own[0]
        lacking += [f"{name}({each.name})" for each in own if each.annotation is each.empty]
        if signature.return_annotation is signature.empty:
            lacking.append(name)
    assert lacking == []


PROGRAM = '''
import asyncio
import socket

import mioloop
from mioloop import mio


async def main(name: str) -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, mioloop.EventLoop)
    reveal_type(loop.call_soon(print, name))                # Handle
    reveal_type(loop.call_later(0.1, print))                # TimerHandle
    reveal_type(loop.time())                                # float
    reveal_type(loop.get_debug())                           # bool
    reveal_type(loop.stats())                               # dict[str, int]
    reveal_type(loop.selector)                              # str
    reveal_type(loop.poll)                                  # Poll
    reveal_type(await loop.sock_recv(socket.socket(), 10))  # bytes
    reveal_type(loop.create_task(main(name)))               # Task[int]
    loop.add_reader(0, print, name)
    loop.call_soon(len, 3)                                  # [arg-type]
    loop.call_soon(main, name, nothing=1)                   # [call-arg]
    loop.no_such_method()                                   # [attr-defined]
    registration, readiness = mio.Registration.new()
    token = loop.watch(registration, mio.Ready.READABLE, mio.PollOpt.EDGE, ready, name)
    reveal_type(token)                                      # Token
    loop.unwatch(token)
    return 1


def ready(event: mio.Event, name: str) -> None:
    reveal_type(event.readiness)                            # Ready
    reveal_type(event.token)                                # Token


async def own(loop: mioloop.Loop) -> None:
    reveal_type(await loop.sock_accept(socket.socket()))    # tuple[socket, Any]


class Derived(mioloop.EventLoop):
    def call_soon(self) -> None:                            # [override]
        pass


reveal_type(mioloop.run(main("x"), debug=True, trigger="level"))      # int
reveal_type(mioloop.new_event_loop(spin=0.1))               # AbstractEventLoop
mioloop.new_event_loop(spin="0.1")                          # [arg-type]
mioloop.run(main("x"), no_such_option=1)                    # [call-arg]
mioloop.EventLoop(no_such_option=1)                         # [call-arg]
mioloop.no_such_name                                        # [attr-defined]
reveal_type(mioloop.EventLoopPolicy().new_event_loop())     # AbstractEventLoop
mioloop.install(selector="epoll")

with mio.Poll() as poll:
    events = mio.Events(16)
    reveal_type(poll.poll(events, timeout=0.0))             # int
    reveal_type([event.token for event in events])          # list[Token]
    reveal_type(mio.net.TcpListener.bind("127.0.0.1:0").accept())       # tuple[TcpStream, Any]
    reveal_type(mio.unix.pipe())                            # tuple[Sender, Receiver]
    poll.register(0, 1, 2, 3)                               # [arg-type]
    reveal_type(mio.selectors())                            # tuple[str, ...]
'''


def type_checked(program: Path) -> dict[int, set[str]]:
    """What mypy --strict says of each line: the codes of errors, and the types that it reveals."""
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-pretty",
         "--hide-error-context", f"--cache-dir={program.parent}", program.name],
        cwd=program.parent, env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True, text=True, timeout=110,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    found: dict[int, set[str]] = {}
    for line in result.stdout.splitlines():
        if said := re.match(r"\w+\.py:(\d+): (error|note): (.*)", line):
            number, kind, text = int(said[1]), said[2], said[3]
            if kind == "error":
                found.setdefault(number, set()).add("[" + text.rpartition("[")[2])
            elif revealed := re.match(r'Revealed type is "(.*)"', text):
                found.setdefault(number, set()).add(re.sub(r"\b(?:\w+\.)+(?=\w)", "", revealed[1]))
    return found


@pytest.mark.slow
def test_a_program_is_checked_against_the_public_names(tmp_path):
    """mypy knows each type, and finds each mistake: the comment of a line says which."""
    pytest.importorskip("mypy", reason="mypy is not installed: it comes with `make lint`")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    expected = {
        number: {line.rpartition("  # ")[2].strip()}
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # " in line
    }
    assert type_checked(program) == expected
