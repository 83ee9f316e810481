"""worker.listen(): all workers on one port, and connections for each of them."""

from __future__ import annotations

import functools
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mioloop.group import LoopGroup, Worker
from tests.group import mains
from tests.support.groups import ask, running

pytestmark = pytest.mark.slow


@pytest.fixture(params=["kernel", "handover"])
def balance(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_port_0_is_one_port_for_all_workers(kind: str, balance: str) -> None:
    with running(mains.serve, workers=3, kind=kind, balance=balance) as run:
        assert len({run.port(index) for index in range(3)}) == 1


def test_each_further_port_0_is_another_port(kind: str, balance: str) -> None:
    main = functools.partial(serve_on, (0, 0))
    with running(main, kind=kind, balance=balance) as run:
        first, second = run.ports(0, 2)
        assert first != second
        assert run.ports(1, 2) == [first, second]
        assert ask(first) in (0, 1) and ask(second) in (0, 1)


async def serve_on(ports: tuple[int, ...], worker: Worker) -> None:
    await mains.serve(worker, *ports)


def test_connections_reach_every_worker(kind: str, balance: str) -> None:
    with running(mains.serve, workers=2, kind=kind, balance=balance) as run:
        port = run.port(0)
        run.port(1)
        seen = Counter(ask(port) for _ in range(60))
        assert seen.keys() == {0, 1}
        figures = run.group.figures()
        assert [each.accepted for each in figures] == [seen[0], seen[1]]
        if balance == "handover":
            assert seen == {0: 30, 1: 30}
        assert all(each.bytes_in == 2 * each.accepted == each.bytes_out for each in figures)


def test_a_taken_port_is_named(kind: str, balance: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with LoopGroup(workers=2, kind=kind, balance=balance, report=False) as group:
            with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use"):
                group.run(functools.partial(serve_on, (port,)))


def test_another_group_does_not_share_the_port(kind: str, balance: str) -> None:
    """SO_REUSEPORT would allow it to the same user."""
    with running(mains.serve, kind=kind, balance=balance) as run:
        port = run.port()
        with LoopGroup(workers=1, kind=kind, balance=balance, report=False) as group:
            with pytest.raises(OSError, match="is in use"):
                group.run(functools.partial(serve_on, (port,)))
        assert ask(port) in (0, 1)


@pytest.mark.parametrize("port", [-1, 65536, "80", True])
def test_a_wrong_port_is_named(kind: str, port: Any) -> None:
    with LoopGroup(workers=1, kind=kind, report=False) as group:
        with pytest.raises(ValueError, match=f"port must be .* not {port!r}"):
            group.run(functools.partial(serve_on, (port,)))


def test_a_worker_that_is_started_again_has_the_port_of_its_predecessor(
    kind: str, balance: str, tmp_path: Path
) -> None:
    main = functools.partial(mains.serve_and_die_once, str(tmp_path / "ports"))
    with LoopGroup(workers=1, kind=kind, balance=balance, on_failure="restart") as group:
        ((first, second),) = group.run(main)
    assert first == second
