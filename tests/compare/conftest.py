"""Runs of ``python -m mioloop compare``, in very small rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 110
SMALL = ("--rounds", "2", "--seconds", "0.02")


class Compare:
    """Runs the command in a directory, in another process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mioloop", "compare", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_S,
            cwd=self.directory,
            env=os.environ | environment,
        )

    def small(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run two tiny rounds. The results are then in `lines`."""
        return self(*SMALL, "--json", "figures", *arguments, **environment)

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "figures").read_text())
        return found

    @property
    def lines(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The results by workload and loop."""
        return {
            (case["workload"], line["loop"]): line
            for case in self.figures["cases"]
            for line in case["lines"]
        }


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    return Compare(tmp_path)


@pytest.fixture(scope="module")
def compare_once(tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """One for all tests of a file that read the results of one run."""
    return Compare(tmp_path_factory.mktemp("compare"))
