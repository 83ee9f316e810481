"""examples/all_cores: real programs, whose workers answer on one port, and end by Ctrl-C."""

from __future__ import annotations

import http.client
import json
import re
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.groups import WAIT_S, Program, connect, program

DIRECTORY = Path(__file__).parents[2] / "examples" / "all_cores"

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", ["process", "thread"])]


@contextmanager
def example(name: str, kind: str) -> Iterator[tuple[Program, int]]:
    """The running program, and its port."""
    with program(DIRECTORY / name, "--workers", "2", "--kind", kind) as run:
        found = re.fullmatch(r"2 workers on port (\d+)", run.line())
        assert found
        yield run, int(found[1])


def get(port: int) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as client:
        client.request("GET", "/")
        answer = client.getresponse()
        assert answer.status == 200
        return answer.read().decode()


def stop(run: Program, accepted: int) -> None:
    """End it by Ctrl-C; its table has *accepted* connections."""
    run.send(signal.SIGINT)
    status, out, err = run.ended()
    assert (status, out) == (0, "")
    rows = re.findall(r"^ +[01] +(\d+) .*%$", err, re.MULTILINE)
    assert len(rows) == 2 and sum(map(int, rows)) == accepted
    assert "accepted, most to least: " in err and "Traceback" not in err


def test_echo_answers(kind: str) -> None:
    with example("echo.py", kind) as (run, port):
        for _ in range(10):
            with connect(port) as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"
        stop(run, 10)


def test_aiohttp_counts_the_visits_of_all_workers(kind: str) -> None:
    with example("aiohttp_app.py", kind) as (run, port):
        answers = [json.loads(get(port)) for _ in range(20)]
        assert [each["visit"] for each in answers] == list(range(1, 21))
        assert {each["worker"] for each in answers} <= {0, 1}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as idle:
            idle.request("GET", "/")
            idle.getresponse().read()
            stop(run, 21)               # an idle connection does not use up the grace


def test_uvicorn_answers(kind: str) -> None:
    with example("uvicorn_app.py", kind) as (run, port):
        for _ in range(20):
            assert re.fullmatch(r"hello from worker [01]\n", get(port))
        stop(run, 20)
