"""Certificates that are made for the tests, and for nothing else; kinds of streams."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from mioloop.transports.tls_engine import select_engine


@dataclass(frozen=True)
class TLSContexts:
    """The two sides of a TLS connection to `localhost`."""

    authority: Any  # trustme.CA

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext  # a client that does not know who signed the server


@pytest.fixture(scope="session")
def certificates() -> TLSContexts:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return TLSContexts(authority, server, client, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.fixture
def tls(request: pytest.FixtureRequest, certificates: TLSContexts) -> Iterator[TLSContexts]:
    """Loops on poll(2) use the engine of ssl.MemoryBIO, so that each is tested by everything."""
    callspec = getattr(request.node, "callspec", None)
    kinds = callspec.params.values() if callspec else ()
    if any(getattr(kind, "selector", None) == "poll" for kind in kinds):
        select_engine("memory")
    yield certificates
    select_engine()


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the connection that a stream's test is about."""
    return str(request.param)


@pytest.fixture(params=["protocol", "buffered"])
def protocol_class(request: pytest.FixtureRequest) -> type[asyncio.BaseProtocol]:
    from recording import BufferedRecorder, Recorder  # tests/faults imports this file, too

    return Recorder if request.param == "protocol" else BufferedRecorder
