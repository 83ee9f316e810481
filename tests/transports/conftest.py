"""Kinds of streams, and the fixtures of TLS and of children."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.children import gate, loop_is_set, no_child_is_left
from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.tls import certificates, tls

__all__ = ["certificates", "gate", "loop_is_set", "no_child_is_left", "tls"]


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the connection that a stream's test is about."""
    return str(request.param)


@pytest.fixture(params=["protocol", "buffered"])
def protocol_class(request: pytest.FixtureRequest) -> type[asyncio.BaseProtocol]:
    return Recorder if request.param == "protocol" else BufferedRecorder
