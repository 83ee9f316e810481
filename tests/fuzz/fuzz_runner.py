"""Runs programs, each in a process of its own, so that a crash or a hang is a result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.fuzz_program import Program

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0


def failure(program: Program, limit_s: float = LIMIT_S) -> str:
    """Return the faults of a run of *program*; empty if there are none."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.fuzz_machine", str(limit_s)]
    try:
        done = subprocess.run(
            command, input=program.to_json(), capture_output=True, text=True,
            errors="replace", timeout=limit_s + 30, cwd=ROOT,
        )
    except subprocess.TimeoutExpired:
        return "hangs, and does not even print where"
    if done.returncode == 0:
        return ""
    return f"status {done.returncode}\n{done.stderr[-6000:]}"


def kind_of(wrong: str) -> str:
    """Return the status and the first fault, without numbers: equal for failures of one cause."""
    lines = wrong.splitlines()
    told = [line for line in lines if line.startswith(("FAULT", "Timeout", "Fatal", "=="))]
    last = [line for line in lines if line.strip()][-1:]
    return re.sub(r"0x[0-9a-f]+|\d+", "", " ".join(lines[:1] + (told[:1] or last)))
