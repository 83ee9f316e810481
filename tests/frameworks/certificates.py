"""Certificates that are made for the tests, and for nothing else."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Both sides of a TLS connection to 127.0.0.1 or localhost, and the server's as a file."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    server_pem: str
    authority_pem: str


def make_certificates(directory: Path) -> Certificates:
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    authority.cert_pem.write_to_path(directory / "authority.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(
        server, client, str(directory / "server.pem"), str(directory / "authority.pem")
    )
