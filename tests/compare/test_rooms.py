"""The rooms of mioloop/compare: imports run one way, and no file is too long to be read."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import mioloop.compare

ROOMS = ("load", "measure", "report", "cli")       # each may import the ones before it
PACKAGE = "mioloop.compare."
MAX_LINES = 600

# As an installation without the sources has no C files, they are looked for here.
SOURCE = Path(__file__).parents[2] / "mioloop" / "compare"


def imports() -> dict[str, set[str]]:
    """For each module of the package, the modules of the package that it imports anywhere."""
    root = Path(mioloop.compare.__file__).parent
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                module = f"{node.module}."
                if module.startswith(PACKAGE):
                    inside = module[len(PACKAGE) :]
                    for alias in node.names:
                        candidate = inside + alias.name
                        found[name].add(candidate if candidate in files else inside.rstrip("."))
    return found


def test_rooms_import_only_the_rooms_before_them() -> None:
    for name, imported in imports().items():
        allowed = ROOMS[: ROOMS.index(name.partition(".")[0]) + 1]
        for other in imported:
            assert other.partition(".")[0] in allowed, f"{name} imports {other}"


def test_no_circle_of_imports_between_files() -> None:
    list(TopologicalSorter(imports()).static_order())      # raises CycleError


def test_no_file_is_longer_than_600_lines() -> None:
    for path in SOURCE.rglob("*"):
        if path.suffix in (".py", ".pyi", ".c", ".h"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path
