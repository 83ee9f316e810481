"""Faults are injected for real: what tests/transports has to watch a transport with serves here."""

from __future__ import annotations

from tests.transports.conftest import TLSContexts, certificates, tls

__all__ = ["TLSContexts", "certificates", "tls"]
