"""ARCHITECTURE.md names only things that exist, and imports run the one way that it draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.rules import RULES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "mioloop"
DOCUMENT = ROOT / "ARCHITECTURE.md"

# Each may import the layers before it, except that mio and reactor do not know each other.
LAYERS = (
    ("stdlib", "options", "arguments", "applications"),     # beside the layers: they import none
    ("core",),
    ("mio",),
    ("reactor",),
    ("transports",),
    ("loop", "console"),
    ("factory", "named_loops", "policy", "stand_in", "takeover"),
    (       # see compare/test_rooms.py
        "compare", "doctor", "group", "gunicorn", "hook", "launch", "opentelemetry", "prometheus",
        "pytest",
    ),
    ("__init__", "__main__"),
)

# -- the sources ---------------------------------------------------------------------------------

_STRING = r'"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\''
_PYTHON_PROSE = re.compile(_STRING + r"|#[^\n]*")
_C_PROSE = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TYPE_CHECKING = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.MULTILINE)
_CLASS = re.compile(
    r"^(?:cdef )?class (\w+)(?:\(([^)]*)\))?:\n((?:[ \t][^\n]*\n|\n)*)", re.MULTILINE
)
_IMPORT = re.compile(
    r"^([ \t]*)(?:from (mioloop[\w.]*) c?import (\([^)]*\)|[^\n]*)|c?import (mioloop[\w.]*))",
    re.MULTILINE,
)


@cache
def code_of(path: Path) -> str:
    """The text of a file without comments and docstrings; a C block in Cython is a string, too."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".c", ".h"):
        return _C_PROSE.sub("", text)
    return _PYTHON_PROSE.sub(lambda each: each[0] if "static " in each[0] else "", text)


@cache
def sources() -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(SOURCE.rglob("*"))
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".c", ".h")
    )


@cache
def words() -> frozenset[str]:
    return frozenset(word for path in sources() for word in re.findall(r"\w+", code_of(path)))


@cache
def classes() -> dict[str, tuple[list[str], str]]:
    """For each class of the package its bases and its bodies, of .pyx and .pxd."""
    found: dict[str, tuple[list[str], str]] = {}
    for path in sources():
        for name, bases, body in _CLASS.findall(code_of(path)):
            names, text = found.get(name, ([], ""))
            found[name] = (names + re.findall(r"\w+", bases), text + body)
    return found


def has_member(name: str, member: str) -> bool:
    """Whether class *name*, or a base of it, declares *member* as a method or a field."""
    bases, body = classes().get(name, ([], ""))
    declared = re.search(rf"^[ \t]+(?:cdef|cpdef|def|async def) [^=#]*?\b{member}\b", body, re.M)
    return bool(declared) or any(has_member(base, member) for base in bases if base != name)


# -- names ---------------------------------------------------------------------------------------


