"""docs/compatibility.md is up to date, and every rule has a test."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INCOMPLETE = 3


@pytest.fixture(scope="module")
def printed() -> str:
    """The output of compatibility.py; it fails if a rule is named by no test."""
    done = subprocess.run(
        [sys.executable, "tests/compatibility.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode == INCOMPLETE:
        pytest.skip(f"this environment lacks packages of mioloop[test]: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_rule_is_named_by_a_test(printed: str) -> None:
    from tests.rules import RULES

    numbers = sorted(int(rule[1:]) for rule in RULES)
    assert numbers == list(range(1, len(RULES) + 1))
    for rule in RULES:
        assert f"| {rule} |" in printed


def test_page_is_the_one_that_the_tests_print(printed: str) -> None:
    there = (ROOT / "docs" / "compatibility.md").read_text()
    difference = difflib.unified_diff(
        there.splitlines(), printed.splitlines(), "docs/compatibility.md", "the tests", n=0
    )
    assert there == printed, "run `make compatibility`:\n" + "\n".join(difference)
