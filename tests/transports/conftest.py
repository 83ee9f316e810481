"""Certificates that are made for the tests, and for nothing else."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class TLSContexts:
    """The two sides of a TLS connection to `localhost`."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext  # a client that does not know who signed the server


@pytest.fixture(scope="session")
def tls() -> TLSContexts:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return TLSContexts(server, client, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