def spans() -> Iterator[str]:
    """The pieces of code in the prose of the document."""
    prose = re.sub(r"^ {4,}[^\n]*$", "", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return iter(sorted(set(re.findall(r"`([^`]+)`", prose))))


def missing_from(span: str) -> str | None:
    """The part of *span* that does not exist, or None."""
    if span.startswith("make "):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        return None if f"\n{span[5:]}:" in makefile else span
    file, _, names = span.rpartition(": ")
    if not file and ("/" in span or span.endswith(".md")):
        file, names = span, ""
    paths = [path for base in (ROOT, SOURCE) for path in base.glob(file)] if file else []
    if file and not paths:
        return file
    for name in re.findall(r"[\w.]+", names):
        owner, _, member = name.rpartition(".")
        if paths and not all(
            re.search(rf"\b{part}\b", "".join(map(code_of, paths))) for part in name.split(".")
        ):
            return name
        if owner in classes() and not has_member(owner, member):
            return name
        for part in filter(None, name.split(".")):
            if part not in words() and not part.isdigit():
                return part
    return None


def test_every_name_in_the_document_exists() -> None:
    assert [each for each in map(missing_from, spans()) if each is not None] == []


@pytest.mark.parametrize(
    "span",
    [
        "core/no_such_file.c",
        "core/poll.c: mio_no_such_function",
        "reactor/reactor.pyx: Reactor.no_such_method",
        "Reactor.no_such_method",
        "Endpoint.send_chunks",                 # a subclass has it
        "NoSuchClass",
        "make no-such-target",
    ],
)
def test_a_name_that_does_not_exist_is_found(span: str) -> None:
    assert missing_from(span) is not None


def test_every_rule_in_the_document_exists() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert set(re.findall(r"\bR\d+\b", text)) <= RULES.keys()


# -- imports -------------------------------------------------------------------------------------


def modules() -> dict[str, list[Path]]:
    """The files of each module; a .pyx and its .pxd are one."""
    found: dict[str, list[Path]] = {}
    for path in sources():
        if path.suffix in (".py", ".pyx", ".pxd") and "hook" not in path.parts:
            name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            found.setdefault(name.removesuffix(".__init__"), []).append(path)
    return found


@cache
def imports(*, while_loading: bool) -> dict[str, set[str]]:
    """The modules that each module imports or cimports; only *while_loading*, or in functions too.

    Imports for the type checker do not count.
    """
    known = modules()
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, paths in known.items():
        code = "".join(_TYPE_CHECKING.sub("", code_of(path)) for path in paths)
        for indent, package, imported, whole in _IMPORT.findall(code):
            if while_loading and indent:
                continue
            module = (package or whole).removeprefix("mioloop").removeprefix(".")
            candidates = [f"{module}.{each}".lstrip(".") for each in re.findall(r"\w+", imported)]
            inside = [each for each in candidates if each in known]
            found[name].update(inside or [module or "__init__"])
        found[name].discard(name)
    return found


def layer_of(module: str) -> int:
    top = module.partition(".")[0]
    return next(i for i, layer in enumerate(LAYERS) if top in layer)


def test_imports_run_one_way_through_the_layers() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, imported in imports(while_loading=False).items()
        for other in imported
        if layer_of(other) > layer_of(name)
        or (name.startswith("reactor.") and other.startswith("mio."))
    ]
    assert wrong == []


def test_modules_beside_the_layers_import_no_layer() -> None:
    for name in LAYERS[0]:
        assert imports(while_loading=False)[name] == set(), name


def test_no_circle_of_modules_while_they_load() -> None:
    list(TopologicalSorter(imports(while_loading=True)).static_order())     # raises CycleError


def test_the_core_includes_no_header_of_python_or_of_another_layer() -> None:
    core = [path for path in sources() if path.parent == SOURCE / "core" and path.suffix != ".py"]
    own = {path.name for path in core}
    for path in core:
        included = re.findall(r'#\s*include ["<]([^">]+)[">]', code_of(path))
        local = re.findall(r'#\s*include "([^"]+)"', code_of(path))
        assert "Python.h" not in included, path
        assert set(local) <= own, path


def test_only_the_reactor_and_the_inline_calls_of_transports_declare_the_core() -> None:
    headers = {path.name for path in (SOURCE / "core").glob("*.h")}
    allowed = {"reactor/core.pxd": headers - {"sysio.h"}, "transports/sysio.pxd": {"sysio.h"}}
    for path in sources():
        if path.suffix in (".pyx", ".pxd"):
            declared = set(re.findall(r'cdef extern from "([^"]+)"', code_of(path))) & headers
            name = path.relative_to(SOURCE).as_posix()
            assert declared <= allowed.get(name, set()), name


def test_one_file_declares_the_functions_of_python() -> None:
    declaring = [
        path.relative_to(SOURCE).as_posix()
        for path in sources()
        if 'cdef extern from "Python.h"' in code_of(path)
    ]
    assert declaring == ["reactor/python_api.pxd"]
