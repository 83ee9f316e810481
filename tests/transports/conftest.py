"""Kinds of streams, and the fixtures of TLS."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.protocols import BufferedRecorder, Recorder
from tests.support.tls import certificates, tls

__all__ = ["certificates", "tls"]


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the connection that a stream's test is about."""
    return str(request.param)


@pytest.fixture(params=["protocol", "buffered"])
def protocol_class(request: pytest.FixtureRequest) -> type[asyncio.BaseProtocol]:
    return Recorder if request.param == "protocol" else BufferedRecorder
