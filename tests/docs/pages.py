"""The pages of the documentation, and the code blocks in them.

A comment before a block says how the block is run. Its parts are separated by semicolons:

    <!-- example: since 3.11; needs aiohttp -->

=============================  ==================================================================
(no comment)                   the block runs by itself, in an empty directory, and must succeed
``shown, because REASON``      it does not run
``file NAME``                  it is written into a file, for the other blocks of the page
``prints``                     it is the output of the block before it; a line ``...`` is any text
``serves PATH``                the command serves PATH at port 8000 until it is interrupted
``with OPTIONS``               the tests add these options to the command, so that it ends soon
``since X.Y``, ``until X.Y``   on these versions of Python only
``needs MODULE ...``           where these modules are installed
=============================  ==================================================================
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Printed by programs, and checked where they are printed.
PRINTED = ("docs/compatibility.md", "docs/benchmarks/README.md")
# The tests that run the blocks of a page in another way.
RUN_ELSEWHERE = {"docs/frameworks.md": "tests/frameworks"}

_FENCE = re.compile(
    r"(?:^<!-- example: (?P<marks>[^\n]*?) -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
MARKS = ("shown, because", "file", "prints", "serves", "with", "since", "until", "needs")


@dataclass
class Block:
    page: str
    line: int
    language: str
    code: str
    marks: dict[str, str] = field(default_factory=dict)
    output: str | None = None

    def __str__(self) -> str:
        return f"{Path(self.page).stem}-{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in ("python", "sh") and not {"shown, because", "file"} & {*self.marks}

    @property
    def missing(self) -> str:
        """The reason why the block cannot run here, or the empty string."""
        for mark, wrong in (("since", sys.version_info.__lt__), ("until", self._is_after)):
            if mark in self.marks:
                version = tuple(map(int, self.marks[mark].split(".")))
                if wrong(version):
                    return f"{mark} Python {self.marks[mark]}"
        absent = [name for name in self.marks.get("needs", "").split() if not is_installed(name)]
        return f"needs {', '.join(absent)}" if absent else ""

    @staticmethod
    def _is_after(version: tuple[int, ...]) -> bool:
        return sys.version_info[: len(version)] > version


def is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:         # its package is not installed
        return False


def pages() -> list[str]:
    """The documents whose blocks are examples, by their names from the root."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [name for name in names if name not in PRINTED and name not in RUN_ELSEWHERE]


def marks_of(text: str) -> dict[str, str]:
    marks = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name = next((name for name in MARKS if part == name or part.startswith(f"{name} ")), None)
        if name is None:
            raise ValueError(f"{part!r} is no mark of an example; the marks are {MARKS}")
        marks[name] = part[len(name) :].strip()
    return marks


def blocks_of(page: str) -> list[Block]:
    """All blocks of a page but Sphinx's directives. An output is a part of its block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        language = match["language"].strip()
        if language.startswith("{"):
            continue
        indent = len(match["indent"])
        code = "".join(line[indent:] for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("language")) + 1
        marks = marks_of(match["marks"] or "")
        if "prints" in marks:
            if not found or not found[-1].runs or found[-1].output is not None:
                raise ValueError(f"{page}:{line}: no block before this one prints it")
            found[-1].output = code
        else:
            found.append(Block(page, line, language, code, marks))
    return found
