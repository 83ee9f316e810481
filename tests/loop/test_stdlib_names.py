"""The private names of the stdlib that mioloop goes by: the table of `mioloop.stdlib`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import pathlib
import re
import selectors
import ssl
import subprocess
import sys
import tokenize

import pytest

import mioloop
from mioloop import stdlib

TESTS = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(mioloop.__file__).parent
PRIVATE = re.compile(r"(?<![\w.])_[a-zA-Z]\w*|(?<=\.)_[a-zA-Z]\w*")
OTHER_SYSTEMS = ("windows", "proactor")

# Names of mioloop's own that the stdlib happens to use for things of its own.
OWN = {"_exit", "_lock", "_posixsubprocess", "_replace", "_ssl", "_thread", "_warn"}


def ident(row):
    return f"{row.owner}.{row.name}"


def owner_of(row):
    module, _, path = row.owner.partition(":")
    try:
        owner = importlib.import_module(module)
    except ImportError:
        pytest.skip(f"there is no {module} here")
    return getattr(owner, path) if path else owner


def sources_of(row, owner):
    """The stdlib's text in which a member of *owner* must be found."""
    if not inspect.isclass(owner):
        return ""
    return "\n".join(
        inspect.getsource(base)
        for base in owner.__mro__
        if base.__module__.partition(".")[0] in ("asyncio", "subprocess", "ssl")
    )


@pytest.mark.parametrize("row", stdlib.TABLE, ids=ident)
def test_name_is_in_this_python_if_the_table_says_so(row):
    """Since and until are the versions that have it, and the test it names exists."""
    assert (TESTS / row.test).is_file()
    if not row.is_there:
        if row.kind == "object" and sys.version_info[:2] < row.since:
            assert not hasattr(owner_of(row), row.name)
        return
    owner = owner_of(row)
    assert hasattr(owner, row.name) or re.search(rf"\b{row.name}\b", sources_of(row, owner))


def private_names(text):
    return set(PRIVATE.findall(text))


def code_of(path):
    """A module's text without its comments and docstrings."""
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        return " ".join(token.string for token in tokens if token.type == tokenize.NAME)
    text = re.sub(r'"""(?s:.*?)"""', "", path.read_text())
    return re.sub(r"#.*", "", text)


def modules_of_mioloop():
    for path in sorted(PACKAGE.rglob("*.py*")):
        if path.suffix in (".py", ".pyx", ".pxd") and path.name != "stdlib.py":
            if path.relative_to(PACKAGE).parts[0] not in ("compare", "mio"):
                yield path


def test_every_private_name_that_the_stdlib_has_too_is_in_the_table():
    """Of asyncio, selectors, subprocess and ssl."""
    theirs = set()
    paths = list(pathlib.Path(asyncio.__file__).parent.glob("*.py"))
    paths += [pathlib.Path(module.__file__) for module in (selectors, subprocess, ssl)]
    for path in paths:
        if not any(name in path.name for name in OTHER_SYSTEMS):
            theirs |= private_names(path.read_text())
    ours = {
        name: path.name for path in modules_of_mioloop() for name in private_names(code_of(path))
    }
    table = {row.name for row in stdlib.TABLE} | OWN
    missing = {name: ours[name] for name in ours.keys() & theirs - table}
    assert missing == {}


def test_objects_are_looked_up_in_the_table_alone():
    """No other module uses a name such as `base_events._name`."""
    objects = {row.name for row in stdlib.TABLE if row.kind == "object"}
    reach = re.compile(rf"(?:\.|import |\")({'|'.join(sorted(objects))})\b")
    found = [
        (path.name, match[1])
        for path in modules_of_mioloop()
        for match in reach.finditer(re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text()))
    ]
    allowed = {
        ("takeover.py", "_UnixDefaultEventLoopPolicy"),     # the table may be importing
    }
    found = [name for name in found if name not in allowed]
    assert [name for name in found if name[1] != "_is_coroutine"] == []   # it is set there, too


def test_hooks_take_the_arguments_that_the_stdlib_passes():
    """Each parameter of a hook of this Python's asyncio is one of mioloop's, by name."""
    unknown = stdlib.unknown_parameters(mioloop.EventLoop, asyncio.SelectorEventLoop)
    unknown.pop("_make_subprocess_transport")       # all of them go to the stdlib's transport
    unknown.pop("_create_connection_transport")     # and here to the stdlib's own method
    assert unknown == {}


def test_python_with_hooks_of_more_arguments_is_refused_in_one_sentence(monkeypatch):
    """When a loop is made, and not by each connection."""

    class NewerLoop(asyncio.SelectorEventLoop):
        def _add_reader(self, fd, callback, *args, context=None, priority=0):
            """A keyword that a newer stdlib might add."""

    stdlib.check_hooks(mioloop.EventLoop, asyncio.SelectorEventLoop)
    with pytest.raises(RuntimeError, match=r"passes priority to _add_reader\(\).*newer mioloop"):
        stdlib.check_hooks(mioloop.EventLoop, NewerLoop)
    monkeypatch.setattr("mioloop.loop.event_loop._SelectorEventLoop", NewerLoop)
    monkeypatch.setattr(stdlib, "TRIED", (3, 9))
    with pytest.raises(RuntimeError, match="priority"):
        mioloop.EventLoop()


def test_loop_is_made_on_a_python_that_is_newer_than_the_table(monkeypatch):
    """Nothing but an unknown parameter is a reason to refuse it."""
    monkeypatch.setattr(stdlib, "TRIED", (3, 9))
    mioloop.EventLoop().close()
