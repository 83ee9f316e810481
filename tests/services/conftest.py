"""The servers of the tests, each started once, and the kinds of loop that the tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from examples import local_servers
from examples.local_servers import LocalServer, MissingServer
from tests.conftest import expect_known_difference
from tests.frameworks.certificates import Certificates, make_certificates
from tests.support.loops import LOOP_KINDS, LoopKind

# asyncio as the reference, and mioloop with each trigger.
KINDS = [kind for kind in LOOP_KINDS if kind.backend == "asyncio" or kind.selector == "epoll"]


@pytest.fixture(params=KINDS, ids=str)
def loop_kind(request: pytest.FixtureRequest) -> LoopKind:
    kind: LoopKind = request.param
    expect_known_difference(request, kind)
    return kind


@contextmanager
def started(server: Callable[[], AbstractContextManager[LocalServer]]) -> Iterator[LocalServer]:
    try:
        manager = server()
        running = manager.__enter__()
    except MissingServer as missing:
        pytest.skip(str(missing))
    try:
        yield running
    finally:
        manager.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[LocalServer]:
    with started(local_servers.postgresql) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[LocalServer]:
    with started(local_servers.redis) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[LocalServer]:
    with started(local_servers.mosquitto) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("trustme")
    return make_certificates(tmp_path_factory.mktemp("certificates"))
