from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.children import no_child_is_left as no_child_is_left


@pytest.fixture(params=["process", "thread"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def nothing_is_left(no_leaked_descriptor: None, no_child_is_left: None) -> Iterator[None]:
    """No test leaves a descriptor, a child process or a thread."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
