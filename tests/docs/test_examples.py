"""Every block of Python and shell in the documentation runs, and prints what the page shows.

`tests/docs/pages.py` describes the comments in a page that say how a block is run.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.docs.pages import PRINTED, ROOT, RUN_ELSEWHERE, Block, blocks_of, pages

LIMIT_S = 100
COMMANDS = ("mioloop", "pytest", "uvicorn")     # each is a module as well
BLOCKS = [block for page in pages() for block in blocks_of(page)]

pytestmark = [pytest.mark.slow, pytest.mark.unsanitized("they are programs of a user")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user: the commands of this installation come first in PATH."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in (*COMMANDS, "python"):
        module = "" if name == "python" else f" -m {name}"
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        (commands / name).chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIOLOOP_", "PYTEST", "PYTHON", "COV"))
    }
    return kept | {"PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


@pytest.fixture
def directory(tmp_path: Path, block: Block) -> Path:
    """An empty directory with the files that the page has written before the block."""
    place = tmp_path / "work"
    place.mkdir()
    for other in blocks_of(block.page):
        if "file" in other.marks and other.line < block.line:
            (place / other.marks["file"]).write_text(other.code)
    return place


def script_of(block: Block) -> list[str]:
    if block.language == "python":
        return [sys.executable, "-c", block.code]
    code = block.code.rstrip("\n")
    return ["bash", "-euc", f"{code} {block.marks.get('with', '')}"]


def matches(output: str, expected: str) -> bool:
    parts = re.split(r"^\.\.\.$", expected.strip(), flags=re.MULTILINE)
    return bool(re.fullmatch(".*?".join(map(re.escape, parts)), output.strip(), re.DOTALL))


def needed(block: Block) -> None:
    if block.missing:
        pytest.skip(block.missing)


RUN = [block for block in BLOCKS if block.runs and "serves" not in block.marks]
SERVERS = [block for block in BLOCKS if block.runs and "serves" in block.marks]


@pytest.mark.parametrize("block", RUN, ids=str)
def test_example_runs(block: Block, directory: Path, environment: dict[str, str]) -> None:
    needed(block)
    done = subprocess.run(
        script_of(block), cwd=directory, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    if block.language == "python":
        assert done.stderr == ""
    if block.output is not None:
        assert matches(done.stdout, block.output), done.stdout


@pytest.mark.parametrize("block", SERVERS, ids=str)
def test_server_of_an_example_answers(
    block: Block, directory: Path, environment: dict[str, str]
) -> None:
    needed(block)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "8000" in block.code
    command = script_of(block)
    command[-1] = command[-1].replace("8000", str(port))
    server = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        answered = False
        while not answered and server.poll() is None and time.monotonic() < deadline:
            url = f"http://127.0.0.1:{port}{block.marks['serves']}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
                answered = answer.status == 200
            if not answered:
                time.sleep(0.05)        # until it listens
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
        try:
            printed, _ = server.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            printed, _ = server.communicate()
    assert answered, printed


# -- the marks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages())
def test_every_block_names_its_language_and_runs_or_says_why_not(page: str) -> None:
    for block in blocks_of(page):
        where = f"{page}:{block.line}"
        assert block.language in ("python", "sh", "text", "ini"), where
        if "shown, because" in block.marks:
            assert len(block.marks["shown, because"].split()) > 3, f"{where}: no reason"
        if block.language == "python":
            compile(block.code, where, "exec")
        elif block.language == "sh":
            assert shutil.which("bash"), "the examples need bash"
            done = subprocess.run(["bash", "-nc", block.code], capture_output=True, text=True)
            assert done.returncode == 0, f"{where}: {done.stderr}"
        elif block.language == "ini":
            configparser.ConfigParser().read_string(block.code)


@pytest.mark.parametrize("page", pages())
def test_every_file_of_a_page_is_used_on_it(page: str) -> None:
    found = blocks_of(page)
    for at, block in enumerate(found):
        if "file" in block.marks:
            name = Path(block.marks["file"]).stem
            assert any(re.search(rf"\b{name}\b", later.code) for later in found[at + 1 :]), name


def test_pages_that_are_left_out_have_their_own_tests() -> None:
    for page in PRINTED:
        assert (ROOT / page).exists()
    for tests in RUN_ELSEWHERE.values():
        assert (ROOT / tests).is_dir()
