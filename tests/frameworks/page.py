"""The tables of docs/frameworks.md: the lines that the tests run, and the loops that they name."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    framework: str
    line: str
    loop: str           # the class that runs, without its module
    test: str           # group[id]

    def command(self, *more: str) -> list[str]:
        """The line as a command of this environment, with the arguments *more* at its end."""
        program, *arguments = shlex.split(self.line)
        return [sys.executable, "-m", program, *arguments, *more]


def tables() -> list[list[Line]]:
    found: list[list[Line]] = [[]]
    for text in PAGE.read_text().splitlines():
        if not text.startswith("|"):
            if found[-1]:
                found.append([])
            continue
        cells = [cell.strip().strip("`") for cell in text.strip("|").split("|")]
        if re.fullmatch(r"\w+\[[\w-]+\]", cells[-1]):
            found[-1].append(Line(*cells))
    return [table for table in found if table]


LINES = {line.test: line for table in tables() for line in table}
